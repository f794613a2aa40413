//! What stands for the rescue and for the programs that are built beside it, where this package alone is
//! tested: any static program may, and the builder is one.

/// The path of what stands for the rescue.
pub(crate) fn standin() -> String {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("standin");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["rescue", "rescue-https"] {
        // Another test was first.
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imagebuilder"), folder.join(name));
    }
    folder.join("rescue").to_str().unwrap().to_string()
}
