//! Drivers: which modules the devices of this machine want, in what order, loaded by ourselves.
//!
//! [`tables`] reads what depmod(8) and the image builder write, [`alias`] matches a device's modalias
//! against it, [`order`] makes the pure plan (dependencies, softdeps, blacklist), [`loader`] carries it
//! out. [`hotplug`] is the service: it loads on threads ([`pool`]), several at once where there are several
//! processors and past drivers that hang; it walks the devices that are there, network cards first ([`cards_first`]),
//! lets go of what the kernel
//! holds back ([`held`]), then follows those that come. [`nodes`] are made for drivers that are loaded when somebody opens their device.

pub mod alias;
mod cards_first;
mod held;
pub mod hotplug;
mod loader;
mod nodes;
mod order;
mod pci;
mod pool;
mod tables;

use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::sys::cmdline::Cmdline;
use crate::sys::kmod;
pub use loader::Loader;
pub use order::Plan;
pub use tables::Tables;

/// Whether a module of this name is in the image or the kernel.
pub fn is_there(name: &str) -> bool {
    let tables = Tables::observe(Path::new("/"));
    kmod::is_loaded(Path::new("/"), &tables::normal(name))
        || tables.is_builtin(name)
        || !tables.resolve(name).is_empty()
}

/// How long is waited for a module's own devices, and how often is looked.
const DEVICES: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// Loads a module, and returns once its own devices were looked at. The kernel waits for those of all other drivers as
/// well, minutes where a disk dies: the thread that it keeps is left behind. For those of `IN_ORDER` (loader.rs).
///
/// # Errors
/// Those of [`load`], and when its devices do not answer.
pub fn load_with_devices(name: &'static str) -> anyhow::Result<()> {
    let (root, module) = (Path::new("/"), tables::normal(name));
    let (done, told) = mpsc::channel();
    let loading = move || drop(done.send(load(name)));
    std::thread::Builder::new().spawn(loading).context("starting a thread")?;
    let until = Instant::now() + DEVICES;
    while Instant::now() < until {
        if kmod::is_live(root, &module) {
            return Ok(());
        }
        match told.recv_timeout(LOOK) {
            Ok(Err(error)) => return Err(error),
            // It was there before: built in, or on its way by another's hand.
            Ok(Ok(())) | Err(RecvTimeoutError::Disconnected) if !kmod::is_coming(root, &module) => {
                return Ok(());
            }
            Ok(Ok(())) | Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    bail!("{name} does not come to an end of looking at its devices")
}

/// Loads a module by its name or by an alias such as `fs-ext4`, with all that it needs.
///
/// # Errors
/// When nothing of that name is in the image or the kernel, or the kernel refuses it.
pub fn load(name: &str) -> anyhow::Result<()> {
    let root = Path::new("/");
    // Most of what is asked for is there already, and then no table is read.
    if kmod::is_loaded(root, &tables::normal(name)) {
        return Ok(());
    }
    let tables = Arc::new(Tables::observe(root));
    let mut loader = Loader::new(root, &tables, &Cmdline::observe(root));
    let wanted = tables.resolve(name);
    if wanted.is_empty() {
        if tables.is_builtin(name) {
            return Ok(());
        }
        bail!("no module {name} in this image");
    }
    let outcome = loader.load(&wanted);
    match outcome.failed.first() {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}
