//! The ACPI power button, as a descriptor to poll.
//!
//! The kernel's button driver says `button/power` in the generic netlink family `acpi_event`
//! (`drivers/acpi/event.c`), which is there before the driver is, needs no input device, and is one
//! socket whatever buttons come and go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// `include/uapi/linux/genetlink.h`: the controller's id and version, its request for a family, and
/// the attributes used here.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// `drivers/acpi/event.c`.
const FAMILY: &[u8] = b"acpi_event\0";
const GROUP: &[u8] = b"acpi_mc_group\0";
const ACPI_GENL_ATTR_EVENT: u16 = 1;
const POWER: &[u8] = b"button/power";
/// `struct nlmsghdr`, and that with `struct genlmsghdr` behind it.
const NETLINK_HEADER: usize = 16;
const HEADERS: usize = NETLINK_HEADER + 4;
/// Attribute types carry two flags in their upper bits (`NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;
/// Most messages that are taken at once, so that a storm of other ACPI events cannot hold PID 1.
const AT_ONCE: usize = 64;

/// The power button.
pub struct PowerButton {
    socket: Socket,
}

impl PowerButton {
    /// Subscribes to ACPI events.
    ///
    /// # Errors
    /// Those of netlink(7); `NotFound` where the kernel has no such events (no ACPI).
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&request(), 0)?;
        // The controller answers within send(2), so this cannot wait.
        let answer = socket.recv_from_full()?.0;
        let group = group_of(&answer).ok_or(io::ErrorKind::NotFound)?;
        socket.add_membership(group)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Takes what has been said since the last call; whether a press of the power button was in it.
    ///
    /// # Errors
    /// Those of recv(2), but not that nothing is there, and not that the kernel had to drop events.
    pub fn pressed(&mut self) -> io::Result<bool> {
        let mut pressed = false;
        for _ in 0..AT_ONCE {
            match self.socket.recv_from_full() {
                Ok((message, _)) => pressed |= is_power(&message),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pressed)
    }
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks the controller for the family.
fn request() -> Vec<u8> {
    let mut attribute = Vec::new();
    attribute.extend(u16::to_ne_bytes(4 + 11));
    attribute.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
    attribute.extend(FAMILY);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let mut message = Vec::new();
    message.extend(u32::try_from(HEADERS + attribute.len()).unwrap_or(0).to_ne_bytes());
    message.extend(GENL_ID_CTRL.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([CTRL_CMD_GETFAMILY, 1, 0, 0]);
    message.extend(attribute);
    message
}

/// The number of the events' multicast group, out of the controller's answer.
fn group_of(answer: &[u8]) -> Option<u32> {
    let groups = attributes(answer.get(HEADERS..)?).find(|(kind, _)| *kind == CTRL_ATTR_MCAST_GROUPS)?.1;
    attributes(groups).find_map(|(_, group)| {
        let field = |wanted| attributes(group).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let id = field(CTRL_ATTR_MCAST_GRP_ID)?.try_into().ok().map(u32::from_ne_bytes)?;
        (field(CTRL_ATTR_MCAST_GRP_NAME)? == GROUP).then_some(id)
    })
}

/// Whether a message is `struct acpi_genl_event` of the class `button/power`.
fn is_power(message: &[u8]) -> bool {
    let body = message.get(HEADERS..).unwrap_or_default();
    attributes(body).any(|(kind, event)| kind == ACPI_GENL_ATTR_EVENT && event.starts_with(POWER))
}

/// The attributes (`struct nlattr`) of a message, as far as they are whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<4>()?;
        let [a, b, c, d] = *head;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [&[0; HEADERS][..], body].concat()
    }

    #[test]
    fn the_group_is_found_by_name() {
        let group = |name: &[u8], id: u32| {
            let fields = [
                attribute(CTRL_ATTR_MCAST_GRP_ID, &id.to_ne_bytes()),
                attribute(CTRL_ATTR_MCAST_GRP_NAME, name),
            ];
            attribute(1, &fields.concat())
        };
        let groups = [group(b"other\0", 3), group(GROUP, 7)].concat();
        let answer = message(&[attribute(1, &[9, 0]), attribute(CTRL_ATTR_MCAST_GROUPS, &groups)].concat());
        assert_eq!(group_of(&answer), Some(7));
        for end in 0..answer.len() {
            let _ = group_of(&answer[..end]);
        }
    }

    #[test]
    fn only_the_power_button_counts() {
        let event = |class: &[u8]| {
            let mut event = class.to_vec();
            event.resize(44, 0);
            message(&attribute(ACPI_GENL_ATTR_EVENT, &event))
        };
        assert!(is_power(&event(b"button/power")));
        assert!(!is_power(&event(b"button/sleep")));
        assert!(!is_power(b""));
        assert!(!is_power(&message(&[255; 7])));
    }

    #[test]
    fn the_request_is_whole() {
        let request = request();
        assert_eq!(request.len(), HEADERS + 16);
        assert_eq!(request[..4], 36_u32.to_ne_bytes());
    }

    #[test]
    fn a_kernel_with_acpi_has_it() {
        match PowerButton::open() {
            Ok(mut button) => assert!(!button.pressed().unwrap()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
    }
}
