//! The network: links, leases, static addresses, name servers.
//!
//! [`cards`] observes where cards are, [`matching`] finds which of them a document means, [`build`] says
//! what is to be built upon them, and [`links`] what each link is to be used for. On each of them [`protocol`]s run, thin shells of sockets
//! around state machines without I/O ([`ra`] for IPv6 routers, [`dhcp6`], and [`dhcp`], which asks for a [`lease`]). [`plan`] turns what
//! they and the document bring into a comparable plan, [`apply`] hands the difference to the kernel,
//! [`resolv`] merges name servers, [`edit`] is a correction from the console of which [`control`] tells, and [`daemon`] is the loop that waits for events.
//!
//! To add a source of addresses, or what listens on the wire: a file in [`protocol`] and its row there.

pub mod apply;
pub mod build;
pub mod cards;
pub mod control;
pub mod daemon;
pub mod dhcp;
pub mod dhcp6;
mod domains;
pub mod edit;
pub mod lease;
pub mod links;
pub mod matching;
pub mod plan;
pub mod protocol;
pub mod ra;
pub mod resolv;

pub use dhcp::reply::parse_reply;
