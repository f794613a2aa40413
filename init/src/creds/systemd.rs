//! systemd's credentials (its `docs/CREDENTIALS.md` and `systemd.system-credentials(7)`): names and values,
//! wherever they came from. Those that say who may enter, or what the network is, are taken.

use std::collections::BTreeMap;

use rescue_schema::Secret;
use rescue_schema::credentials::{Document, LOGIN_NAMES, Login};
use rescue_schema::crypt;

use super::base64;
use super::part::{NetworkDocument, NetworkFormat, Part};

/// A whole document of ours.
const OURS: &str = "rescue.device.json";
/// Files of systemd-networkd: `network.network.50-static` is `50-static.network`.
const NETWORK: [&str; 3] = ["network", "netdev", "link"];
/// Most names of unused credentials that are told.
const MOST_NAMES: usize = 8;

/// Credentials by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, Vec<u8>>);

/// Names only.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Credentials {
    /// Adds one; the first of a name stays.
    pub fn add(&mut self, name: &str, value: Vec<u8>) {
        self.0.entry(name.into()).or_insert(value);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what an SMBIOS string of type 11 says: `io.systemd.credential:NAME=VALUE` or
    /// `io.systemd.credential.binary:NAME=BASE64`. Other strings are somebody else's.
    ///
    /// # Errors
    /// One that is meant to be a credential and is none.
    pub fn add_string(&mut self, string: &[u8]) -> Result<(), String> {
        let Some(rest) = string.strip_prefix(b"io.systemd.credential") else { return Ok(()) };
        let (binary, rest) = match (rest.strip_prefix(b":"), rest.strip_prefix(b".binary:")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            // `io.systemd.credential-something`.
            _ => return Ok(()),
        };
        let equals = rest.iter().position(|b| *b == b'=').ok_or("a credential without =")?;
        let (name, value) = rest.split_at(equals);
        let name = name_of(name).ok_or("a credential whose name is none")?;
        let value = value.get(1..).unwrap_or_default();
        let value = match binary {
            false => value.to_vec(),
            true => base64::decode(value).ok_or_else(|| format!("{name}: not base64"))?,
        };
        self.add(&name, value);
        Ok(())
    }
}

/// A name of a credential: what may be the name of a file, in printable ASCII.
pub(super) fn name_of(bytes: &[u8]) -> Option<String> {
    let fits = (1..=255).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_graphic() && *b != b'/');
    std::str::from_utf8(bytes).ok().filter(|name| fits && !name.starts_with('.')).map(Into::into)
}

/// Translates them. A document of ours among them comes before the rest, field by field.
///
/// # Errors
/// One that says who may enter, and is malformed: the name, never the value.
pub fn translate(credentials: &Credentials) -> Result<Part, String> {
    let mut part = Part::default();
    let mut unused = Vec::new();
    let mut networks: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut plain = None;
    let mut logins = Vec::new();
    for (name, value) in &credentials.0 {
        match name.split_once('.').unwrap_or((name, "")) {
            _ if name == OURS => {}
            ("ssh", "listen") => match port(value) {
                Some(port) => part.document.ssh.port = port,
                None => part.remarks.push(format!("{name}: no TCP port on every address: not used")),
            },
            ("vmm", "notify_socket") => part.document.session.notify = text(name, value).ok(),
            ("rescue", "device.id") => part.document.device.id = text(name, value).ok(),
            ("system", "hostname") => part.document.device.hostname = text(name, value).ok(),
            ("network", "dns") => part.document.network.dns.servers = servers(name, value, &mut part.remarks),
            ("network", "search_domains") => {
                let words = String::from_utf8_lossy(value);
                part.document.network.dns.search = words.split_whitespace().map(Into::into).collect();
            }
            ("network", rest) => match rest.split_once('.').filter(|(kind, _)| NETWORK.contains(kind)) {
                Some((kind, file)) => drop(networks.insert(format!("{file}.{kind}"), value.clone())),
                None => unused.push(name.as_str()),
            },
            _ if name.starts_with("passwd.plaintext-password.") => plain = Some(name),
            _ => match login_of(name) {
                Some(login) if !logins.contains(&login) => logins.push(login),
                Some(_) => {}
                None => unused.push(name.as_str()),
            },
        }
    }
    for name in logins {
        part.document.logins.push(login(name, credentials, &mut part.remarks)?);
    }
    part.document.logins.retain(|l| l.password_hash.is_some() || !l.authorized_keys.is_empty());
    if !networks.is_empty() {
        let files = networks.into_iter().collect();
        part.network.push(NetworkDocument { format: NetworkFormat::Systemd, files });
    }
    // What is valid by itself, so that one wrong name server costs nobody the login.
    if part.document.network.validate("network").is_err() {
        part.document.network = Document::default().network;
        part.remarks.push("network.dns, network.search_domains: not valid: not used".into());
    }
    for (field, name) in [
        (&mut part.document.session.notify, "vmm.notify_socket"),
        (&mut part.document.device.hostname, "system.hostname"),
        (&mut part.document.device.id, "rescue.device.id"),
    ] {
        let mut probe = Document::default();
        match name {
            "rescue.device.id" => probe.device.id.clone_from(field),
            "system.hostname" => probe.device.hostname.clone_from(field),
            _ => probe.session.notify.clone_from(field),
        }
        if probe.validate().is_err() {
            *field = None;
            part.remarks.push(format!("{name}: not valid: not used"));
        }
    }
    if let Some(bytes) = credentials.0.get(OURS) {
        let own = Document::parse(bytes).map_err(|e| e.to_string().replacen("device.json", OURS, 1))?;
        part.document = over(own, part.document);
    }
    if let Some(name) = plain {
        let why = format!("{name}: a plain password is never taken; passwd.hashed-password.root is");
        if part.document.logins.is_empty() {
            return Err(why);
        }
        part.remarks.push(why);
    }
    if !unused.is_empty() {
        let more = unused.len().saturating_sub(MOST_NAMES);
        unused.truncate(MOST_NAMES);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        part.remarks.push(format!("not used: {}{more}", unused.join(", ")));
    }
    Ok(part)
}

/// The login that a credential is about.
fn login_of(name: &str) -> Option<&'static str> {
    let of = |prefix: &str| {
        let rest = name.strip_prefix(prefix)?;
        LOGIN_NAMES.into_iter().find(|login| *login == rest)
    };
    of("passwd.hashed-password.").or_else(|| of("ssh.authorized_keys."))
}

fn login(name: &str, credentials: &Credentials, remarks: &mut Vec<String>) -> Result<Login, String> {
    let mut login = Login { name: name.into(), password_hash: None, authorized_keys: Vec::new() };
    let credential = format!("passwd.hashed-password.{name}");
    if let Some(value) = credentials.0.get(&credential) {
        let hash = Secret::new(text(&credential, value)?);
        match hash.expose_secret() {
            // As in shadow(5): nobody gets in by it, which is no mistake.
            "" | "!" | "*" | "!*" | "!!" => remarks.push(format!("{credential}: locked")),
            value => {
                crypt::check(value).map_err(|why| format!("{credential}: {why}"))?;
                login.password_hash = Some(hash);
            }
        }
    }
    let credential = format!("ssh.authorized_keys.{name}");
    if let Some(value) = credentials.0.get(&credential) {
        let text = std::str::from_utf8(value).map_err(|_| format!("{credential}: not text"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        login.authorized_keys = lines.map(Into::into).collect();
        let mut probe = Document::default();
        let authorized_keys = login.authorized_keys.clone();
        probe.logins.push(Login { name: name.into(), password_hash: None, authorized_keys });
        probe.validate().map_err(|error| format!("{credential}: {}", error.reason))?;
    }
    Ok(login)
}

/// A value of one line.
fn text(name: &str, value: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(value).map_err(|_| format!("{name}: not text"))?;
    Ok(text.trim_end_matches(['\n', '\r', '\0']).into())
}

/// `ListenStream=` where it is a port on every address, which is how the server listens.
fn port(value: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let port = match text.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().is_unspecified().then_some(address.port())?,
        Err(_) => text.parse().ok()?,
    };
    (port != 0).then_some(port)
}

fn servers(name: &str, value: &[u8], remarks: &mut Vec<String>) -> Vec<std::net::IpAddr> {
    let mut servers = Vec::new();
    for word in String::from_utf8_lossy(value).split_whitespace() {
        match word.parse() {
            Ok(address) => servers.push(address),
            Err(_) => remarks.push(format!("{name}: a word that is no address: not used")),
        }
    }
    servers
}

/// `high`, and of `low` what that does not say.
fn over(high: Document, low: Document) -> Document {
    use super::{FW_CFG, SMBIOS, Said, merge::merge};
    merge(&[Said::found(SMBIOS, "", high, Vec::new()), Said::found(FW_CFG, "", low, Vec::new())]).document
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$5$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6";

    fn credentials(strings: &[&str]) -> Credentials {
        let mut all = Credentials::default();
        strings.iter().for_each(|s| all.add_string(s.as_bytes()).unwrap());
        all
    }

    fn of(pairs: &[(&str, &str)]) -> Result<Part, String> {
        let mut all = Credentials::default();
        pairs.iter().for_each(|(name, value)| all.add(name, value.as_bytes().to_vec()));
        translate(&all)
    }

    #[test]
    fn strings_are_credentials_of_both_kinds_or_somebody_elses() {
        let all = credentials(&[
            "io.systemd.credential:a=b=c",
            "io.systemd.credential.binary:k=AAEC",
            "io.systemd.stub.kernel-cmdline-extra=x",
            "io.systemd.credential:a=second",
            "hello",
        ]);
        assert_eq!(all.0["a"], b"b=c");
        assert_eq!(all.0["k"], [0, 1, 2]);
        assert_eq!(all.0.len(), 2);
        assert_eq!(format!("{all:?}"), r#"{"a", "k"}"#);
        for (bad, why) in [
            ("io.systemd.credential:hunter2", "without ="),
            ("io.systemd.credential:=hunter2", "name is none"),
            ("io.systemd.credential:../x=hunter2", "name is none"),
            ("io.systemd.credential.binary:k=hunter2!", "k: not base64"),
        ] {
            let error = Credentials::default().add_string(bad.as_bytes()).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn who_may_enter_and_the_network_are_taken() {
        let part = of(&[
            ("ssh.authorized_keys.root", "# comment\nssh-ed25519 AAAA a\n\nssh-rsa BBBB b\n"),
            ("passwd.hashed-password.root", &format!("{HASH}\n")),
            ("network.network.50-static", "[Match]\nName=eth0\n"),
            ("network.netdev.10-bond", "[NetDev]\nPrivateKey=hunter2\n"),
            ("network.conf.x", "[Network]\n"),
            ("network.dns", "192.0.2.53 2001:db8::53"),
            ("network.search_domains", "example.net"),
            ("ssh.listen", "2222"),
            ("vmm.notify_socket", "vsock:2:9999"),
            ("system.hostname", "db7"),
            ("vconsole.keymap", "de"),
        ])
        .unwrap();
        let d = &part.document;
        assert_eq!(d.validate(), Ok(()));
        assert_eq!(d.logins[0].authorized_keys, ["ssh-ed25519 AAAA a", "ssh-rsa BBBB b"]);
        assert_eq!(d.logins[0].password_hash.as_ref().unwrap().expose_secret(), HASH);
        assert_eq!((d.ssh.port, d.session.notify.as_deref()), (2222, Some("vsock:2:9999")));
        assert_eq!(d.network.dns.servers.len(), 2);
        let names: Vec<_> = part.network[0].files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["10-bond.netdev", "50-static.network"]);
        assert_eq!(part.remarks, ["not used: network.conf.x, vconsole.keymap"]);
        assert!(!format!("{part:?}").contains("hunter2"));
    }

    #[test]
    fn a_document_of_ours_comes_before_the_rest() {
        let own = format!(
            r#"{{"version":1,"device":{{"id":"x"}},"logins":[{{"name":"admin","password_hash":"{HASH}"}}]}}"#
        );
        let part = of(&[
            (OURS, &own),
            ("ssh.authorized_keys.root", "ssh-ed25519 AAAA a"),
            ("system.hostname", "db7"),
        ])
        .unwrap();
        assert_eq!(part.document.logins.len(), 1);
        assert_eq!(part.document.logins[0].name, "admin");
        assert_eq!(part.document.device.hostname.as_deref(), Some("db7"));
    }

    #[test]
    fn what_would_let_somebody_in_and_is_malformed_is_refused() {
        for (name, value) in [
            ("passwd.hashed-password.root", "hunter2"),
            ("passwd.plaintext-password.root", "hunter2"),
            ("ssh.authorized_keys.root", "hunter2"),
            ("ssh.authorized_keys.root", "-----BEGIN OPENSSH PRIVATE KEY----- hunter2"),
            (OURS, r#"{"version":1,"hunter":"hunter2"}"#),
        ] {
            let why = of(&[(name, value)]).unwrap_err();
            assert!(why.starts_with(name) && !why.contains("hunter2"), "{why}");
        }
        let part = of(&[
            ("passwd.plaintext-password.root", "hunter2"),
            ("ssh.authorized_keys.root", "ssh-rsa B"),
            ("system.hostname", "hunter2 hunter2"),
            ("network.dns", "hunter2"),
            ("ssh.listen", "vsock::22"),
        ])
        .unwrap();
        assert_eq!((part.document.logins.len(), part.remarks.len()), (1, 4), "{:?}", part.remarks);
        assert!(!format!("{part:?}").contains("hunter2"));
        assert!(of(&[("passwd.hashed-password.root", "!*")]).unwrap().document.logins.is_empty());
    }
}
