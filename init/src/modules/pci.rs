//! The PCI bus as sysfs shows it, and asking it to offer a device to its drivers (drivers/base/bus.c).

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::files::read_trimmed;
use crate::sys::log;

/// The bus.
#[derive(Debug, Clone)]
pub(super) struct Bus(PathBuf);

impl Bus {
    /// That of the system below `root`.
    pub(super) fn of(root: &Path) -> Self {
        Self(root.join("sys/bus/pci"))
    }

    /// A file or folder of it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Its devices, in the order of their places.
    pub(super) fn devices(&self) -> Vec<PathBuf> {
        let devices = std::fs::read_dir(self.join("devices")).into_iter().flatten().flatten();
        let mut devices: Vec<PathBuf> = devices.map(|device| device.path()).collect();
        devices.sort_unstable();
        devices
    }

    /// Has the drivers look at a device, and waits for the one that takes it.
    pub(super) fn probe(&self, name: &str) -> io::Result<()> {
        std::fs::write(self.join("drivers_probe"), name)
    }

    /// Writes to a file of it; says whether that was done, and the log why not.
    pub(super) fn write(&self, file: &str, value: &str) -> bool {
        let path = self.join(file);
        let written = std::fs::write(&path, value);
        if let Err(error) = &written {
            log::note("modules", &format!("writing {value} to {}: {error}", path.display()));
        }
        written.is_ok()
    }
}

/// Whether a device is of a class: 0x and the first digits of it.
pub(super) fn is_of(device: &Path, class: &str) -> bool {
    read_trimmed(&device.join("class")).is_some_and(|own| own.starts_with(class))
}

/// What the bus calls a device.
pub(super) fn name(device: &Path) -> Option<&str> {
    device.file_name().and_then(|name| name.to_str())
}
