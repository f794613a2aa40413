//! Certificates of users (OpenSSH's `PROTOCOL.certkeys`): whom an authority vouches for, until when, and
//! what it lets them do.

use std::net::IpAddr;

use russh::keys::Certificate;
use russh::keys::ssh_key::PublicKey;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;

use super::authorized_keys::{self, Options};
use super::policy;

/// What the certificate allows to whoever logs in as one of `principals`.
///
/// The caller has verified that the client holds the certified key.
///
/// # Errors
/// Why it is refused, for the log.
pub fn check(
    certificate: &Certificate,
    authority: &KeyData,
    principals: &[&str],
    source: IpAddr,
    now: i64,
) -> Result<Options, String> {
    if certificate.signature_key() != authority {
        return Err("is of another authority".into());
    }
    if !policy::signs_well(&PublicKey::new(authority.clone(), ""), &certificate.signature().algorithm()) {
        return Err("is signed by an algorithm or a key that is too weak".into());
    }
    if certificate.verify_signature().is_err() {
        return Err("has a wrong signature".into());
    }
    if certificate.cert_type() != CertType::User {
        return Err("is one of a host".into());
    }
    let now = u64::try_from(now).unwrap_or(0);
    if now < certificate.valid_after() {
        return Err("is not valid yet".into());
    }
    if now >= certificate.valid_before() {
        return Err("is not valid any more".into());
    }
    // One without principals would be good for everybody; OpenSSH refuses it for `TrustedUserCAKeys` too.
    if !certificate.valid_principals().iter().any(|name| principals.contains(&name.as_str())) {
        return Err(format!("is not for {}", principals.join(" or ")));
    }
    let mut options = Options::nothing();
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" => options.command = Some(value.clone()),
            "source-address" => {
                if !authorized_keys::from_networks(value, source) {
                    return Err(format!("may not be used from {source}"));
                }
            }
            "verify-required" => options.verification = true,
            _ => return Err("has a critical option that this server does not know".into()),
        }
    }
    for name in certificate.extensions().keys() {
        match name.as_str() {
            "permit-pty" => options.pty = true,
            "permit-port-forwarding" => options.port_forwarding = true,
            "permit-agent-forwarding" => options.agent_forwarding = true,
            "no-touch-required" => options.touch = false,
            // An extension that is not known is passed over, as the document asks.
            _ => {}
        }
    }
    Ok(options)
}

/// What the certificate is, for the log.
pub fn describe(certificate: &Certificate) -> String {
    let authority = PublicKey::new(certificate.signature_key().clone(), "");
    let id: String = certificate.key_id().chars().take(64).collect();
    format!(
        "certificate {id:?} serial {} of {}",
        certificate.serial(),
        super::host_keys::fingerprint(&authority)
    )
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;

    use super::*;
    use crate::ssh::host_keys;

    fn certificate(authority: &PrivateKey, change: impl FnOnce(&mut Builder)) -> Certificate {
        let key = host_keys::generate().unwrap();
        let mut builder = Builder::new(vec![7; 16], key.public_key().key_data().clone(), 1000, 2000).unwrap();
        builder.serial(42).unwrap().key_id("who").unwrap();
        change(&mut builder);
        builder.sign(authority).unwrap()
    }

    fn user(builder: &mut Builder) -> &mut Builder {
        builder.cert_type(CertType::User).unwrap().valid_principal("root").unwrap()
    }

    #[test]
    fn a_certificate_allows_what_it_names_where_and_when_it_says() {
        let (ca, other) = (host_keys::generate().unwrap(), host_keys::generate().unwrap());
        let key = ca.public_key().key_data();
        let here = "192.0.2.1".parse().unwrap();
        let check = |it: &Certificate, now| super::check(it, key, &["root"], here, now);
        let plain = certificate(&ca, |b| drop(user(b).extension("permit-pty", "").map(|_| ())));
        let options = check(&plain, 1500).unwrap();
        assert!(options.pty && !options.port_forwarding && !options.agent_forwarding && options.touch);
        assert_eq!(options.command, None);
        for (now, why) in [(999, "not valid yet"), (2000, "not valid any more")] {
            assert!(check(&plain, now).unwrap_err().contains(why));
        }
        assert!(super::check(&plain, key, &["admin"], here, 1500).unwrap_err().contains("not for admin"));
        assert!(super::check(&plain, other.public_key().key_data(), &["root"], here, 1500).is_err());
        assert!(describe(&plain).starts_with("certificate \"who\" serial 42 of SHA256:"));
        let forced = certificate(&ca, |b| drop(user(b).critical_option("force-command", "id").map(|_| ())));
        assert_eq!(check(&forced, 1500).unwrap().command.as_deref(), Some("id"));
        for (networks, admitted) in [
            ("192.0.2.0/24,::1", true),
            ("192.0.2.1", true),
            ("10.0.0.0/8", false),
            ("", false),
            ("x", false),
        ] {
            let bound =
                certificate(&ca, |b| drop(user(b).critical_option("source-address", networks).map(|_| ())));
            assert_eq!(check(&bound, 1500).is_ok(), admitted, "{networks}");
        }
        let unknown = certificate(&ca, |b| drop(user(b).critical_option("x@y", "z").map(|_| ())));
        assert!(check(&unknown, 1500).unwrap_err().contains("critical option"));
        let host = certificate(&ca, |b| {
            b.cert_type(CertType::Host).unwrap().valid_principal("root").unwrap();
        });
        assert!(check(&host, 1500).unwrap_err().contains("of a host"));
        let everybody = certificate(&ca, |b| {
            b.cert_type(CertType::User).unwrap().all_principals_valid().unwrap();
        });
        assert!(check(&everybody, 1500).unwrap_err().contains("not for root"));
    }

    #[test]
    fn a_changed_certificate_is_refused() {
        let ca = host_keys::generate().unwrap();
        let key = ca.public_key().key_data();
        let bytes =
            certificate(&ca, |b| drop(user(b).extension("permit-pty", "").map(|_| ()))).to_bytes().unwrap();
        let here = "192.0.2.1".parse().unwrap();
        for at in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                if let Ok(it) = Certificate::from_bytes(&changed) {
                    assert!(check(&it, key, &["root"], here, 1500).is_err(), "byte {at}");
                }
            }
        }
    }
}
