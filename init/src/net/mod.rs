//! The network: Ethernet links, DHCPv4 leases, static addresses, name servers.
//!
//! [`links`] observes which links are ours, [`dhcp`] (a state machine without I/O) asks for a
//! [`lease`], [`plan`] turns lease and wishes into a comparable plan, [`apply`] hands the difference to
//! the kernel, [`resolv`] merges name servers, and [`daemon`] is the loop that waits for events.
//!
//! To add a source of addresses: a file that produces what [`plan::plan`] takes, and its call in
//! [`daemon`].

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
pub mod resolv;

pub use dhcp::reply::parse_reply;
