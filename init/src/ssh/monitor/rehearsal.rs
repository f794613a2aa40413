//! A connection whose client is bytes, for what looks for bytes that do harm: the whole of what the process of a
//! connection does with its client, beside a monitor that lets everybody in and starts nothing. Ciphers are left
//! out (the client of a rehearsal wants `none`, which no machine offers), so that what is behind them is reached.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::keys::PrivateKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::messages::{List, MAX_MESSAGE, Reply, Request};
use super::{Client, exchange};
use crate::ssh::protocol::{Protocol, Shared};
use crate::ssh::{host_keys, policy};
use crate::sys::{ready, seqpacket};

/// Messages of RFC 4253, section 12.
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const ECDH_INIT: u8 = 30;
/// What a conversation may take: its client never waits.
const LIMIT: Duration = Duration::from_secs(5);

/// A packet in the clear (RFC 4253, section 6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 12 - (payload.len() + 5) % 8;
    let length = u32::try_from(1 + payload.len() + padding).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(u8::try_from(padding).unwrap_or(4));
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

fn string(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// A client's side of an exchange of keys.
fn exchange_of_keys() -> Vec<u8> {
    let mut init = vec![KEXINIT];
    init.extend([7; 16]);
    let none: &[u8] = b"none";
    for list in [b"curve25519-sha256", &b"ssh-ed25519"[..], none, none, none, none, none, none, b"", b""] {
        string(list, &mut init);
    }
    init.extend([0; 5]);
    let mut start = vec![ECDH_INIT];
    // The base point of the curve, as anybody's public key.
    let mut point = [0; 32];
    if let Some(first) = point.first_mut() {
        *first = 9;
    }
    string(&point, &mut start);
    [b"SSH-2.0-rehearsal\r\n".to_vec(), packet(&init), packet(&start), packet(&[NEWKEYS])].concat()
}

/// What the client sends: after a 0 the bytes as they are; else, behind an exchange of keys, messages that have
/// their lengths before them in two bytes.
fn said(bytes: &[u8]) -> Vec<u8> {
    let Some((kind, mut rest)) = bytes.split_first() else { return Vec::new() };
    if *kind == 0 {
        return rest.to_vec();
    }
    let mut said = exchange_of_keys();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (message, left) = behind.split_at(length);
        said.extend(packet(message));
        rest = left;
    }
    said
}

/// Yes to whoever would come in, and no to all that would be done.
fn answer(request: &Request, key: &PrivateKey) -> Option<Reply> {
    Some(match request {
        Request::Sign { algorithm, sha512, exchange: record } => {
            let keys = std::slice::from_ref(key);
            let signed = exchange::sign(keys, &[], algorithm, *sha512, record).ok()?;
            Reply::Signature { signature: signed.signature }
        }
        Request::Offer { .. } => Reply::Accepted {},
        Request::PublicKey { .. } | Request::Password { .. } => Reply::Admitted { pty: true },
        Request::Start { .. } => Reply::Failed {},
        Request::Find { .. } => {
            Reply::Found { addresses: List(Vec::new()), servers: List(Vec::new()), search: List(Vec::new()) }
        }
        Request::Open { .. } => Reply::NotOpened { error: 1 },
        Request::Came { .. } => Reply::Refused {},
        Request::Signal { .. }
        | Request::HangUp { .. }
        | Request::Farewell { .. }
        | Request::Remove { .. } => {
            return None;
        }
    })
}

/// Answers until the other end is gone.
async fn monitor(socket: OwnedFd, key: &PrivateKey) -> Option<()> {
    let socket = ready::register(socket).ok()?;
    loop {
        let mut readable = socket.readable().await.ok()?;
        let Ok(received) = readable.try_io(|socket| seqpacket::receive(socket, MAX_MESSAGE, false)) else {
            continue;
        };
        let (bytes, _) = received.ok()??;
        // What our own side asks is well formed.
        if let Some(reply) = answer(&Request::decode(&bytes)?, key) {
            seqpacket::send(socket.get_ref(), &reply.encode(), &[]).ok()?;
        }
    }
}

/// Has such a conversation; what was answered, or nothing where none could be had.
#[doc(hidden)]
pub fn converse(bytes: &[u8]) -> Option<Vec<u8>> {
    static KEY: OnceLock<Option<PrivateKey>> = OnceLock::new();
    let key = KEY.get_or_init(|| host_keys::generate().ok()).as_ref()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let (near, far) = seqpacket::pair().ok()?;
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let none = ["none".to_string()];
        let config = Arc::new(policy::config(vec![key.public_key().clone()], Vec::new(), &none));
        let protocol = Protocol { shared: Shared::new(Client::new(near).ok()?) };
        let serve = async move {
            if let Ok(running) = russh::server::run_stream(config, server, protocol).await {
                let _ = running.await;
            }
        };
        let talk = async {
            let _ = client.write_all(&said(bytes)).await;
            let _ = client.shutdown().await;
            let mut heard = Vec::new();
            let _ = client.read_to_end(&mut heard).await;
            heard
        };
        let all = async {
            tokio::select! {
                (heard, ()) = async { tokio::join!(talk, serve) } => heard,
                // It ends before the last words of the connection are read.
                _ = async { (monitor(far, key).await, std::future::pending::<()>().await) } => Vec::new(),
            }
        };
        tokio::time::timeout(LIMIT, all).await.ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the messages in what a server has sent in the clear.
    fn messages(heard: &[u8]) -> Vec<u8> {
        let mut rest = &heard[heard.iter().position(|b| *b == b'\n').unwrap() + 1..];
        let mut numbers = Vec::new();
        while rest.len() > 5 {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            numbers.push(rest[5]);
            rest = &rest[4 + length..];
        }
        numbers
    }

    #[test]
    fn what_is_behind_the_ciphers_is_reached() {
        let seed = include_bytes!("../../../fuzz/corpus/connection/session");
        let numbers = messages(&converse(seed).unwrap());
        // Keys are exchanged; then a login, a channel, a terminal that is taken and a command that fails.
        assert_eq!(numbers[..3], [20, 31, 21], "{numbers:?}");
        for (number, what) in
            [(6, "service"), (52, "login"), (91, "channel"), (99, "terminal"), (100, "command")]
        {
            assert!(numbers.contains(&number), "{what}: {numbers:?}");
        }
        // Nothing is said to one who does not speak the protocol.
        let heard = converse(b"\0GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(!heard.windows(4).any(|w| w == b"HTTP"), "{heard:?}");
    }
}
