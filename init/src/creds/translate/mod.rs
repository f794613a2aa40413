//! Foreign documents that say who may enter, translated into ours: one file a format, each a pure function
//! from bytes to a [`Part`](super::part::Part).
//!
//! They are data: nothing in them is run. Logins, keys, host keys, names and the network are taken, and what is
//! left out is told. What would let somebody in and is malformed is an error, which closes the door for the
//! sources below; no message repeats a value, which may be a secret.
//!
//! To add a format: `translate/<format>.rs`, a caller, seeds in `init/fuzz/corpus/` and a row in the table of
//! fuzz targets.

mod draft;

pub mod cloud_config;
pub mod ibm;
pub mod openstack;
