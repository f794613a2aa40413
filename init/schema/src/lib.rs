//! The contract that both programs and the tests speak: what a rescue session is
//! told ([`credentials`], [`network`]), what an image holds ([`manifest`]) and what a rescued
//! machine answers ([`report`]).
//!
//! Everything here is data: no file, socket or clock is touched. Documents that come from
//! outside are parsed from bytes, size-capped and validated before anything else sees them.

pub mod account;
mod check;
pub mod credentials;
pub mod crypt;
pub mod manifest;
pub mod network;
pub mod paths;
pub mod report;
mod secret;

pub use secret::Secret;
