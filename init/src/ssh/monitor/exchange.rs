//! Signing key exchanges with the host keys, and nothing else.
//!
//! Whoever can have a host key sign bytes of their choice can have it vouch for anything: an SSHSIG of
//! a file is 64 bytes when its namespace has four letters, as an exchange hash of SHA-512 is. So the
//! monitor is given what is hashed, not the hash: it must be the record of a key exchange (RFC 4253
//! section 8) of this server with this key, and its hash is computed here.

use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::ssh_key::{Algorithm, Signature};
use russh::keys::{Certificate, PrivateKey, signature::Signer};
use sha2::{Digest, Sha256, Sha512};

use crate::ssh::policy;

/// Longest identification line in bytes (RFC 4253 section 4.2).
const MAX_IDENTIFICATION: usize = 255;
/// `SSH_MSG_KEXINIT`.
const KEXINIT: u8 = 20;

/// A signed exchange.
pub(super) struct Signed {
    /// The exchange hash.
    pub(super) hash: Vec<u8>,
    /// `string algorithm, string signature`.
    pub(super) signature: Vec<u8>,
}

/// Signs an exchange by `algorithm` with the key that has it.
///
/// # Errors
/// What is wrong with what is to be signed.
pub(super) fn sign(
    keys: &[PrivateKey],
    certificates: &[Certificate],
    algorithm: &str,
    sha512: bool,
    exchange: &[u8],
) -> Result<Signed, &'static str> {
    let algorithm = Algorithm::new(algorithm).map_err(|_| "an unknown host key algorithm")?;
    if !policy::accepts(&algorithm) {
        return Err("a host key algorithm that is not offered");
    }
    let key = keys.iter().find(|key| same_kind(&key.algorithm(), &algorithm));
    let key = key.ok_or("a host key that is not there")?;
    let blob = key.public_key().to_bytes().map_err(|_| "a host key that does not encode")?;
    let certified = certificates
        .iter()
        .filter(|it| it.public_key() == key.public_key().key_data())
        .filter_map(|it| it.to_bytes().ok());
    check(exchange, &certified.chain([blob]).collect::<Vec<_>>())?;
    let hash = if sha512 { Sha512::digest(exchange).to_vec() } else { Sha256::digest(exchange).to_vec() };
    let signature: Signature = match (key.key_data(), &algorithm) {
        (KeypairData::Rsa(pair), Algorithm::Rsa { hash: Some(with) }) => (pair, Some(*with)).try_sign(&hash),
        (KeypairData::Rsa(_), _) => return Err("an RSA signature with SHA-1"),
        (pair, _) => pair.try_sign(&hash),
    }
    .map_err(|_| "a host key that does not sign")?;
    let signature = signature.encode_vec().map_err(|_| "a signature that does not encode")?;
    Ok(Signed { hash, signature })
}

/// Whether keys of one algorithm sign by the other: RSA keys do so with either hash.
pub(super) fn same_kind(key: &Algorithm, algorithm: &Algorithm) -> bool {
    key == algorithm || matches!((key, algorithm), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
}

/// As which `host_keys` the server may show itself: a key, or a certificate of it.
/// `string V_C, string V_S, string I_C, string I_S, string K_S, string e, string f, K`.
fn check(exchange: &[u8], host_keys: &[Vec<u8>]) -> Result<(), &'static str> {
    let mut rest = exchange;
    let mut next = || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (field, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rest = tail;
        Some(field)
    };
    let fields: Option<[&[u8]; 8]> =
        (|| Some([next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?]))();
    let [client, server, client_init, server_init, key, client_share, server_share, secret] =
        fields.ok_or("no record of a key exchange")?;
    let is_identification = (client.starts_with(b"SSH-2.0-") || client.starts_with(b"SSH-1.99-"))
        && client.len() <= MAX_IDENTIFICATION;
    if !rest.is_empty()
        || !is_identification
        || server != policy::IDENTIFICATION.as_bytes()
        || client_init.first() != Some(&KEXINIT)
        || server_init.first() != Some(&KEXINIT)
        || [client_share, server_share, secret].iter().any(|part| part.is_empty())
    {
        return Err("no record of a key exchange");
    }
    if !host_keys.iter().any(|known| known == key) {
        return Err("an exchange of another host key");
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use russh::keys::signature::Verifier;
    use russh::keys::ssh_encoding::Decode;

    use super::*;
    use crate::ssh::host_keys;

    pub(crate) fn record(key: &PrivateKey, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
        let mut fields: Vec<Vec<u8>> = vec![
            b"SSH-2.0-OpenSSH_9.2".to_vec(),
            policy::IDENTIFICATION.into(),
            vec![KEXINIT, 1],
            vec![KEXINIT, 2],
            key.public_key().to_bytes().unwrap(),
            vec![3; 32],
            vec![4; 32],
            vec![5; 32],
        ];
        change(&mut fields);
        let length = |field: &Vec<u8>| u32::try_from(field.len()).unwrap().to_be_bytes();
        fields.iter().flat_map(|field| [&length(field)[..], field].concat()).collect()
    }

    #[test]
    fn the_record_of_an_exchange_is_signed() {
        let keys = [host_keys::generate().unwrap()];
        let record = record(&keys[0], |_| {});
        for sha512 in [false, true] {
            let signed = sign(&keys, &[], "ssh-ed25519", sha512, &record).unwrap();
            assert_eq!(signed.hash.len(), if sha512 { 64 } else { 32 });
            let signature = Signature::decode(&mut &signed.signature[..]).unwrap();
            Verifier::verify(keys[0].public_key(), &signed.hash, &signature).unwrap();
        }
    }

    #[test]
    fn nothing_else_is_signed() {
        let keys = [host_keys::generate().unwrap()];
        let other = host_keys::generate().unwrap();
        let refused = |bytes: &[u8]| sign(&keys, &[], "ssh-ed25519", true, bytes).is_err();
        let sshsig = [&b"SSHSIG\0\0\0\x04file\0\0\0\0\0\0\0\x06sha256\0\0\0\x20"[..], &[7; 32]].concat();
        assert_eq!(sshsig.len(), 64);
        assert!(refused(&sshsig) && refused(&[0; 32]) && refused(&[]));
        assert!(refused(&record(&other, |_| {})));
        for (at, field) in [
            (0, b"GET / HTTP/1.0".to_vec()),
            (0, [b"SSH-2.0-".to_vec(), vec![b'x'; 300]].concat()),
            (1, b"SSH-2.0-OpenSSH_9.2".to_vec()),
            (2, vec![21]),
            (3, vec![]),
            (7, vec![]),
        ] {
            assert!(refused(&record(&keys[0], |fields| fields[at] = field.clone())), "{at} {field:?}");
        }
        assert!(refused(&record(&keys[0], |fields| fields.push(vec![1]))));
        assert!(refused(&record(&keys[0], |fields| drop(fields.pop()))));
        let whole = record(&keys[0], |_| {});
        for algorithm in ["ssh-rsa", "rsa-sha2-512", "ssh-dss", "nonsense"] {
            assert!(sign(&keys, &[], algorithm, false, &whole).is_err(), "{algorithm}");
        }
    }
}
