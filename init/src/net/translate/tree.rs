//! The tree that JSON and YAML come to, with errors of this place.

use super::{Error, Result};
pub(super) use crate::tree::{MAX_DEPTH, MAX_NODES, Node};

pub(super) fn json(at: &str, bytes: &[u8]) -> Result<Node> {
    crate::tree::json(bytes).map_err(|error| Error::new(at, error))
}

pub(super) fn yaml(at: &str, bytes: &[u8]) -> Result<Node> {
    crate::tree::yaml(bytes).map_err(|error| Error::new(at, error))
}
