//! Pairs of sockets that carry whole messages and descriptors (unix(7), `SOCK_SEQPACKET`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use zeroize::Zeroizing;

/// Room for 8 descriptors in either direction.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(8));

/// A pair, neither end blocking.
///
/// # Errors
/// Those of socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether this is the end of such a pair.
pub fn is_one(socket: impl AsFd) -> bool {
    rustix::net::sockopt::socket_domain(&socket).is_ok_and(|d| d == AddressFamily::UNIX)
        && rustix::net::sockopt::socket_type(&socket).is_ok_and(|t| t == SocketType::SEQPACKET)
}

/// Sends a message, with at most 8 descriptors.
///
/// # Errors
/// `WouldBlock` when the other end does not read, `InvalidInput` with more descriptors, those of
/// sendmsg(2).
pub fn send(socket: impl AsFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(message)], &mut control, flags)
    })?;
    Ok(())
}

/// A message as it came; none at the end.
pub type Received = Option<(Zeroizing<Vec<u8>>, Vec<OwnedFd>)>;

/// Takes the next message; `None` when the other end is closed. `descriptors` says whether any are
/// taken; those that come uninvited are closed by the kernel.
///
/// # Errors
/// `WouldBlock` when there is none, `FileTooLarge` for one over `limit` bytes (which stays where it
/// is), those of recvmsg(2).
pub fn receive(socket: impl AsFd, limit: usize, descriptors: bool) -> io::Result<Received> {
    let look = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let length = match rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut [0u8; 0][..], look)) {
        Ok((_, length)) => length,
        // The other end was closed before it had read all that it was sent.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Zeroizing::new(vec![0u8; length.max(1)]);
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = match descriptors {
        true => RecvAncillaryBuffer::new(&mut space),
        false => RecvAncillaryBuffer::default(),
    };
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
    })?;
    let mut taken = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            taken.extend(list);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, taken)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_stay_whole_and_carry_descriptors() {
        let (ours, theirs) = pair().unwrap();
        assert!(is_one(&ours));
        assert_eq!(receive(&theirs, 10, true).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&ours, b"first", &[writer.as_fd(), ours.as_fd()]).unwrap();
        send(&ours, b"second", &[writer.as_fd()]).unwrap();
        drop(writer);
        let (bytes, descriptors) = receive(&theirs, 10, true).unwrap().unwrap();
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"first"[..], 2));
        let mut file = std::fs::File::from(descriptors.into_iter().next().unwrap());
        file.write_all(b"through").unwrap();
        drop(file);
        // Uninvited ones are closed: nobody holds the pipe any more.
        let (bytes, descriptors) = receive(&theirs, 10, false).unwrap().unwrap();
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"second"[..], 0));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        send(&ours, &[0; 11], &[]).unwrap();
        assert_eq!(receive(&theirs, 10, true).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        drop(ours);
        assert!(receive(&theirs, 11, true).unwrap().is_some());
        assert!(receive(&theirs, 11, true).unwrap().is_none());
    }
}
