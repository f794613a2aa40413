//! Two images made of the same inputs have the same bytes, though nothing of the first is kept for the second.
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::image::digest_of_files;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let binaries = lab.bench.binaries()?;
    let (one, two) = (lab.path("one"), lab.path("two"));
    for out in [&one, &two] {
        let home = out.with_extension("cache");
        cache_of_packages(&home)?;
        let mut build = binaries.image_command("debian", "minimal", out);
        process::check(build.env("XDG_CACHE_HOME", &home), limit(120))?;
        std::fs::remove_dir_all(&home)?;
    }
    for name in ["vmlinuz", "rescue-debian.img", "manifest.json"] {
        let (one, two) = (digest_of_files(&[&one.join(name)])?, digest_of_files(&[&two.join(name)])?);
        assert_eq!(one, two, "{name}");
    }
    for out in [one, two] {
        std::fs::remove_dir_all(out)?;
    }
    Ok(())
}

/// A cache that has the packages of this machine's, and nothing of what builds have made of them.
fn cache_of_packages(home: &Path) -> anyhow::Result<()> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base =
        base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).context("no HOME")?;
    let cache = home.join("rescue-kernel");
    std::fs::create_dir_all(&cache)?;
    for folder in ["debs", "packs"] {
        std::os::unix::fs::symlink(base.join("rescue-kernel").join(folder), cache.join(folder))?;
    }
    Ok(())
}
