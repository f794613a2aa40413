//! The files that say whom to ask for names, and some answers: resolv.conf(5) and hosts(5). A static program
//! has no name service switch.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// Servers and domains that are looked at, as glibc does.
const MAX_SERVERS: usize = 3;
const MAX_DOMAINS: usize = 6;

/// What resolv.conf(5) says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Name servers.
    pub servers: Vec<SocketAddr>,
    /// Domains in which a name without a dot is looked for.
    pub search: Vec<String>,
}

/// Reads resolv.conf(5).
pub fn settings(text: &[u8]) -> Settings {
    let text = String::from_utf8_lossy(text);
    let mut settings = Settings::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") if settings.servers.len() < MAX_SERVERS => {
                settings.servers.extend(words.next().and_then(server));
            }
            Some("search" | "domain") => {
                settings.search = words.take(MAX_DOMAINS).map(str::to_string).collect();
            }
            _ => {}
        }
    }
    settings
}

/// An address, with an interface where it is link-local.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, link)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, 53));
    };
    let index = link.parse().ok().or_else(|| nix::net::if_::if_nametoindex(link).ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, 53, 0, index).into())
}

/// The addresses of a name in hosts(5), in the order of the file.
pub fn in_hosts(text: &[u8], name: &str) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_names_are_read() {
        let text = b"# c\nnameserver 192.0.2.1\nnameserver ::1 x\nnameserver bad\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nsearch a.example b\noptions x\xff\n";
        let settings = settings(text);
        let servers = ["192.0.2.1:53", "[::1]:53", "192.0.2.2:53"].map(|a| a.parse().unwrap());
        assert_eq!(
            (settings.servers, settings.search),
            (servers.to_vec(), vec!["a.example".into(), "b".into()])
        );
        assert_eq!(server("fe80::1%lo").map(|a| a.ip()), "fe80::1".parse().ok());
        let hosts = b"127.0.0.1 localhost\n::1 localhost # db\n192.0.2.9\tx db DB7\n192.0.2.9 db7\n";
        assert_eq!(in_hosts(hosts, "LOCALHOST").len(), 2);
        assert_eq!(in_hosts(hosts, "db7"), ["192.0.2.9".parse::<IpAddr>().unwrap()]);
        assert!(in_hosts(hosts, "192.0.2.9").is_empty());
    }
}
