//! Passwords against crypt(5) hashes.
//!
//! The time of a check tells nothing of the account: where there is no hash to check against, one of
//! the same cost is computed and its result thrown away.

use rescue_schema::crypt::{self, Scheme};
use sha_crypt::PasswordVerifier;
use subtle::Choice;

/// Longest password in bytes that is hashed. The work of `$5$` and `$6$` grows with the length.
pub const MAX_PASSWORD: usize = 1024;

/// Checked against where no account has a hash: `$6$` at its usual 5,000 rounds is what
/// `imagebuilder inject` makes. It hashes a random string that was thrown away.
const DECOY: &str = "$6$U3k8SOZ0.hRbyv2b$2WF2ayoVzCGhVQSKAPmInDLnhB0buEMPtLEqzrt383VhKjCQhcvBXC2R7uLve3u.LYp1Gr6Es2nOZLi0bpqxv0";

/// Whether `password` is the one that `hash` was made of.
///
/// False, after as much work as a real check, for no hash, a locked one (`!`, `*`) and one that
/// [`crypt::check`] refuses. False at once, because that depends on nothing secret, for a password that
/// is empty, over 1024 bytes or holds a NUL, which no crypt(3) hashes.
pub fn verify(hash: Option<&str>, password: &[u8]) -> bool {
    verify_like(hash, DECOY, password)
}

/// As [`verify`], with the hash whose cost is paid when `hash` is none. It should be that of an
/// account that exists, so that its scheme and cost are those of a real check.
pub(super) fn verify_like(hash: Option<&str>, decoy: &str, password: &[u8]) -> bool {
    if password.is_empty() || password.len() > MAX_PASSWORD || password.contains(&0) {
        return false;
    }
    let usable = hash.filter(|hash| crypt::check(hash).is_ok());
    let matches = Choice::from(u8::from(compare(usable.unwrap_or(decoy), password)));
    let real = Choice::from(u8::from(usable.is_some()));
    (matches & real).into()
}

/// The comparisons of the digests themselves are in constant time, in each of the crates.
fn compare(hash: &str, password: &[u8]) -> bool {
    match crypt::check(hash) {
        Ok(Scheme::Sha512 | Scheme::Sha256) => {
            sha_crypt::ShaCrypt::default().verify_password(password, hash).is_ok()
        }
        Ok(Scheme::Yescrypt) => {
            yescrypt::PasswordVerifier::<str>::verify_password(&yescrypt::Yescrypt::default(), password, hash)
                .is_ok()
        }
        // As everywhere, bcrypt sees the first 72 bytes alone.
        Ok(Scheme::Bcrypt) => bcrypt::verify(password, hash).unwrap_or(false),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::time::ClockId;

    use super::*;

    /// Made by mkpasswd 5.5 (libxcrypt 4.4) and openssl 3.0.
    const VECTORS: &[(&str, &str)] = &[
        (
            "correct horse",
            "$6$U3k8SOZ0.hRbyv2b$2WF2ayoVzCGhVQSKAPmInDLnhB0buEMPtLEqzrt383VhKjCQhcvBXC2R7uLve3u.LYp1Gr6Es2nOZLi0bpqxv0",
        ),
        (
            "correct horse",
            "$6$abc$dv7vAygfDghQeO8lNAuLv4y4HAQXw9d6a14dcjFGfTijFc0S6MgzM7g53hZv6MaGDXhNpGxhpXakWuTlqHtzn.",
        ),
        (
            "grün§ß",
            "$6$rounds=1500$c0rRLneQ97jAHzC8$dleDR.nAIPfxSh9h64HwUnCAu2WbYdYS7bPXLoWpbAKWOjg19irdKJxdWFS7Gz0eYWBzzlC5ZLEMwWT2..iEG/",
        ),
        ("correct horse", "$5$.vSs8kFb.c5cuHBi$FXbTnYsLY4TMDtxGD7TYAFvtj1iDlyJNF6vwWDOgVz6"),
        ("correct horse", "$5$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6"),
        ("correct horse", "$y$j9T$fstNqhgYoubnmc2FkFyho.$TAnGmytgt1ugmhxLhw7P1Y0wleoWMhmRWByAtLDg.C0"),
        ("x", "$y$j75$n0nsCQTojCjVJRAGVg7Rw/$o/yaXkstU4ZxV4.NojCEzrk1A1QoJDt8tTcU0bKEmF9"),
        ("correct horse", "$2b$05$L1v5SJDC.mu9CWN7.ebReOyrBmMkvZnge0wGSQwmokvTG8m373bMO"),
        ("correct horse", "$2a$05$TKKMeF4Yhs2Qx2ViHfIIWe.7HpgfVF7XTg0ytQBkPU2RU7keRVuQG"),
    ];

    #[test]
    fn known_hashes() {
        for (password, hash) in VECTORS {
            assert!(verify(Some(hash), password.as_bytes()), "{hash}");
            assert!(!verify(Some(hash), b"wrong horse"), "{hash}");
            assert!(!verify(Some(hash), format!("{password} ").as_bytes()), "{hash}");
            assert!(!verify(Some(hash), format!("{password}\0").as_bytes()), "{hash}");
            assert!(!verify(Some(hash), b""), "{hash}");
        }
    }

    fn output_of(program: &str, args: &[&str], input: &str) -> String {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("starting {program} (install whois and openssl): {e}"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program} {args:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_string()
    }

    #[test]
    fn what_the_tools_make_now() {
        for password in ["p", "Tr0ub4dor & 3", "äöü🦀", &"long".repeat(17)] {
            for (program, args) in [
                ("mkpasswd", &["-s", "-m", "sha-512"][..]),
                ("mkpasswd", &["-s", "-m", "sha-512", "-R", "7000"]),
                ("mkpasswd", &["-s", "-m", "sha-256"]),
                ("mkpasswd", &["-s", "-m", "yescrypt"]),
                ("mkpasswd", &["-s", "-m", "yescrypt", "-R", "3"]),
                ("mkpasswd", &["-s", "-m", "bcrypt"]),
                ("mkpasswd", &["-s", "-m", "bcrypt-a", "-R", "4"]),
                ("openssl", &["passwd", "-6", "-stdin"]),
                ("openssl", &["passwd", "-5", "-stdin"]),
            ] {
                let hash = output_of(program, args, password);
                assert!(verify(Some(&hash), password.as_bytes()), "{program} {args:?}: {hash}");
                assert!(!verify(Some(&hash), b"wrong"), "{program} {args:?}: {hash}");
            }
        }
    }

    #[test]
    fn none_and_locked_and_damaged_are_false_even_for_the_password_of_the_decoy() {
        let yescrypt = VECTORS[5].1;
        for hash in [None, Some(""), Some("!"), Some("*"), Some("!$6$abc$x"), Some("$y$j9T$ab$"), Some("x")] {
            assert!(!verify(hash, b"correct horse"), "{hash:?}");
            assert!(!verify_like(hash, yescrypt, b"correct horse"), "{hash:?}");
        }
    }

    #[test]
    fn no_hash_costs_what_a_hash_costs() {
        let yescrypt = VECTORS[5].1;
        // Of this thread alone: the machine does other things.
        let clock = || Duration::try_from(rustix::time::clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let time = |hash| {
            let start = clock();
            verify_like(hash, yescrypt, b"wrong");
            clock() - start
        };
        time(None);
        // The least of a few runs is free of what else the machine does.
        let (none, some) = (0..5).fold((time(None), time(Some(yescrypt))), |(n, s), _| {
            (n.min(time(None)), s.min(time(Some(yescrypt))))
        });
        assert!(none * 2 > some && some * 2 > none, "{none:?} for no hash, {some:?} for one");
    }

    #[test]
    fn hostile_costs_and_lengths_end_at_once() {
        let start = Instant::now();
        let digest = "a".repeat(86);
        for hash in [
            format!("$6$rounds=999999999$ab${digest}"),
            format!("$y$jFT$abcd${}", &digest[..43]),
            format!("$2b$31${}", &digest[..53]),
        ] {
            assert!(!verify(Some(&hash), b"x"));
        }
        for (_, hash) in VECTORS {
            assert!(!verify(Some(hash), &vec![b'x'; MAX_PASSWORD + 1]));
            assert!(!verify(Some(hash), &vec![b'x'; 64 << 20]));
            verify(Some(hash), &vec![b'x'; MAX_PASSWORD]);
        }
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
