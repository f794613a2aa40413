//! Password hashes as crypt(5) writes them: which are taken, and how much work they may ask for.
//!
//! A hash says itself how costly its check is, and some are hostile: `rounds=999999999` keeps a
//! processor busy for a quarter of an hour, a yescrypt hash can ask for a terabyte of memory. The bounds
//! here let every check end within some two seconds on server hardware and in 64 MiB, so that a few
//! at a time neither starve nor exhaust a rescue that lives in RAM.

/// A scheme that the machine verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `$6$`.
    Sha512,
    /// `$5$`.
    Sha256,
    /// `$y$`.
    Yescrypt,
    /// `$2b$`, `$2a$` and `$2y$`: one algorithm for passwords without NUL.
    Bcrypt,
}

/// Longest hash in bytes: yescrypt's with the longest salt is below 150.
const MAX_HASH: usize = 256;
/// crypt(5) knows 1,000 to 999,999,999 rounds. The most that is in use by tools' defaults is
/// passlib's 656,000.
const SHA_ROUNDS: std::ops::RangeInclusive<u32> = 1000..=1_000_000;
/// Most memory of yescrypt: cost 7 of crypt_gensalt(3), four times the default of Debian and Fedora.
const MAX_YESCRYPT_BYTES: u64 = 64 << 20;
/// Least and most bcrypt cost (log2 of the rounds); 12 is today's usual one, 15 takes some 2 s.
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 4..=15;

/// Says which scheme `hash` is of, if it is whole and its check may be afforded.
///
/// # Errors
/// Why it is refused, without any of its characters.
pub fn check(hash: &str) -> Result<Scheme, &'static str> {
    if hash.len() > MAX_HASH {
        return Err("longer than any crypt(5) hash");
    }
    // crypt(5): hashes are printable ASCII without `:`, `;`, `*`, `!` and `\`.
    if hash.bytes().any(|b| !b.is_ascii_graphic() || b":;*!\\".contains(&b)) {
        return Err("has a character that no crypt(5) hash has");
    }
    let mut fields = hash.split('$');
    let (Some(""), Some(scheme)) = (fields.next(), fields.next()) else {
        return Err("not a $6$, $5$, $y$ or $2b$ hash (a plain password is never taken)");
    };
    let fields: Vec<&str> = fields.collect();
    match scheme {
        "6" => sha(&fields, 86).map(|()| Scheme::Sha512),
        "5" => sha(&fields, 43).map(|()| Scheme::Sha256),
        "y" => yescrypt(&fields).map(|()| Scheme::Yescrypt),
        "2b" | "2a" | "2y" => bcrypt(&fields).map(|()| Scheme::Bcrypt),
        _ => Err("not a $6$, $5$, $y$ or $2b$ hash (a plain password is never taken)"),
    }
}

/// `[rounds=N$]salt$digest`, the salt of 1 to 16 characters.
fn sha(fields: &[&str], digest_length: usize) -> Result<(), &'static str> {
    let (rounds, salt, digest) = match fields {
        [salt, digest] => (None, salt, digest),
        [rounds, salt, digest] => (Some(rounds), salt, digest),
        _ => return Err("not a whole hash: salt and digest are separated by $"),
    };
    if let Some(rounds) = rounds {
        let number = rounds.strip_prefix("rounds=").ok_or("not a whole hash: rounds= or a salt is wrong")?;
        if !number.parse().is_ok_and(|n| SHA_ROUNDS.contains(&n)) || number.starts_with(['0', '+']) {
            return Err("asks for too few or too many rounds: 1000 to 1000000 are taken");
        }
    }
    if !(1..=16).contains(&salt.len()) || !is_base64(salt) {
        return Err("has a salt that is not 1 to 16 letters, digits, . or /");
    }
    whole(digest, digest_length)
}

/// `params$salt$digest`, the parameters as crypt_gensalt(3) writes them: `j`, N and r.
fn yescrypt(fields: &[&str]) -> Result<(), &'static str> {
    let [parameters, salt, digest] = fields else {
        return Err("not a whole hash: parameters, salt and digest are separated by $");
    };
    // Encodings of more than one character begin above 47: values that no crypt_gensalt(3) writes, as
    // are parallelism, time and ROM, which would follow.
    let (b'j', Some(n), Some(r), None) = (
        parameters.bytes().next().unwrap_or(0),
        small_number(parameters, 1),
        small_number(parameters, 2),
        parameters.as_bytes().get(3),
    ) else {
        return Err("has yescrypt parameters that crypt_gensalt(3) never writes");
    };
    let bytes = 1u64.checked_shl(n).and_then(|n| n.checked_mul(128 * u64::from(r)));
    if n > 40 || bytes.is_none_or(|bytes| bytes > MAX_YESCRYPT_BYTES) {
        return Err("asks for too much memory: yescrypt cost 7 (64 MiB) is the most that is taken");
    }
    if n < 10 || r < 8 {
        return Err("has a yescrypt cost below that of crypt_gensalt(3)");
    }
    if !(1..=86).contains(&salt.len()) || !is_base64(salt) {
        return Err("has a salt that is not 1 to 86 letters, digits, . or /");
    }
    whole(digest, 43)
}

/// A number of yescrypt's encoding that is one character long; N (as log2) and r begin at 1.
fn small_number(text: &str, at: usize) -> Option<u32> {
    let value = match *text.as_bytes().get(at)? {
        b @ b'.'..=b'9' => b - b'.',
        b @ b'A'..=b'Z' => b - b'A' + 12,
        b @ b'a'..=b'z' => b - b'a' + 38,
        _ => return None,
    };
    (value <= 47).then_some(u32::from(value) + 1)
}

/// `cost$` and 53 characters of salt and digest.
fn bcrypt(fields: &[&str]) -> Result<(), &'static str> {
    let [cost, rest] = fields else {
        return Err("not a whole hash: cost and digest are separated by $");
    };
    if cost.len() != 2 || !cost.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has a bcrypt cost that is not two digits");
    }
    if !cost.parse().is_ok_and(|cost| BCRYPT_COST.contains(&cost)) {
        return Err("asks for a bcrypt cost that is not taken: 04 to 15 are");
    }
    whole(rest, 53)
}

fn whole(digest: &str, length: usize) -> Result<(), &'static str> {
    if digest.len() == length && is_base64(digest) {
        Ok(())
    } else {
        Err("not a whole hash: its digest has the wrong length or a wrong character")
    }
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_write_is_taken() {
        for (hash, scheme) in [
            (
                "$6$U3k8SOZ0.hRbyv2b$2WF2ayoVzCGhVQSKAPmInDLnhB0buEMPtLEqzrt383VhKjCQhcvBXC2R7uLve3u.LYp1Gr6Es2nOZLi0bpqxv0",
                Scheme::Sha512,
            ),
            (
                "$6$rounds=1500$c0rRLneQ97jAHzC8$dleDR.nAIPfxSh9h64HwUnCAu2WbYdYS7bPXLoWpbAKWOjg19irdKJxdWFS7Gz0eYWBzzlC5ZLEMwWT2..iEG/",
                Scheme::Sha512,
            ),
            ("$5$.vSs8kFb.c5cuHBi$FXbTnYsLY4TMDtxGD7TYAFvtj1iDlyJNF6vwWDOgVz6", Scheme::Sha256),
            ("$y$j9T$fstNqhgYoubnmc2FkFyho.$TAnGmytgt1ugmhxLhw7P1Y0wleoWMhmRWByAtLDg.C0", Scheme::Yescrypt),
            ("$y$j75$n0nsCQTojCjVJRAGVg7Rw/$o/yaXkstU4ZxV4.NojCEzrk1A1QoJDt8tTcU0bKEmF9", Scheme::Yescrypt),
            ("$2b$05$L1v5SJDC.mu9CWN7.ebReOyrBmMkvZnge0wGSQwmokvTG8m373bMO", Scheme::Bcrypt),
            ("$2a$05$TKKMeF4Yhs2Qx2ViHfIIWe.7HpgfVF7XTg0ytQBkPU2RU7keRVuQG", Scheme::Bcrypt),
        ] {
            assert_eq!(check(hash), Ok(scheme), "{hash}");
        }
    }

    #[test]
    fn hostile_costs_are_refused_with_the_reason() {
        let digest = "a".repeat(86);
        for (hash, reason) in [
            (format!("$6$rounds=999999999$ab${digest}"), "rounds"),
            (format!("$6$rounds=99999999999999999999$ab${digest}"), "rounds"),
            (format!("$6$rounds=999$ab${digest}"), "rounds"),
            (format!("$6$rounds=+5000$ab${digest}"), "rounds"),
            (format!("$5$rounds=1000001$ab${}", &digest[..43]), "rounds"),
            (format!("$y$jFT$ab${}", &digest[..43]), "memory"),
            (format!("$y$jjj$ab${}", &digest[..43]), "memory"),
            (format!("$y$j9Tz$ab${}", &digest[..43]), "never writes"),
            (format!("$y$jzz$ab${}", &digest[..43]), "never writes"),
            (format!("$y$.9T$ab${}", &digest[..43]), "never writes"),
            (format!("$2b$31${}", &digest[..53]), "cost"),
            (format!("$2b$16${}", &digest[..53]), "cost"),
            (format!("$2b$03${}", &digest[..53]), "cost"),
        ] {
            assert!(check(&hash).unwrap_err().contains(reason), "{hash}: {:?}", check(&hash));
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        // An empty digest would equal the empty digest of any password.
        for hash in [
            "",
            "$",
            "$$",
            "$6$",
            "$6$ab",
            "$6$ab$",
            "$6$$",
            "$y$j9T$ab$",
            "$y$$$",
            "$y$j$ab$cd",
            "$2b$05$",
            "$1$ab$cd",
            "x",
            "hunter2",
            "!",
            "*",
            "!$6$ab$cd",
            "$6$ab$cd",
            "$6$ab\n$cd",
            "$6$é$x",
            "$5$a:b$c",
        ] {
            assert!(check(hash).is_err(), "{hash}");
        }
        assert!(check(&"$".repeat(5000)).is_err());
    }
}
