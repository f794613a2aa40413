//! Replies for tests.

/// A reply of the type `kind` from 10.0.0.1 that offers 10.0.0.50, with these further options.
pub(in crate::net) fn reply(kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&7_u32.to_be_bytes());
    bytes[16..20].copy_from_slice(&[10, 0, 0, 50]);
    bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[236..240].copy_from_slice(&dhcproto::v4::MAGIC);
    bytes.extend([53, 1, kind, 54, 4, 10, 0, 0, 1]);
    for (code, content) in options {
        bytes.push(*code);
        bytes.push(u8::try_from(content.len()).unwrap());
        bytes.extend_from_slice(content);
    }
    bytes.push(255);
    bytes
}
