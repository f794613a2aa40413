//! Pages of the web, asked for by processes that have given up everything but the network: names by our own
//! resolver, answers read within limits of time and size, by whoever gives the bytes.
//!
//! [`tls`] is for the program `rescue-https` alone. Nothing that `rescue` itself calls may name it, or TLS is
//! in what is unpacked at each boot.

pub mod dns;
pub mod exchange;
pub mod http;
pub mod names;
pub mod tls;
pub mod url;
