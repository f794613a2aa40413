//! The network: Ethernet links, DHCPv4 leases, static addresses, name servers.
//!
//! [`links`] observes which links are ours, [`dhcp`] (a state machine without I/O) asks for a
//! [`lease`], [`plan`] turns lease and wishes into a comparable plan, [`apply`] hands the difference to
//! the kernel, [`resolv`] merges name servers, and [`daemon`] is the loop that waits for events.
//!
//! [`translate`] reads foreign documents about networks into wishes.
//!
//! To add a source of addresses: a file that produces what [`plan::plan`] takes, and its call in
//! [`daemon`].

pub mod apply;
pub mod daemon;
pub mod dhcp;
pub mod lease;
pub mod links;
pub mod plan;
pub mod resolv;
pub mod translate;

pub use dhcp::reply::parse_reply;
