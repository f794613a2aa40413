//! `imagebuilder inject --generate-host-key`: the key pair that the machine answers with. Its private half is
//! in the document alone; its public half is the line of `known_hosts` to publish before the boot.

use anyhow::{Context, Result, anyhow, ensure};
use rescue_schema::Secret;
use rescue_schema::credentials::Document;
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

/// Bytes of an Ed25519 private key (RFC 8032 section 5.1.5).
pub(crate) const SEED: usize = 32;
/// The port that a line of `known_hosts` does not name.
const PORT: u16 = 22;

/// Puts an Ed25519 key made of `seed` into the document. Returns its line of `known_hosts` (sshd(8)
/// `SSH_KNOWN_HOSTS FILE FORMAT`), for `hosts` or else for the document's own host name.
///
/// # Errors
/// When the document has a host key, when there is no name, or a name that a pattern of that file is not
/// made of.
pub(crate) fn add(document: &mut Document, hosts: Option<&str>, seed: &[u8; SEED]) -> Result<String> {
    ensure!(
        document.ssh.host_keys.is_empty(),
        "the document has a host key already (ssh.host_keys); remove it, or leave out --generate-host-key"
    );
    let hosts = hosts
        .or(document.device.hostname.as_deref())
        .context("no name for known_hosts; give --host NAME, or device.hostname in the document")?;
    let patterns: Vec<String> =
        hosts.split(',').map(|host| pattern(host, document.ssh.port)).collect::<Result<_>>()?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(seed));
    let pem = key.to_openssh(LineEnding::LF).map_err(|e| anyhow!("encoding the host key: {e}"))?;
    let public = key.public_key().to_openssh().map_err(|e| anyhow!("encoding the host key: {e}"))?;
    document.ssh.host_keys.push(Secret::new(pem.as_str()));
    document.validate()?;
    Ok(format!("{} {}", patterns.join(","), public.trim_end()))
}

/// As ssh(1) looks a host up: in brackets with its port, unless that is the usual one.
fn pattern(host: &str, port: u16) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    ensure!(
        !host.is_empty() && host.len() <= 253 && host.chars().all(fits),
        "--host {host:?}: not a host name or an address"
    );
    let host = host.to_ascii_lowercase();
    Ok(if port == PORT { host } else { format!("[{host}]:{port}") })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;

    use super::*;

    fn document(more: &str) -> Document {
        Document::parse(format!("{{\"version\":1{more}}}").as_bytes()).unwrap()
    }

    fn keygen(arguments: &[&str], file: &std::path::Path) -> String {
        let out = Command::new("ssh-keygen")
            .args(arguments)
            .arg("-f")
            .arg(file)
            .output()
            .expect("ssh-keygen is needed: apt-get install openssh-client");
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    #[test]
    fn ssh_keygen_reads_the_key_and_finds_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let mut document = document(r#","device":{"hostname":"db7.example"}"#);
        let line = add(&mut document, Some("db7,DB7.example,2001:db8::7"), &[7; SEED]).unwrap();
        let private = folder.path().join("key");
        let mut file =
            std::fs::File::options().create_new(true).write(true).mode(0o600).open(&private).unwrap();
        std::io::Write::write_all(&mut file, document.ssh.host_keys[0].expose_secret().as_bytes()).unwrap();
        let public = keygen(&["-y"], &private);
        let (patterns, key) = line.split_once(' ').unwrap();
        assert_eq!(patterns, "db7,db7.example,2001:db8::7");
        assert_eq!(key, public.trim_end());
        let known = folder.path().join("known_hosts");
        std::fs::write(&known, format!("{line}\n")).unwrap();
        for host in ["db7", "db7.example", "2001:db8::7"] {
            assert!(keygen(&["-F", host], &known).contains(key), "{host}");
        }
    }

    #[test]
    fn another_port_and_the_documents_own_name_are_in_the_line() {
        let mut document = document(r#","device":{"hostname":"db7"},"ssh":{"port":2222}"#);
        let line = add(&mut document, None, &[7; SEED]).unwrap();
        assert!(line.starts_with("[db7]:2222 ssh-ed25519 AAAA"), "{line}");
        // What was made is a document that the machine takes.
        Document::parse(&serde_json::to_vec(&document).unwrap()).unwrap();
    }

    #[test]
    fn a_second_key_no_name_and_a_wrong_name_are_refused() {
        let mut named = document(r#","device":{"hostname":"db7"}"#);
        add(&mut named, None, &[7; SEED]).unwrap();
        let before = named.clone();
        let why = add(&mut named, None, &[8; SEED]).unwrap_err().to_string();
        assert!(why.contains("already") && !why.contains('\n'), "{why}");
        assert_eq!(named, before);
        assert!(add(&mut document(""), None, &[7; SEED]).unwrap_err().to_string().contains("--host"));
        for wrong in
            ["", "a,", "a b", "a\n* ssh-ed25519 AAAA", "@cert-authority", "*", "!a", "|1|x", "[a]:22"]
        {
            let mut document = document("");
            assert!(add(&mut document, Some(wrong), &[7; SEED]).is_err(), "{wrong:?}");
            assert!(document.ssh.host_keys.is_empty());
        }
    }
}
