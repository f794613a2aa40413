//! The network: links, leases, static addresses, name servers.
//!
//! [`cards`] observes where cards are, [`matching`] finds which of them a document means (also by
//! [`predictable`] names; [`settle`] expands patterns of them), [`build`] says
//! what is to be built upon them, and [`links`] what each link is to be used for. On each of them
//! [`protocol`]s run, thin shells of sockets around state machines without I/O (such as [`dhcp`], which
//! asks for a [`lease`]). [`plan`] turns what they and the document bring into a comparable plan,
//! [`apply`] hands the difference to the kernel, [`resolv`] merges name servers, [`edit`] is a correction
//! from the console of which [`control`] tells and [`describe`] says what it comes to, and [`daemon`] is the loop that
//! waits for events.
//!
//! [`translate`] reads foreign documents about networks into wishes.
//!
//! To add a source of addresses, or what listens on the wire: a file in [`protocol`] and its row there.

pub mod apply;
pub mod build;
pub mod cards;
pub mod control;
pub mod daemon;
pub mod describe;
pub mod dhcp;
pub mod dhcp6;
mod domains;
pub mod edit;
pub mod glob;
pub mod lacp;
pub mod ladder;
pub mod lease;
pub mod links;
pub mod lldp;
pub mod matching;
pub mod neighbours;
pub mod plan;
pub mod predictable;
pub mod protocol;
pub mod ra;
pub mod resolv;
pub mod settle;
pub mod translate;

pub use dhcp::reply::parse_reply;
