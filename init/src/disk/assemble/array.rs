//! Starting arrays, through /sys (Documentation/admin-guide/md.rst).

use std::fs;
use std::io;
use std::path::Path;

use super::md::Array;
use super::record::{hold, note, release};
use crate::sys::files::read_trimmed;

pub(super) fn put(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value)
        .map_err(|e| io::Error::new(e.kind(), format!("writing {value:?} to {}: {e}", path.display())))
}

pub(super) fn start(array: &Array, load: &dyn Fn(&str)) -> io::Result<()> {
    load("md_mod");
    let known = read_trimmed(Path::new("/proc/mdstat")).unwrap_or_default();
    if !known.contains(&format!("[{}]", array.level)) {
        load(&format!("md-{}", array.level));
    }
    for disk in &array.members {
        if array.write {
            release(&disk.device)?;
        } else {
            hold(&disk.device)?;
        }
    }
    put(Path::new("/sys/module/md_mod/parameters/new_array"), &array.name)?;
    note(&format!("md {}", array.name))?;
    let md = Path::new("/sys/block").join(&array.name).join("md");
    let done = if array.write { by_superblocks(array, &md) } else { without_superblocks(array, &md) };
    if done.is_err() {
        let _ = fs::write(md.join("array_state"), "clear");
    }
    done
}

/// The kernel reads the superblocks of the devices that it is given, and of no others. Nothing is written until
/// something is written to the array; a resync that is due begins then.
fn by_superblocks(array: &Array, md: &Path) -> io::Result<()> {
    // The superblock has a third number, 0.90.0, which the kernel does not take.
    let version = if array.version.starts_with("0.") { "0.90" } else { &array.version };
    put(&md.join("metadata_version"), version)?;
    let members = array.members.iter().map(|m| (&m.device, &m.number));
    for (device, number) in members.chain(array.spares.iter().map(|(device, number)| (device, number))) {
        release(device)?;
        put(&md.join("new_dev"), number)?;
    }
    put(&md.join("array_state"), "read-auto")
}

fn without_superblocks(array: &Array, md: &Path) -> io::Result<()> {
    // Kept by somebody else, the kernel is told: it reads no superblock and writes none.
    put(&md.join("metadata_version"), "external:rescue")?;
    put(&md.join("level"), &array.level)?;
    put(&md.join("raid_disks"), &array.wanted.to_string())?;
    if array.chunk > 0 {
        put(&md.join("chunk_size"), &array.chunk.to_string())?;
    }
    put(&md.join("layout"), &array.layout.to_string())?;
    if array.size > 0 {
        put(&md.join("component_size"), &(array.size / 2).to_string())?;
    }
    put(&md.join("resync_start"), "none")?;
    for disk in &array.members {
        put(&md.join("new_dev"), &disk.number)?;
        let name = fs::canonicalize(Path::new("/sys/dev/block").join(&disk.number))?;
        let name = name.file_name().unwrap_or_default().to_string_lossy().replace('/', "!");
        let own = md.join(format!("dev-{name}"));
        put(&own.join("offset"), &disk.offset.to_string())?;
        put(&own.join("size"), &(disk.size / 2).to_string())?;
        put(&own.join("slot"), &disk.slot.to_string())?;
    }
    put(&md.join("array_state"), "readonly")
}
