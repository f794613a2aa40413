//! Leaves the unwinding tables out of a binary whose panics abort: nobody reads them, and they are a fifteenth of
//! what is unpacked before anything runs.

fn main() {
    println!("cargo::rerun-if-changed=no-unwinding.ld");
    // `CARGO_CFG_PANIC` does not know of the profile.
    if std::env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/no-unwinding.ld");
    }
}
