//! Asking a disk for its health: SG_IO (SCSI, and ATA through it) and the admin commands of NVMe. Nothing
//! here changes a disk or its settings.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;

/// `include/scsi/sg.h`.
const SG_IO: u64 = 0x2285;
const SG_DXFER_NONE: i32 = -1;
const SG_DXFER_FROM_DEV: i32 = -3;
/// `_IOWR('N', 0x41, struct nvme_admin_cmd)`, `include/uapi/linux/nvme_ioctl.h`.
const NVME_IOCTL_ADMIN_CMD: u64 = 0xC048_4E41;
const GET_LOG_PAGE: u8 = 0x02;

/// `struct sg_io_hdr` of 64-bit machines.
#[repr(C)]
struct SgIo {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

/// `struct nvme_admin_cmd`.
#[repr(C)]
struct NvmeAdmin {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(size_of::<NvmeAdmin>() == 72);

/// What a SCSI command came to.
pub struct Reply {
    /// Status byte: 0 good, 2 check condition.
    pub status: u8,
    /// Sense data, as much as was written.
    pub sense: Vec<u8>,
    /// Bytes of the data that the device sent.
    pub length: usize,
}

/// Sends a command of SCSI that reads into `data` (which may be empty).
///
/// # Errors
/// Those of the ioctl; `EIO` where the command did not reach the device.
pub fn scsi(disk: &File, command: &[u8], data: &mut [u8], limit: Duration) -> io::Result<Reply> {
    let mut sense = [0u8; 64];
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut header = SgIo {
        interface_id: i32::from(b'S'),
        dxfer_direction: if data.is_empty() { SG_DXFER_NONE } else { SG_DXFER_FROM_DEV },
        cmd_len: u8::try_from(command.len()).map_err(io::Error::other)?,
        mx_sb_len: 64,
        iovec_count: 0,
        dxfer_len: length,
        dxferp: data.as_mut_ptr(),
        cmdp: command.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
        flags: 0,
        pack_id: 0,
        usr_ptr: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the header is the kernel's structure, and its three pointers are to buffers of the lengths
    // beside them that outlive the call. The kernel writes no more than these lengths.
    let result = unsafe { nix::libc::ioctl(disk.as_raw_fd(), SG_IO, &raw mut header) };
    Errno::result(result)?;
    if header.host_status != 0 {
        return Err(Errno::EIO.into());
    }
    let left = usize::try_from(header.resid).unwrap_or(0);
    Ok(Reply {
        status: header.status,
        sense: sense.get(..usize::from(header.sb_len_wr)).unwrap_or_default().to_vec(),
        length: data.len().saturating_sub(left),
    })
}

/// Reads a log page of an NVMe controller, through it or any of its namespaces (NVM Express 2.0, 5.16).
/// `data` is a multiple of four bytes.
///
/// # Errors
/// Those of the ioctl; `EIO` for a status of the controller's own.
pub fn nvme_log(disk: &File, page: u8, data: &mut [u8], limit: Duration) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let words = (length / 4).checked_sub(1).filter(|words| *words < 1 << 16).ok_or(Errno::EINVAL)?;
    let mut command = NvmeAdmin {
        opcode: GET_LOG_PAGE,
        flags: 0,
        rsvd1: 0,
        nsid: u32::MAX,
        cdw2: 0,
        cdw3: 0,
        metadata: 0,
        addr: data.as_mut_ptr() as u64,
        metadata_len: 0,
        data_len: length,
        cdw10: u32::from(page) | words << 16,
        cdw11: 0,
        cdw12: 0,
        cdw13: 0,
        cdw14: 0,
        cdw15: 0,
        timeout_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
        result: 0,
    };
    // SAFETY: the command is the kernel's structure, and its address is that of a buffer of the length
    // beside it that outlives the call.
    let result = unsafe { nix::libc::ioctl(disk.as_raw_fd(), NVME_IOCTL_ADMIN_CMD, &raw mut command) };
    match Errno::result(result)? {
        0 => Ok(()),
        _ => Err(Errno::EIO.into()),
    }
}
