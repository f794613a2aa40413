//! libFuzzer on the target that `RESCUE_FUZZ` names; one program for all, so that a target is a row.

#![no_main]

use std::sync::LazyLock;

#[path = "targets.rs"]
mod targets;

static CHOSEN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("RESCUE_FUZZ").unwrap_or_default();
    let chosen = targets::TARGETS.iter().find(|(target, _)| *target == name);
    let Some((_, run)) = chosen else {
        let names: Vec<&str> = targets::TARGETS.iter().map(|(target, _)| *target).collect();
        eprintln!("RESCUE_FUZZ={name:?} is no target; there are: {}", names.join(" "));
        std::process::exit(2);
    };
    *run
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHOSEN(data));
