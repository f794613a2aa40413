//! The kernel command line: public keys. Everybody on the machine reads it in /proc/cmdline and in the
//! kernel's log, so no password is taken from there, plain or hashed.

use rescue_schema::credentials::{Document, Login};

use super::part::Part;
use super::{COMMAND_LINE, Said, base64};
use crate::sys::cmdline::Cmdline;

/// Ours, Alpine's, and that of OpenStack's deployment images.
const KEYS: [&str; 3] = ["rescue.ssh_key", "ssh_key", "sshkey"];
/// Words by which other rescue systems take a password: Finnix, grml, SystemRescue, OpenStack's deployment
/// images, and what one would guess.
const PASSWORDS: [&str; 13] = [
    "passwd",
    "password",
    "rescue.passwd",
    "rescue.password",
    "rescue.password_hash",
    "rescue.hash",
    "encpasswd",
    "ssh",
    "rootpass",
    "rootcryptpass",
    "rootpwd",
    "rootpw",
    "systemd.set_credential",
];

/// What the command line says.
#[must_use]
pub fn gather(line: &Cmdline) -> Said {
    let part = read(line);
    match part.document.logins.is_empty() {
        true => {
            let mut said = Said::absent(COMMAND_LINE, "no rescue.ssh_key=");
            said.add(part.remarks);
            said
        }
        false => Said::found(COMMAND_LINE, "", part.document, part.remarks),
    }
}

/// Reads the parameters. Never fails: a word that is not taken is a remark that names it and not its value.
#[must_use]
pub fn read(line: &Cmdline) -> Part {
    let mut part = Part::default();
    let mut keys: Vec<String> = Vec::new();
    for name in KEYS {
        for value in line.all(name) {
            match public_key(value) {
                Ok(key) => {
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                Err(why) => part.remarks.push(format!("{name}=: {why}")),
            }
        }
    }
    if !keys.is_empty() {
        part.document.logins.push(Login { name: "root".into(), password_hash: None, authorized_keys: keys });
    }
    for name in PASSWORDS {
        // `ssh` alone asks for a server, which runs anyway.
        if line.all(name).any(|value| !value.is_empty()) {
            part.remarks.push(format!(
                "{name}=: refused, everybody on the machine can read the kernel command line; \
                 rescue.ssh_key= takes a public key, device.json a hash"
            ));
        }
    }
    part
}

/// A line of `authorized_keys`, or its base64 alone, which names its type itself.
fn public_key(value: &str) -> Result<String, &'static str> {
    let value = value.trim();
    if value.starts_with("http:") || value.starts_with("https:") {
        return Err("an address; the key itself belongs here");
    }
    if value.split_whitespace().count() >= 2 {
        let mut probe = Document::default();
        let authorized_keys = vec![value.to_string()];
        probe.logins.push(Login { name: "root".into(), password_hash: None, authorized_keys });
        return match probe.validate() {
            Ok(()) => Ok(value.into()),
            Err(_) => Err("not a public key"),
        };
    }
    let not =
        "not a public key; one with blanks goes into double quotes: rescue.ssh_key=\"ssh-ed25519 AAAA…\"";
    let blob = base64::decode(value.as_bytes()).ok_or(not)?;
    // RFC 4253, section 6.6: a string that names the type, then what the type says.
    let (length, rest) = blob.split_first_chunk::<4>().ok_or(not)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| not)?;
    let kind = rest.get(..length).filter(|_| length < 64 && rest.len() > length).ok_or(not)?;
    let kind = std::str::from_utf8(kind).ok().filter(|kind| kind.bytes().all(|b| b.is_ascii_graphic()));
    Ok(format!("{} {value}", kind.ok_or(not)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJ4tG0pZ7Jmq0bRZ6vYf3XQm2Wk1cN8uT5sLh0dEaPqO";

    fn of(line: &str) -> Part {
        read(&Cmdline::parse(line.as_bytes()))
    }

    #[test]
    fn keys_in_all_their_spellings() {
        let part = of(&format!(
            "quiet rescue.ssh_key=\"ssh-ed25519 {KEY} me@laptop\" ssh_key={KEY} sshkey=\"ssh-rsa BBBB\" ssh"
        ));
        assert_eq!(
            part.document.logins[0].authorized_keys,
            [format!("ssh-ed25519 {KEY} me@laptop"), format!("ssh-ed25519 {KEY}"), "ssh-rsa BBBB".into()]
        );
        assert_eq!((part.document.validate(), part.remarks.len()), (Ok(()), 0));
    }

    #[test]
    fn passwords_are_refused_and_not_told() {
        let part = of(
            "passwd=hunter2 ssh=hunter2 rescue.password=hunter2 rootcryptpass=$6$hunter2 ssh_key=hunter2 \
             ssh_key=https://x/hunter2 systemd.set_credential=passwd.plaintext-password.root:hunter2",
        );
        assert!(part.document.logins.is_empty());
        assert_eq!(part.remarks.len(), 7, "{:#?}", part.remarks);
        assert!(!format!("{part:?}").contains("hunter2"), "{part:#?}");
        let said = gather(&Cmdline::parse(b"passwd=hunter2"));
        assert_eq!((said.state.word(), said.remarks.len()), ("absent", 1));
    }
}
