//! Images are made once and kept below `target/`: a recipe that changes is made again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use super::recipes::RECIPES;

/// One image: its name, size, the command that makes it, and the state that it is in.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    /// As truncate(1) takes it; `0` where the tool makes the file.
    pub(crate) size: &'static str,
    /// For `sh -e`: `$I` is the image, `$D` a folder with some files, `$W` an empty one to work in.
    pub(crate) script: &'static str,
    /// What the report's `state` must be.
    pub(crate) state: Option<&'static str>,
}

/// Programs that the recipes call, and the packages that bring them.
const NEEDS: &[(&str, &str)] = &[
    ("blkid", "util-linux"),
    ("mkswap", "util-linux"),
    ("mkfs.minix", "util-linux"),
    ("mkfs.cramfs", "util-linux"),
    ("mkfs.bfs", "util-linux"),
    ("sfdisk", "fdisk"),
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.f2fs", "f2fs-tools"),
    ("mkfs.vfat", "dosfstools"),
    ("mkfs.exfat", "exfatprogs"),
    ("mkntfs", "ntfs-3g"),
    ("jfs_mkfs", "jfsutils"),
    ("mkreiserfs", "reiserfsprogs"),
    ("mkfs.reiser4", "reiser4progs"),
    ("mkfs.nilfs2", "nilfs-tools"),
    ("mkudffs", "udftools"),
    ("mksquashfs", "squashfs-tools"),
    ("mkfs.erofs", "erofs-utils"),
    ("genisoimage", "genisoimage"),
    ("xorriso", "xorriso"),
    ("hformat", "hfsutils"),
    ("makefs", "makefs"),
    ("mkapfs", "apfsprogs"),
    ("mkfs.ocfs2", "ocfs2-tools"),
    ("mkfs.gfs2", "gfs2-utils"),
    ("genromfs", "genromfs"),
];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A shell, with the standard error in what it panics with.
pub(crate) fn shell(script: &str, variables: &[(&str, &Path)]) -> String {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}: {told}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command ends with.
pub(crate) fn status(command: &str) -> Option<i32> {
    let output = Command::new("sh").args(["-c", command]).env("PATH", PATH).output().unwrap();
    output.status.code()
}

fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let there = |program: &&(&str, &str)| PATH.split(':').any(|p| Path::new(p).join(program.0).is_file());
        let mut missing: Vec<&str> =
            NEEDS.iter().filter(|n| !there(n)).map(|(_, package)| *package).collect();
        missing.dedup();
        assert!(missing.is_empty(), "tools are missing: sudo apt-get install {}", missing.join(" "));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("probe-images");
        let files = folder.join("files");
        std::fs::create_dir_all(files.join("folder")).unwrap();
        std::fs::write(files.join("file"), "some content\n".repeat(100)).unwrap();
        std::fs::write(files.join("folder/other"), "x").unwrap();
        folder
    })
}

/// The image of a recipe, made when it is not there yet.
pub(crate) fn make(recipe: &Recipe) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let folder = cache();
    let mut hash = DefaultHasher::new();
    (recipe.size, recipe.script).hash(&mut hash);
    let path = folder.join(format!("{}-{:016x}.img", recipe.name, hash.finish()));
    let _one = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if path.exists() {
        return path;
    }
    let work = tempfile::tempdir_in(folder).unwrap();
    let image = work.path().join("image");
    let size = if recipe.size == "0" { "true".into() } else { format!("truncate -s {} $I", recipe.size) };
    let files = folder.join("files");
    let variables = [("I", image.as_path()), ("D", files.as_path()), ("W", work.path())];
    shell(&format!("{size}; {{ {}; }} >&2", recipe.script), &variables);
    // Where the folder cannot have holes the image is merely larger.
    shell("fallocate -d $I || true", &variables);
    std::fs::rename(&image, &path).unwrap();
    path
}

/// The image of that name.
pub(crate) fn named(name: &str) -> PathBuf {
    make(RECIPES.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no recipe {name}")))
}
