//! Mapped devices, asked of the device mapper itself (include/uapi/linux/dm-ioctl.h). Their nodes in /dev/mapper are
//! made here, as libdm does where no udev is.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::files;

/// `struct dm_ioctl` up to its data.
const HEADER: usize = 312;
/// Longest name and UUID, with the zero at the end.
const NAME: usize = 128;
const UUID: usize = 129;
const READ_ONLY: u32 = 1;
const VERSION: [u32; 3] = [4, 0, 0];
/// Most bytes of one request.
const MOST: usize = 1 << 20;

mod ioctl {
    macro_rules! requests {
        ($($name:ident = $number:literal;)*) => { $(
            nix::ioctl_readwrite!($name, 0xfd, $number, [u8; super::HEADER]);
        )* };
    }
    requests! { dev_create = 3; dev_remove = 4; dev_suspend = 6; table_load = 9; target_msg = 14; }
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// First sector.
    pub start: u64,
    /// How many.
    pub sectors: u64,
    /// The kernel's name of what maps them: `linear`.
    pub kind: &'static str,
    /// What it is told.
    pub parameters: String,
}

/// What one ioctl is handed: the header, and what follows it.
struct Request(Vec<u64>);

impl Request {
    fn new(name: &str, uuid: &str, data: &[u8]) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_string());
        if name.len() >= NAME || uuid.len() >= UUID || name.contains(['/', '\0']) || name.is_empty() {
            return Err(invalid("a name that the device mapper does not take"));
        }
        let size = HEADER + data.len();
        if size > MOST {
            return Err(invalid("a table that is too long"));
        }
        let mut request = Self(vec![0; size.div_ceil(8)]);
        for (at, number) in VERSION.iter().enumerate() {
            request.put(at * 4, &number.to_ne_bytes());
        }
        request.put(12, &u32::try_from(size).unwrap_or(0).to_ne_bytes());
        request.put(16, &u32::try_from(HEADER).unwrap_or(0).to_ne_bytes());
        request.put(48, name.as_bytes());
        request.put(48 + NAME, uuid.as_bytes());
        request.put(HEADER, data);
        Ok(request)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (offset, byte) in bytes.iter().enumerate() {
            let (word, shift) = ((at + offset) / 8, (at + offset) % 8);
            if let Some(word) = self.0.get_mut(word) {
                let mut all = word.to_ne_bytes();
                if let Some(place) = all.get_mut(shift) {
                    *place = *byte;
                }
                *word = u64::from_ne_bytes(all);
            }
        }
    }

    fn number(&self, at: usize) -> u64 {
        self.0.get(at / 8).copied().unwrap_or(0)
    }

    fn flags(&mut self, flags: u32) {
        self.put(28, &flags.to_ne_bytes());
    }

    /// The header, whose buffer holds at least as many bytes as it says itself.
    fn pointer(&mut self) -> *mut [u8; HEADER] {
        self.0.as_mut_ptr().cast()
    }
}

fn control() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/mapper/control")
}

/// Where a mapped device is.
#[must_use]
pub fn node(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

fn table(targets: &[Target]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for target in targets {
        // `struct dm_target_spec`, and where the next one begins: on a multiple of eight.
        let whole = (40 + target.parameters.len() + 1).div_ceil(8) * 8;
        bytes.extend(target.start.to_ne_bytes());
        bytes.extend(target.sectors.to_ne_bytes());
        bytes.extend(0i32.to_ne_bytes());
        bytes.extend(u32::try_from(whole).unwrap_or(0).to_ne_bytes());
        let mut kind = [0u8; 16];
        kind.iter_mut().zip(target.kind.bytes().take(15)).for_each(|(to, from)| *to = from);
        bytes.extend(kind);
        bytes.extend(target.parameters.bytes());
        bytes.resize(bytes.len() + whole - 40 - target.parameters.len(), 0);
    }
    bytes
}

/// Maps a device.
///
/// # Errors
/// Those of the kernel; nothing is left behind then.
pub fn create(name: &str, uuid: &str, targets: &[Target], read_only: bool) -> io::Result<()> {
    let control = control()?;
    let fd = control.as_raw_fd();
    let mut made = Request::new(name, uuid, &[])?;
    // SAFETY: the pointer is to a buffer of our own that is as long as its header says.
    unsafe { ioctl::dev_create(fd, made.pointer()) }?;
    let number = made.number(40);
    let done = (|| {
        let mut load = Request::new(name, "", &table(targets))?;
        load.put(20, &u32::try_from(targets.len()).unwrap_or(0).to_ne_bytes());
        load.flags(if read_only { READ_ONLY } else { 0 });
        // SAFETY: as above; the table is behind the header, where `data_start` says it is.
        unsafe { ioctl::table_load(fd, load.pointer()) }?;
        let mut resume = Request::new(name, "", &[])?;
        resume.flags(if read_only { READ_ONLY } else { 0 });
        // SAFETY: as above.
        unsafe { ioctl::dev_suspend(fd, resume.pointer()) }?;
        let node = node(name);
        // One that is left of a device that is gone.
        let _ = std::fs::remove_file(&node);
        // `huge_encode_dev` of the kernel.
        let (major, minor) = ((number & 0xfff00) >> 8, (number & 0xff) | (number >> 12 & 0xfff00));
        let (major, minor) = (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0));
        files::make_node(&node, true, major, minor)
    })();
    if done.is_err() {
        let _ = remove(name);
    }
    done
}

/// Ends a mapping.
///
/// # Errors
/// Those of the kernel: busy, when something uses it.
pub fn remove(name: &str) -> io::Result<()> {
    let control = control()?;
    let mut request = Request::new(name, "", &[])?;
    // SAFETY: the pointer is to a buffer of our own that is as long as its header says.
    unsafe { ioctl::dev_remove(control.as_raw_fd(), request.pointer()) }?;
    let _ = std::fs::remove_file(node(name));
    Ok(())
}

/// Tells the target that maps the first sector something.
///
/// # Errors
/// Those of the kernel.
pub fn message(name: &str, text: &str) -> io::Result<()> {
    let mut data = 0u64.to_ne_bytes().to_vec();
    data.extend(text.bytes());
    data.push(0);
    let control = control()?;
    let mut request = Request::new(name, "", &data)?;
    // SAFETY: the pointer is to a buffer of our own that is as long as its header says.
    unsafe { ioctl::target_msg(control.as_raw_fd(), request.pointer()) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let target = Target { start: 8, sectors: 16, kind: "linear", parameters: "8:1 0".into() };
        let bytes = table(&[target]);
        assert_eq!(bytes.len(), 48);
        assert_eq!((&bytes[..8], &bytes[20..24]), (&8u64.to_ne_bytes()[..], &48u32.to_ne_bytes()[..]));
        assert_eq!(&bytes[24..46], b"linear\0\0\0\0\0\0\0\0\0\x008:1 0\0");
        let request = Request::new("vg-root", "LVM-x", &bytes).unwrap();
        assert_eq!(request.number(8) >> 32, (HEADER + 48) as u64);
        assert!(Request::new("a/b", "", &[]).is_err() && Request::new(&"x".repeat(128), "", &[]).is_err());
    }
}
