//! What a scenario is handed: images, device documents and machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::device::{Device, DeviceBuilder};
use crate::disk;
use crate::image::{Binaries, Image, cpio_of};
use crate::network::Network;
use crate::qemu::Start;
use crate::vm::{Vm, VmBuilder, limit};

/// What all scenarios share. Made when it is first asked for: a scenario that only boots a disk by
/// its own firmware needs no compiler.
#[derive(Default)]
pub struct Bench {
    binaries: Mutex<Option<Binaries>>,
    /// By family and profile.
    images: Mutex<BTreeMap<(String, String), Image>>,
    /// Held while a cached disk is made.
    disks: Mutex<()>,
    /// A folder of modules with a zfs.ko.
    zfs: Option<PathBuf>,
}

impl Bench {
    /// With the folder of modules of a kernel that has a zfs.ko, where one was named.
    pub fn with_zfs(zfs: Option<PathBuf>) -> Self {
        Self { zfs, ..Self::default() }
    }

    /// That folder.
    ///
    /// # Errors
    /// Where none was named.
    pub fn zfs(&self) -> Result<&Path> {
        self.zfs.as_deref().context("no folder of modules with a zfs.ko was named")
    }

    /// The release binaries, built the first time.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn binaries(&self) -> Result<Binaries> {
        made_once(&self.binaries, || Binaries::build().context("building the programs"))
    }

    /// The `minimal` image, built the first time.
    ///
    /// # Errors
    /// What the compiler or the image builder said.
    pub fn minimal(&self) -> Result<Image> {
        self.image("debian", "minimal")
    }

    /// An image, built the first time.
    ///
    /// # Errors
    /// What the compiler or the image builder said.
    pub fn image(&self, family: &str, profile: &str) -> Result<Image> {
        let binaries = self.binaries()?;
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (family.to_string(), profile.to_string());
        if let Some(image) = images.get(&name) {
            return Ok(image.clone());
        }
        let image = binaries
            .image(family, profile)
            .with_context(|| format!("building the {family} {profile} image"))?;
        Ok(images.entry(name).or_insert(image).clone())
    }
}

fn made_once<T: Clone>(slot: &Mutex<Option<T>>, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match &*slot {
        Some(made) => Ok(made.clone()),
        None => Ok(slot.insert(make()?).clone()),
    }
}

/// One scenario's own laboratory.
pub struct Lab<'a> {
    /// The scenario's name.
    pub name: &'static str,
    /// A folder of its own; logs stay there, everything else goes when the scenario succeeds.
    pub dir: PathBuf,
    /// What it shares with the others.
    pub bench: &'a Bench,
}

impl Lab<'_> {
    /// A device document in the making: a host key, and no logins.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn device(&self) -> Result<DeviceBuilder> {
        DeviceBuilder::new(&self.dir.join("device"))
    }

    /// The document that most scenarios want: root enters with a key or a password.
    ///
    /// # Errors
    /// When a key or hash cannot be made.
    pub fn root_device(&self) -> Result<Device> {
        self.device()?.key_login("root")?.password_login("root", "sha512crypt")?.build()
    }

    /// A machine that boots the minimal image with this device document injected.
    ///
    /// # Errors
    /// What `imagebuilder inject` said.
    pub fn rescue(&self, device: &Device) -> Result<VmBuilder> {
        self.rescue_with(&[self.injected(device)?])
    }

    /// As [`Lab::rescue`], with the standard image.
    ///
    /// # Errors
    /// As [`Lab::rescue`].
    pub fn standard(&self, device: &Device) -> Result<VmBuilder> {
        self.family("debian", "standard", device)
    }

    /// As [`Lab::standard`], with a cpio segment behind the image.
    ///
    /// # Errors
    /// As [`Lab::rescue`].
    pub fn standard_with(&self, segment: Vec<u8>) -> Result<VmBuilder> {
        self.boot(self.bench.image("debian", "standard")?, &[segment])
    }

    /// As [`Lab::rescue`], with the image of any family and profile.
    ///
    /// # Errors
    /// As [`Lab::rescue`].
    pub fn family(&self, family: &str, profile: &str, device: &Device) -> Result<VmBuilder> {
        self.boot(self.bench.image(family, profile)?, &[self.injected(device)?])
    }

    /// As [`Lab::rescue`], with an image that a scenario made itself.
    ///
    /// # Errors
    /// As [`Lab::rescue`].
    pub fn with_image(&self, image: Image, device: &Device) -> Result<VmBuilder> {
        self.boot(image, &[self.injected(device)?])
    }

    fn injected(&self, device: &Device) -> Result<Vec<u8>> {
        let cpio = self.bench.binaries()?.inject(device)?;
        std::fs::read(&cpio).with_context(|| format!("reading {}", cpio.display()))
    }

    /// A machine that boots the minimal image with these bytes as its device document, whatever they
    /// are.
    ///
    /// # Errors
    /// When the initramfs cannot be written.
    pub fn rescue_with_document(&self, bytes: &[u8]) -> Result<VmBuilder> {
        self.rescue_with(&[cpio_of(rescue_schema::paths::DEVICE_DOCUMENT, 0o600, bytes)?])
    }

    /// A machine that boots the minimal image with these cpio segments behind it.
    ///
    /// # Errors
    /// When the initramfs cannot be written.
    pub fn rescue_with(&self, segments: &[Vec<u8>]) -> Result<VmBuilder> {
        self.boot(self.bench.minimal()?, segments)
    }

    fn boot(&self, image: Image, segments: &[Vec<u8>]) -> Result<VmBuilder> {
        let initrd = self.dir.join("initrd.img");
        image.initrd(segments, &initrd)?;
        let append = "console=ttyS0 panic=-1".to_string();
        let start = Start::Kernel { kernel: image.kernel, initrd, append };
        VmBuilder::new(start, &self.dir, self.name)
    }

    /// A machine whose firmware boots a copy of its first disk.
    ///
    /// # Errors
    /// When no port is free.
    pub fn firmware(&self) -> Result<VmBuilder> {
        Ok(VmBuilder::new(Start::FirstDisk, &self.dir, self.name)?.links(Vec::new()))
    }

    /// A network of its own.
    ///
    /// # Errors
    /// Without root.
    pub fn network(&self) -> Result<Network> {
        Network::new(&self.dir)
    }

    /// Makes what is kept between scenarios while no other scenario does.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn alone<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let _held = self.bench.disks.lock().unwrap_or_else(PoisonError::into_inner);
        make()
    }

    /// A path in the scenario's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Blank disks of so many MiB each, in the scenario's folder.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn blanks<const N: usize>(&self, names: [&str; N], mib: u64) -> Result<[PathBuf; N]> {
        let paths = names.map(|name| self.path(&format!("{name}.img")));
        paths.iter().try_for_each(|path| disk::blank(path, mib))?;
        Ok(paths)
    }

    /// Root's own rescue, booted and ready: the start of most scenarios.
    ///
    /// # Errors
    /// A verdict, when it does not get ready.
    pub fn ready(&self, device: &Device, disks: &[&Path]) -> Result<Vm> {
        let mut builder = self.rescue(device)?;
        for disk in disks {
            builder = builder.disk(disk);
        }
        let vm = builder.start()?;
        vm.ready()?;
        // SSH does not wait for the drivers of disks.
        if !disks.is_empty() {
            vm.console.stage("modules", limit(60))?;
        }
        Ok(vm)
    }
}
