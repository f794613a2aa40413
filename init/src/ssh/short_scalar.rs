//! Private keys of ECDSA whose number is short. OpenSSH writes it as an mpint (RFC 4251 section 5; PROTOCOL.key), so
//! without the zeros that it may begin with, and the library takes none below 32 bytes: of the keys for P-256 that
//! ssh-keygen makes, one in 256.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::encoding::pem::{DecodePem, PemLabel};
use russh::keys::ssh_key::encoding::{Decode, Error, Reader};
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Bytes of a number of P-256, the shortest there is.
const NUMBER: usize = 32;
/// What pads the private part to a whole block, where there is no cipher.
const PADDING: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// A key's bytes, whatever they say.
struct Raw(Zeroizing<Vec<u8>>);

impl Decode for Raw {
    type Error = Error;

    fn decode(reader: &mut impl Reader) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new(vec![0; reader.remaining_len()]);
        reader.read(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl PemLabel for Raw {
    const PEM_LABEL: &'static str = PrivateKey::PEM_LABEL;
}

/// A key, its number filled up with zeros; `None` where that is not what is the matter with it.
pub(super) fn parse(text: &str) -> Option<PrivateKey> {
    let raw = Raw::decode_pem(text).ok()?;
    PrivateKey::from_bytes(&filled(&raw.0)?).ok()
}

fn filled(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let [cipher, _kdf, _options] = [string(&mut rest)?, string(&mut rest)?, string(&mut rest)?];
    let (_keys, mut rest) = rest.split_first_chunk::<4>().filter(|_| cipher == b"none")?;
    string(&mut rest)?;
    let head = bytes.get(..bytes.len() - rest.len())?;
    let mut private = string(&mut rest)?;
    let (checks, after) = private.split_first_chunk::<8>()?;
    private = after;
    let kind = string(&mut private).filter(|kind| *kind == b"ecdsa-sha2-nistp256")?;
    let [curve, point, number] = [string(&mut private)?, string(&mut private)?, string(&mut private)?];
    let number = Some(number).filter(|n| (1..NUMBER).contains(&n.len()))?;
    let comment = string(&mut private)?;

    // At its full size from the start: a vector that grows leaves copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() + NUMBER + PADDING.len()));
    let mut inner = Zeroizing::new(Vec::with_capacity(bytes.len() + NUMBER + PADDING.len()));
    inner.extend_from_slice(checks);
    put(&mut inner, &[kind])?;
    put(&mut inner, &[curve])?;
    put(&mut inner, &[point])?;
    put(&mut inner, &[[0; NUMBER].get(number.len()..)?, number])?;
    put(&mut inner, &[comment])?;
    let padding = inner.len().next_multiple_of(PADDING.len()) - inner.len();
    inner.extend(PADDING.iter().take(padding));
    out.extend_from_slice(head);
    put(&mut out, &[&inner])?;
    Some(out)
}

/// The next string, of which its length is before it.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (it, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = tail;
    Some(it)
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) -> Option<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by ssh-keygen, the 927th of as many.
    const SHORT: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS
1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQTe3TFtRlSbAR7jX/L+/qxDqd4ZUXvL
Pu1PKdir7p4eRLjnZDnldoS4y7fmxaTKrghzjkFdgHZq7VQnL1SjRpjQAAAAmL0yply9Mq
ZcAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBN7dMW1GVJsBHuNf
8v7+rEOp3hlRe8s+7U8p2Kvunh5EuOdkOeV2hLjLt+bFpMquCHOOQV2AdmrtVCcvVKNGmN
AAAAAfDTBEh8qr//jpCxQ42qaMu3nfw7ZHKCGVkCaTiwo42QAAAAAB
-----END OPENSSH PRIVATE KEY-----
";
    const PUBLIC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBN7dMW1GVJsBHuNf8v7+\
        rEOp3hlRe8s+7U8p2Kvunh5EuOdkOeV2hLjLt+bFpMquCHOOQV2AdmrtVCcvVKNGmNA=";

    #[test]
    fn a_short_number_is_filled_up() {
        assert!(PrivateKey::from_openssh(SHORT).is_err(), "the library takes it: this room can go");
        let key = parse(SHORT).unwrap();
        assert_eq!(key.public_key().to_openssh().unwrap().trim(), PUBLIC);
        // What it writes is what ssh-keygen knows by the same public half.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        key.write_openssh_file(&path, russh::keys::ssh_key::LineEnding::LF).unwrap();
        let out = std::process::Command::new("ssh-keygen").arg("-yf").arg(&path).output().unwrap();
        assert!(String::from_utf8_lossy(&out.stdout).starts_with(PUBLIC), "{out:?}");
    }

    #[test]
    fn anything_else_is_left_to_the_library() {
        assert!(parse("").is_none() && parse(&SHORT.replace("b3Blbn", "b3Bl")).is_none());
        for end in 0..SHORT.len() {
            assert!(parse(&SHORT[..end]).is_none() || end + 2 > SHORT.len(), "{end}");
        }
        let long = super::super::host_keys::generate().unwrap();
        assert!(parse(&long.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap()).is_none());
    }
}
