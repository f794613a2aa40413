//! The programs and images under test: built once a run with cargo, as a release, and kept in
//! `target/` under a digest of what went in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::device::{Device, write_private};
use crate::process;

/// A release build with full optimization from nothing, on a slow machine.
const BUILD: Duration = Duration::from_secs(45 * 60);
/// For a compiler of kernels that begins with nothing.
const COMPILE: Duration = Duration::from_secs(120 * 60);
/// Packages may have to be fetched.
const PACK: Duration = Duration::from_secs(15 * 60);

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// `target/`.
pub fn target() -> PathBuf {
    workspace().join("target")
}

/// The two release binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `rescue`.
    pub rescue: PathBuf,
    /// `imagebuilder`.
    pub imagebuilder: PathBuf,
}

/// The command that builds them.
pub fn build_command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--release", "-p", "init", "-p", "imagebuilder"]).current_dir(workspace());
    command
}

impl Binaries {
    /// Builds them, where they are not up to date.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn build() -> Result<Self> {
        process::check(build_command().arg("--quiet"), BUILD)?;
        let release = target().join("x86_64-unknown-linux-gnu/release");
        Ok(Self { rescue: release.join("rescue"), imagebuilder: release.join("imagebuilder") })
    }

    /// The command that builds an image of a family.
    pub fn image_command(&self, family: &str, profile: &str, out: &Path) -> Command {
        let mut command = Command::new(&self.imagebuilder);
        command.args(["build", "--family", family, "--profile", profile, "-o"]).arg(out);
        command
    }

    /// The command that builds a kernel from `kernel-configs/`, or takes it from the cache.
    pub fn kernel_command(&self, configuration: &str, out: &Path) -> Command {
        let mut command = Command::new(&self.imagebuilder);
        command.args(["kernel", "build", "--config", configuration, "-o"]).arg(out);
        command
    }

    /// The image of `debian` with this profile and a kernel from `kernel-configs/`, and the folder of its modules.
    ///
    /// # Errors
    /// What the compiler or the image builder said.
    pub fn image_of_own_kernel(
        &self,
        configuration: &str,
        profile: &str,
        folder: &Path,
    ) -> Result<(Image, PathBuf)> {
        let (kernel, dir) = (folder.join("kernel"), folder.join("image"));
        process::check(&mut self.kernel_command(configuration, &kernel), COMPILE)?;
        let modules =
            std::fs::read_dir(kernel.join("modules"))?.next().context("no folder of modules")??.path();
        let mut build = self.image_command("debian", profile, &dir);
        build.arg("--kernel").arg(kernel.join("vmlinuz")).arg("--modules").arg(&modules);
        process::check(&mut build, PACK)?;
        Ok((Image::built("debian", dir), modules))
    }

    /// The image of `debian` for a kernel of this machine that has a zfs.ko among its modules, in `/lib/modules` of this
    /// machine or of a folder that a kernel was unpacked in; with the tools of ZFS.
    ///
    /// # Errors
    /// What the image builder said: apt must know zfsutils-linux.
    pub fn image_with_zfs(&self, modules: &Path, folder: &Path) -> Result<Image> {
        let release = modules.file_name().context("the folder of modules has no name")?.to_string_lossy();
        let root = modules.ancestors().nth(3).unwrap_or(Path::new("/"));
        let dir = folder.join("image");
        let mut build = self.image_command("debian", "standard", &dir);
        build.arg("--kernel").arg(root.join(format!("boot/vmlinuz-{release}")));
        build.arg("--modules").arg(modules).args(["--module", "zfs", "--add", "zfsutils-linux"]);
        process::check(&mut build, PACK)?;
        Ok(Image::built("debian", dir))
    }

    /// The image of a family with this profile, from the cache where it is there.
    ///
    /// # Errors
    /// What the image builder said.
    pub fn image(&self, family: &str, profile: &str) -> Result<Image> {
        let digest = digest_of_files(&[&self.rescue, &self.imagebuilder])?;
        let out = target().join(format!("rescue-tests/images/{family}-{profile}-{digest}"));
        let image = Image::built(family, out);
        if !image.dir.join("manifest.json").exists() {
            process::check(&mut self.image_command(family, profile, &image.dir), PACK)?;
        }
        Ok(image)
    }

    /// Makes `device.cpio` of a device document, as an engineer does.
    ///
    /// # Errors
    /// What `imagebuilder inject` said.
    pub fn inject(&self, device: &Device) -> Result<PathBuf> {
        let cpio = device.dir.join("device.cpio");
        let mut command = Command::new(&self.imagebuilder);
        command.args(["inject", "--device"]).arg(&device.document).arg("-o").arg(&cpio);
        process::check(&mut command, Duration::from_secs(120))?;
        Ok(cpio)
    }
}

/// An image as the builder writes it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its folder.
    pub dir: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs, without a device document.
    pub initramfs: PathBuf,
}

impl Image {
    /// What the builder wrote to `dir`.
    pub fn built(family: &str, dir: PathBuf) -> Self {
        Self { kernel: dir.join("vmlinuz"), initramfs: dir.join(format!("rescue-{family}.img")), dir }
    }

    /// Writes the initramfs with `segments` behind it, as a boot loader concatenates them, to `out`.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn initrd(&self, segments: &[Vec<u8>], out: &Path) -> Result<()> {
        let mut bytes = std::fs::read(&self.initramfs)
            .with_context(|| format!("reading {}", self.initramfs.display()))?;
        for segment in segments {
            // The kernel wants each segment at a multiple of four bytes.
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(segment);
        }
        write_private(out, &bytes)
    }
}

/// A newc cpio archive (the kernel's `buffer-format.rst`) with one file in it, for what the image
/// builder rightly refuses to inject.
///
/// # Errors
/// When the file is too long for the format.
pub fn cpio_of(path: &str, mode: u32, content: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut entry = |name: &str, mode: u32, body: &[u8]| -> Result<()> {
        let size = u32::try_from(body.len()).context("a file of a cpio archive")?;
        let fields = [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, u32::try_from(name.len() + 1)?, 0];
        out.extend_from_slice(b"070701");
        for field in fields {
            out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(body);
        out.resize(out.len().next_multiple_of(4), 0);
        Ok(())
    };
    let Some(name) = path.strip_prefix('/') else { bail!("{path} is not absolute") };
    for (at, _) in name.match_indices('/') {
        entry(&name[..at], 0o040_755, b"")?;
    }
    entry(name, 0o100_000 | mode, content)?;
    entry("TRAILER!!!", 0, b"")?;
    Ok(out)
}

/// The first 16 hexadecimal digits of the SHA-256 of these files' contents.
///
/// # Errors
/// When one cannot be read.
pub fn digest_of_files(paths: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(std::fs::read(path).with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(short(hash))
}

/// The first 16 hexadecimal digits of the SHA-256 of a text.
pub fn digest_of_text(text: &str) -> String {
    short(Sha256::new().chain_update(text))
}

fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_cpio_reads_ours() {
        let dir = tempfile::tempdir().unwrap();
        let archive = cpio_of("/etc/rescue/device.json", 0o600, b"{}x").unwrap();
        assert_eq!(archive.len() % 4, 0);
        let mut command = Command::new("cpio");
        command.args(["-id", "--quiet"]).current_dir(dir.path());
        process::run(&mut command, &archive, Duration::from_secs(20)).unwrap().ok().unwrap();
        assert_eq!(std::fs::read(dir.path().join("etc/rescue/device.json")).unwrap(), b"{}x");
    }
}
