//! Disk images, made with the real mkfs tools.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

const SOON: Duration = Duration::from_secs(300);
/// Bytes a MiB.
pub const MIB: u64 = 1 << 20;

/// An empty disk of `mib` MiB.
///
/// # Errors
/// When it cannot be created.
pub fn blank(path: &Path, mib: u64) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_len(mib * MIB).with_context(|| format!("extending {} to {mib} MiB", path.display()))
}

/// A disk of `mib` MiB that is one ext4 file system, without a partition table.
///
/// # Errors
/// What mke2fs said.
pub fn ext4(path: &Path, mib: u64, label: &str) -> Result<()> {
    blank(path, mib)?;
    process::check(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-L", label]).arg(path), SOON)
        .map(drop)
}

/// As [`ext4`], with these files in it.
///
/// # Errors
/// What mke2fs said.
pub fn ext4_of(path: &Path, mib: u64, label: &str, files: &[(&str, &str)]) -> Result<()> {
    let root = tempfile::tempdir().context("making a folder")?;
    for (name, content) in files {
        let file = root.path().join(name);
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
    }
    blank(path, mib)?;
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-L", label, "-d"]).arg(root.path()).arg(path);
    process::check(&mut command, SOON).map(drop)
}

/// Checks an ext4 file system in an image without changing it.
///
/// # Errors
/// What e2fsck found: a journal to replay counts, because a clean unmount leaves none.
pub fn ext4_is_clean(path: &Path) -> Result<()> {
    process::check(Command::new("e2fsck").args(["-f", "-n"]).arg(path), SOON)?;
    let header = process::check(Command::new("dumpe2fs").arg("-h").arg(path), SOON)?;
    anyhow::ensure!(
        !header.contains("needs_recovery") && header.contains("Filesystem state:         clean"),
        "{} was not unmounted:\n{header}",
        path.display()
    );
    Ok(())
}

/// Writes `content` into a file of an ext4 image, without mounting it.
///
/// # Errors
/// What debugfs said.
pub fn ext4_write(image: &Path, offset: u64, path: &str, content: &[u8]) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), content)?;
    // `write` does not replace, and keeps the mode of the host's file.
    let script = format!("rm {path}\nwrite {} {path}\nsif {path} mode 0100644\n", file.path().display());
    let target = format!("{}?offset={offset}", image.display());
    let mut command = Command::new("debugfs");
    command.args(["-w", "-f", "-"]).arg(&target);
    let output = process::run(&mut command, script.as_bytes(), SOON)?;
    output.ok().with_context(|| format!("writing {path} into {target}"))?;
    let read = ext4_read(image, offset, path)?;
    anyhow::ensure!(read.as_bytes() == content, "{path} in {target} is not what was written: {read}");
    Ok(())
}

/// Reads a file of an ext4 image, without mounting it.
///
/// # Errors
/// What debugfs said.
pub fn ext4_read(image: &Path, offset: u64, path: &str) -> Result<String> {
    let target = format!("{}?offset={offset}", image.display());
    let mut command = Command::new("debugfs");
    command.args(["-R", &format!("cat {path}")]).arg(&target);
    let output = process::run(&mut command, b"", SOON)?;
    anyhow::ensure!(
        output.status == 0 && !output.stderr.contains("File not found"),
        "reading {path} in {target}: {}",
        output.stderr.trim()
    );
    Ok(output.stdout)
}

/// A disk of `mib` MiB that is one UFS2 with the files of a folder.
///
/// # Errors
/// What makefs said.
pub fn ufs2(path: &Path, mib: u64, tree: &Path) -> Result<()> {
    // The superblock as makefs(8) puts it, and as FreeBSD does and every driver looks for it; `fs_sblockloc`.
    const FROM: usize = 8192;
    const TO: usize = 65536;
    const LENGTH: usize = 8192;
    const PLACE: usize = 1000;
    let mut command = Command::new("makefs");
    command.args([
        "-t",
        "ffs",
        "-o",
        "version=2,bsize=4096,fsize=4096,density=8192",
        "-s",
        &format!("{mib}m"),
    ]);
    process::check(command.arg(path).arg(tree), SOON)?;
    let mut bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut superblock = bytes[FROM..FROM + LENGTH].to_vec();
    superblock[PLACE..PLACE + 8].copy_from_slice(&(TO as u64).to_le_bytes());
    bytes[FROM..FROM + LENGTH].fill(0);
    bytes[TO..TO + LENGTH].copy_from_slice(&superblock);
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// A copy that shares blocks with its original where the file system can, and keeps holes.
///
/// # Errors
/// What cp said.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["--reflink=auto", "--sparse=always"]).arg(from).arg(to);
    process::check(&mut command, SOON).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_in_and_out_of_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk");
        ext4(&image, 16, "data").unwrap();
        ext4_is_clean(&image).unwrap();
        ext4_write(&image, 0, "/hello", b"one\n").unwrap();
        ext4_write(&image, 0, "/hello", b"two\n").unwrap();
        assert_eq!(ext4_read(&image, 0, "/hello").unwrap(), "two\n");
        assert!(ext4_read(&image, 0, "/missing").is_err());
    }

    #[test]
    fn a_disk_that_was_never_formatted_is_not_clean() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk");
        blank(&image, 16).unwrap();
        assert!(ext4_is_clean(&image).is_err());
    }
}
