//! The messages that we send, as the whole content of a UDP datagram.

use std::net::Ipv4Addr;

use dhcproto::v4::{Decoder, DhcpOption, DhcpOptions, Encoder, Flags, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Encodable};

use super::reply::HEADER;

/// Largest reply that we take, option 57: what fits a frame of 1,500 bytes.
const MAX_REPLY: u16 = 1472;
/// Relays and servers of BOOTP's time drop what is shorter (RFC 1542 2.1).
const MIN_LENGTH: usize = 300;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Who has an address? `wish` is the one that we had.
    Discover { wish: Option<Ipv4Addr> },
    /// That offer, please (SELECTING).
    Select { address: Ipv4Addr, server: Ipv4Addr },
    /// Is this address still ours? (INIT-REBOOT)
    Verify { address: Ipv4Addr },
    /// Another host has the address that was given (RFC 2131 3.1, point 5).
    Decline { address: Ipv4Addr, server: Ipv4Addr },
    /// Longer, please (RENEWING, REBINDING).
    Extend { address: Ipv4Addr },
}

/// What all messages of a transaction share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transaction {
    pub(super) mac: [u8; 6],
    pub(super) xid: u32,
    /// Seconds since we began to ask.
    pub(super) secs: u16,
    /// Answer by broadcast, although we can receive unicast: some relays and virtual switches lose it.
    pub(super) broadcast: bool,
}

/// Encodes a message; empty if the library refuses, which it has no reason to.
pub(super) fn encode(ask: Ask, transaction: Transaction) -> Vec<u8> {
    // Its constructors draw a random xid from a generator that waits for entropy, and at this point
    // of a boot there may be none; reading an empty message does not.
    let mut empty = [0_u8; HEADER];
    if let Some(first) = empty.first_chunk_mut() {
        *first = [1, 1, 6]; // BOOTREQUEST, Ethernet, 6 bytes of address
    }
    if let Some(magic) = empty.last_chunk_mut() {
        *magic = dhcproto::v4::MAGIC;
    }
    let Ok(mut message) = Message::decode(&mut Decoder::new(&empty)) else { return Vec::new() };
    message.set_chaddr(&transaction.mac).set_xid(transaction.xid).set_secs(transaction.secs);
    if transaction.broadcast {
        message.set_flags(Flags::default().set_broadcast());
    }

    let mut options = DhcpOptions::new();
    let kind = match ask {
        Ask::Discover { .. } => MessageType::Discover,
        Ask::Decline { .. } => MessageType::Decline,
        Ask::Select { .. } | Ask::Verify { .. } | Ask::Extend { .. } => MessageType::Request,
    };
    options.insert(DhcpOption::MessageType(kind));
    match ask {
        Ask::Discover { wish: Some(address) } | Ask::Verify { address } => {
            options.insert(DhcpOption::RequestedIpAddress(address));
        }
        Ask::Discover { wish: None } => {}
        Ask::Select { address, server } | Ask::Decline { address, server } => {
            options.insert(DhcpOption::RequestedIpAddress(address));
            options.insert(DhcpOption::ServerIdentifier(server));
        }
        Ask::Extend { address } => {
            message.set_ciaddr(address);
        }
    }
    let [a, b, c, d, e, f] = transaction.mac;
    options.insert(DhcpOption::ClientIdentifier(vec![1, a, b, c, d, e, f]));
    // RFC 2131 table 5: who declines asks for nothing.
    if !matches!(ask, Ask::Decline { .. }) {
        options.insert(DhcpOption::MaxMessageSize(MAX_REPLY));
        options.insert(DhcpOption::ClassIdentifier(b"rescue".to_vec()));
        // Option 121 stands before 3, as RFC 3442 asks.
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::ClasslessStaticRoute,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::Hostname,
            OptionCode::DomainName,
            OptionCode::InterfaceMtu,
            OptionCode::AddressLeaseTime,
            OptionCode::Renewal,
            OptionCode::Rebinding,
            OptionCode::DomainSearch,
        ]));
    }
    message.set_opts(options);

    let mut bytes = Vec::with_capacity(MIN_LENGTH);
    if message.encode(&mut Encoder::new(&mut bytes)).is_err() {
        return Vec::new();
    }
    if bytes.len() < MIN_LENGTH {
        bytes.resize(MIN_LENGTH, 0);
    }
    bytes
}
