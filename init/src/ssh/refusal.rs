//! Why a client that has no modern algorithms was turned away, for the log, and what would let it in.

use rescue_schema::credentials::OLDER_ALGORITHMS;
use russh::AlgorithmKind;

/// Most of the client's names that are told.
const TOLD: usize = 6;
/// Longest of them in bytes; the longest that has a meaning has 46.
const LONGEST: usize = 64;

/// What the log says of an end of a connection.
pub(super) fn explain(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(russh::Error::NoCommonAlgo { kind, theirs, .. }) => no_common(kind, theirs),
        _ => format!("{error:#}"),
    }
}

fn no_common(kind: &AlgorithmKind, theirs: &[String]) -> String {
    let what = match kind {
        AlgorithmKind::Kex => "key exchange",
        AlgorithmKind::Key => "host key",
        AlgorithmKind::Cipher => "cipher",
        AlgorithmKind::Mac => "MAC",
        AlgorithmKind::Compression => "compression",
    };
    // The strongest is the first of its kind there.
    let older = OLDER_ALGORITHMS.iter().find(|name| theirs.iter().any(|their| their == *name));
    let way = match (kind, older) {
        (AlgorithmKind::Key, _) => "inject a key of a type that the client knows".into(),
        (_, Some(name)) => format!("\"ssh\":{{\"algorithms\":[\"{name}\"]}} in device.json lets it in"),
        (_, None) => "it knows none that is safe enough".into(),
    };
    let names = theirs.iter().filter(|name| name.len() <= LONGEST).take(TOLD).map(String::as_str);
    let names = names.collect::<Vec<_>>().join(",");
    format!("no {what} in common: {way}; the client has {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: AlgorithmKind, theirs: &[&str]) -> String {
        let theirs = theirs.iter().map(ToString::to_string).collect();
        explain(&russh::Error::NoCommonAlgo { kind, ours: Vec::new(), theirs }.into())
    }

    #[test]
    fn the_strongest_that_would_do_is_named() {
        assert_eq!(
            said(AlgorithmKind::Mac, &["hmac-md5", "hmac-sha1", "hmac-sha2-256"]),
            "no MAC in common: \"ssh\":{\"algorithms\":[\"hmac-sha2-256\"]} in device.json lets it in; \
             the client has hmac-md5,hmac-sha1,hmac-sha2-256"
        );
        assert!(said(AlgorithmKind::Cipher, &["3des-cbc"]).contains("none that is safe enough"));
        assert!(said(AlgorithmKind::Key, &["ssh-dss"]).contains("inject a key of a type"));
        let long = "x".repeat(10_000);
        assert!(said(AlgorithmKind::Kex, &[long.as_str(); 100]).len() < 100);
        assert_eq!(explain(&anyhow::anyhow!("a").context("b")), "b: a");
    }
}
