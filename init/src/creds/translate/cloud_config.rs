//! cloud-init's documents: `#cloud-config` user-data (its `doc/rtd/reference/modules.rst`) and NoCloud's
//! meta-data. Logins, keys, host keys and the name are taken; nothing is run, written or installed.

use rescue_schema::Secret;
use rescue_schema::credentials::{Document, LOGIN_NAMES};

use super::archive::{self, Piece};
use super::draft::{Draft, malformed};
use crate::creds::media::drive::join;
use crate::creds::part::{NetworkDocument, NetworkFormat, Part};
use crate::tree::{self, Node};

/// Reads user-data: a `#cloud-config`, or what holds some of them (compressed, MIME, `#cloud-config-archive`).
///
/// # Errors
/// A `#cloud-config` that is malformed, or lets nobody in who should have been; what holds some and is damaged.
pub fn user_data(bytes: &[u8]) -> Result<Part, String> {
    let mut part = Part::default();
    for piece in archive::pieces(bytes)? {
        match piece {
            // Of several, cloud-init lets the later overrule.
            Piece::Config(bytes) => part = join(config(&bytes)?, part),
            Piece::Other(what) => part.remarks.push(format!("user-data: not used, it is {what}")),
        }
    }
    Ok(part)
}

fn config(bytes: &[u8]) -> Result<Part, String> {
    let mut draft = Draft::default();
    let root = tree::yaml(bytes).map_err(|error| malformed(&error))?;
    if !matches!(root, Node::Map(_) | Node::Null) {
        return Err("not a mapping".into());
    }
    // cloud-init gives these to the distribution's own login, which a rescue does not have.
    let keys = root.get("ssh_authorized_keys");
    if !keys.is_null() {
        draft.as_root("ssh_authorized_keys");
    }
    draft.keys("ssh_authorized_keys", "root", texts(keys));
    for user in root.get("users").items() {
        one_user(&mut draft, user);
    }
    passwords(&mut draft, root.get("chpasswd"));
    if let Some(password) = root.get("password").text() {
        password_of(&mut draft, "password", "root", password);
    }
    let name = root.any(&["fqdn", "hostname"]);
    if let Some(name) = name.text() {
        draft.hostname("hostname", name);
    }
    host_keys(&mut draft, root.get("ssh_keys"));
    if root.get("ssh_pwauth").flag() == Some(false) {
        draft.say("ssh_pwauth: not used, a password that is given lets in over SSH as well");
    }
    draft.finish()
}

/// The texts of a list, or of one text; each may be several lines.
fn texts(node: &Node) -> impl Iterator<Item = &str> {
    node.items().iter().filter_map(Node::text)
}

fn one_user(draft: &mut Draft, user: &Node) {
    let Some(name) = user.get("name").text() else {
        // `default`, or a name alone: nothing to enter by.
        return;
    };
    let keys = user.any(&["ssh_authorized_keys", "ssh-authorized-keys"]);
    if !LOGIN_NAMES.contains(&name) && becomes_root(user.get("sudo")) {
        // Of their password only sudo's rule would be left, which asks for none.
        draft.as_root("users[] with sudo");
        draft.keys("users[].ssh_authorized_keys", "root", texts(keys));
        return;
    }
    if !draft.knows("users[]", name) {
        return;
    }
    draft.keys("users[].ssh_authorized_keys", name, texts(keys));
    let hash = user.any(&["hashed_passwd", "hashed-passwd", "passwd"]);
    let locked = user.any(&["lock_passwd", "lock-passwd"]).flag().unwrap_or(true);
    match hash.text() {
        Some(_) if locked => draft.say("users[].hashed_passwd: not used, lock_passwd is not false"),
        Some(hash) => draft.hash("users[].hashed_passwd", name, hash),
        None => {}
    }
    if !user.get("plain_text_passwd").is_null() {
        draft.fail("users[].plain_text_passwd: a plain password is never taken; hashed_passwd is".into());
    }
}

/// Whether sudo makes root of this user, and asks nothing.
fn becomes_root(rules: &Node) -> bool {
    texts(rules).any(|rule| {
        let rule = rule.to_ascii_uppercase().replace(' ', "");
        matches!(rule.as_str(), "ALL=(ALL)NOPASSWD:ALL" | "ALL=(ALL:ALL)NOPASSWD:ALL")
    })
}

fn passwords(draft: &mut Draft, chpasswd: &Node) {
    let list = chpasswd.get("list");
    for line in texts(list).flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(':') {
            Some((name, password)) if draft.knows("chpasswd.list", name) => {
                password_of(draft, "chpasswd.list", name, password);
            }
            Some(_) => {}
            None => draft.fail("chpasswd.list: a line without a colon".into()),
        }
    }
    for user in chpasswd.get("users").items() {
        let (Some(name), Some(password)) = (user.get("name").text(), user.get("password").text()) else {
            continue;
        };
        if draft.knows("chpasswd.users[]", name) {
            match user.get("type").text() {
                None | Some("hash") => draft.hash("chpasswd.users[].password", name, password),
                Some(_) => draft.fail("chpasswd.users[]: a plain password is never taken; a hash is".into()),
            }
        }
    }
}

/// A hash where it looks like one, as cloud-init decides it.
fn password_of(draft: &mut Draft, at: &str, name: &str, password: &str) {
    match password.starts_with('$') {
        true => draft.hash(at, name, password),
        false => draft.fail(format!("{at}: a plain password is never taken; a hash is")),
    }
}

fn host_keys(draft: &mut Draft, keys: &Node) {
    for kind in ["ed25519_private", "ecdsa_private", "rsa_private"] {
        let Some(text) = keys.get(kind).text() else { continue };
        let mut probe = Document::default();
        probe.ssh.host_keys.push(Secret::new(text));
        match probe.validate() {
            Ok(()) => draft.part.document.ssh.host_keys.append(&mut probe.ssh.host_keys),
            Err(error) => draft.say(format!("ssh_keys.{kind}: {}: not used", error.reason)),
        }
    }
}

/// Reads NoCloud's `meta-data`, YAML or JSON.
///
/// # Errors
/// One that is malformed, or whose keys all are.
pub fn meta_data(bytes: &[u8]) -> Result<Part, String> {
    let root = tree::yaml(bytes).map_err(|error| malformed(&error))?;
    if !matches!(root, Node::Map(_) | Node::Null) {
        return Err("not a mapping".into());
    }
    let mut draft = Draft::default();
    if let Some(id) = root.any(&["instance-id", "instance_id"]).text() {
        draft.id("instance-id", id);
    }
    if let Some(name) = root.any(&["local-hostname", "hostname"]).text() {
        draft.hostname("local-hostname", name);
    }
    // A list, a text, or as EC2 says it: a name for each.
    let keys = root.any(&["public-keys", "public_keys", "public-ssh-keys"]);
    match keys {
        Node::Map(pairs) => {
            for (_, key) in pairs {
                match key.get("openssh-key") {
                    Node::Null => draft.keys("public-keys", "root", texts(key)),
                    key => draft.keys("public-keys", "root", texts(key)),
                }
            }
        }
        keys => draft.keys("public-keys", "root", texts(keys)),
    }
    if let Some(text) = root.get("network-interfaces").text() {
        let document = NetworkDocument::one(NetworkFormat::Ifupdown, "network-interfaces", text.as_bytes());
        draft.part.network.push(document);
    }
    draft.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$5$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6";

    #[test]
    fn who_may_enter_is_taken_and_nothing_else() {
        let text = format!(
            "#cloud-config\nfqdn: db7.example.net\nhostname: db7\nssh_authorized_keys:\n  - ssh-ed25519 AAAA a\n\
             users:\n  - default\n  - name: admin\n    lock_passwd: false\n    hashed_passwd: {HASH}\n    \
             ssh_authorized_keys: [ssh-rsa BBBB b]\n  - name: deploy\n    ssh_authorized_keys: [ssh-rsa C]\n\
             chpasswd:\n  expire: false\n  users:\n  - {{name: root, password: \"{HASH}\"}}\n\
             packages: [nginx]\nruncmd:\n - [rm, -rf, /]\nwrite_files:\n - path: /etc/passwd\n"
        );
        let part = user_data(text.as_bytes()).unwrap();
        let d = &part.document;
        assert_eq!(d.validate(), Ok(()));
        assert_eq!(d.device.hostname.as_deref(), Some("db7.example.net"));
        let names: Vec<_> = d.logins.iter().map(|l| (l.name.as_str(), l.authorized_keys.len())).collect();
        assert_eq!(names, [("root", 1), ("admin", 1)]);
        assert!(d.logins.iter().all(|l| l.password_hash.as_ref().unwrap().expose_secret() == HASH));
        let default = "ssh_authorized_keys: those who have other names on the machine enter as root";
        assert_eq!(part.remarks, [default, "users[]: not used, a rescue has the logins root and admin"]);
    }

    #[test]
    fn plain_passwords_and_malformed_documents_let_nobody_in() {
        for text in [
            "#cloud-config\npassword: hunter2\n",
            "#cloud-config\nchpasswd:\n  list: |\n    root:hunter2\n",
            "#cloud-config\nchpasswd:\n  users: [{name: root, password: hunter2, type: text}]\n",
            "#cloud-config\nusers: [{name: root, plain_text_passwd: hunter2}]\n",
            "#cloud-config\nssh_authorized_keys: [hunter2]\n",
            "#cloud-config\n- hunter2\n",
            "#cloud-config\na: [hunter2\n",
        ] {
            let why = user_data(text.as_bytes()).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        let text = "#cloud-config\npassword: hunter2\nssh_authorized_keys: [ssh-rsa A]\n";
        let part = user_data(text.as_bytes()).unwrap();
        assert_eq!((part.document.logins.len(), part.remarks.len()), (1, 2));
    }

    #[test]
    fn who_may_become_root_on_the_machine_is_root_in_its_rescue() {
        let text = "#cloud-config\nusers:\n- name: ops\n  sudo: ALL=(ALL) NOPASSWD:ALL\n  ssh_authorized_keys: [ssh-rsa A a]\n\
            - name: guest\n  sudo: false\n  ssh_authorized_keys: [ssh-rsa B b]\n\
            - name: asked\n  sudo: [\"ALL=(ALL) ALL\"]\n  ssh_authorized_keys: [ssh-rsa C c]\nssh_pwauth: no\n";
        let part = user_data(text.as_bytes()).unwrap();
        assert_eq!(part.document.logins.len(), 1);
        assert_eq!(part.document.logins[0].authorized_keys, ["ssh-rsa A a"]);
        assert_eq!(part.remarks.len(), 4, "{:?}", part.remarks);
    }

    #[test]
    fn scripts_are_told_and_not_used() {
        for (text, what) in [(&b"#!/bin/sh\nrm -rf /\n"[..], "script"), (b"hello", "no #cloud-config")] {
            let part = user_data(text).unwrap();
            assert!(part.document == Document::default() && part.remarks[0].contains(what), "{part:?}");
        }
        assert_eq!(user_data(b" \n").unwrap(), Part::default());
    }

    #[test]
    fn meta_data_of_nocloud() {
        let part = meta_data(
            b"instance-id: iid-local01\nlocal-hostname: db7\npublic-keys:\n  - ssh-rsa A a\n\
              network-interfaces: |\n  auto eth0\n  iface eth0 inet dhcp\n",
        )
        .unwrap();
        assert_eq!(part.document.device.id.as_deref(), Some("iid-local01"));
        assert_eq!((part.document.logins.len(), part.network.len()), (1, 1));
        let ec2 =
            br#"{"instance-id":"i","public-keys":{"0":{"openssh-key":"ssh-rsa A a"},"k":["ssh-rsa B"]}}"#;
        assert_eq!(meta_data(ec2).unwrap().document.logins[0].authorized_keys.len(), 2);
        assert!(meta_data(b"[hunter2").is_err());
    }
}
