//! The network: links, leases, static addresses, name servers.
//!
//! [`links`] observes which links are ours. On each of them [`protocol`]s run, thin shells of sockets
//! around state machines without I/O (such as [`dhcp`], which asks for a [`lease`]). [`plan`] turns what
//! they and the document bring into a comparable plan, [`apply`] hands the difference to the kernel,
//! [`resolv`] merges name servers, and [`daemon`] is the loop that waits for events.
//!
//! To add a source of addresses, or what listens on the wire: a file in [`protocol`] and its row there.

pub mod apply;
pub mod daemon;
pub mod dhcp;
pub mod lacp;
pub mod ladder;
pub mod lease;
pub mod links;
pub mod lldp;
pub mod neighbours;
pub mod plan;
pub mod protocol;
pub mod resolv;

pub use dhcp::reply::parse_reply;
