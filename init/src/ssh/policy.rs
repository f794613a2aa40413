//! What the server offers and how patient it is. Every number has its reason here.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, cipher, compression, kex, mac};

/// Time from connect to login. OpenSSH's default is 120 s; a person who must look a password up
/// manages in a minute, and held-open connections cost memory.
pub const LOGIN_GRACE: Duration = Duration::from_secs(60);
/// How the server calls itself. The listener says it, before there is a process for the connection.
pub(super) const IDENTIFICATION: &str = "SSH-2.0-Rescue";
/// Memory that a connection's process may write, in bytes, before somebody is in: some 2 MiB are used,
/// a packet has 256 KiB at most.
pub(super) const MEMORY_BEFORE_LOGIN: u64 = 32 << 20;
/// The same afterwards: what the windows of all sessions and forwarded connections may hold, and as much
/// again on its way out.
pub(super) const MEMORY: u64 = 512 << 20;
/// Descriptors of a connection's process: four a session, and as many again for what is forwarded.
pub(super) const DESCRIPTORS: u64 = 1024;
/// Sessions at once on a connection: OpenSSH allows 10, and `ansible` with ControlMaster or `rclone check`, which
/// runs a command a file, want more.
pub(super) const MAX_SESSIONS: usize = 64;
/// What a client may send to a session beyond what its program has read, in bytes: the window. Also
/// the most that the server holds for a session's input.
pub(super) const WINDOW: u32 = 2 << 20;

/// Ed25519 and ECDSA, and RSA with SHA-2 alone (RFC 8332): host keys and login keys alike. Those of
/// security keys are for logins: no host has one.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Shortest RSA key in bits (NIST SP 800-57: 112 bits of security).
const MIN_RSA: u32 = 2048;

/// Post-quantum first, and Curve25519 for clients before OpenSSH 9.9 and its like. No finite fields: who
/// needs one is older than its own security, and a stranger could make us compute in it (CVE-2002-20001).
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// No CBC, no 3DES. The client's order decides.
const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// Encrypt-then-MAC alone, for the CTR ciphers.
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// Whether a key of this algorithm is one to be trusted.
pub(super) fn accepts(algorithm: &Algorithm) -> bool {
    KEYS.contains(algorithm)
}

/// Whether a signature of this key by this algorithm is one to be trusted.
pub(super) fn signs_well(key: &PublicKey, algorithm: &Algorithm) -> bool {
    accepts(algorithm) && key.key_data().rsa().is_none_or(|rsa| rsa.key_size() >= MIN_RSA)
}

/// The ways to log in. Offered again after each refusal: a client may have another key, and a person
/// another try.
pub(super) fn methods() -> MethodSet {
    let mut methods = MethodSet::empty();
    methods.push(MethodKind::PublicKey);
    methods.push(MethodKind::Password);
    methods.push(MethodKind::KeyboardInteractive);
    methods
}

/// The configuration of a connection, whose host keys the monitor holds.
/// `more` are the names of older algorithms that the document asks for.
pub(super) fn config(keys: Vec<PublicKey>, certificates: Vec<Certificate>, more: &[String]) -> Config {
    let names = || more.iter().map(String::as_str);
    Config {
        server_id: russh::SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        methods: methods(),
        // A wrong password takes its time in the gate. A key that is refused is refused at once: a
        // client tries every key of its agent.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        external_keys: keys,
        certificates,
        window_size: WINDOW,
        manual_window: true,
        // The largest that every implementation must take is 32768 (RFC 4253 section 6.1).
        maximum_packet_size: 32768,
        // The messages of a channel are taken by the handler; nobody reads this buffer.
        channel_buffer_size: 1,
        // Output that waits to be encrypted: 16 packets, half a megabyte.
        event_buffer_size: 16,
        preferred: Preferred {
            kex: [KEX, &names().filter_map(|n| kex::Name::try_from(n).ok()).collect::<Vec<_>>()]
                .concat()
                .into(),
            key: Cow::Borrowed(KEYS),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: [CIPHERS, &names().filter_map(|n| cipher::Name::try_from(n).ok()).collect::<Vec<_>>()]
                .concat()
                .into(),
            mac: [MACS, &names().filter_map(|n| mac::Name::try_from(n).ok()).collect::<Vec<_>>()]
                .concat()
                .into(),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        // Six tries, as OpenSSH, and the first `none` that every client sends.
        max_auth_attempts: 7,
        // A session may be silent for days; a peer that is gone is found by keepalives in three minutes.
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 6,
        nodelay: true,
        ..Config::default()
    }
}
