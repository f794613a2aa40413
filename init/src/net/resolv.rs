//! `/etc/resolv.conf` (resolv.conf(5)) from what is wished and what the leases and routers bring.

use std::net::IpAddr;

use rescue_schema::network::Dns;

/// Name servers that resolvers look at (MAXNS), and search domains (six before glibc 2.26).
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;

/// What resolvers are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// Name servers; a link-local one with the link that it is on (RFC 4007 section 11): `fe80::1%eth0`.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
}

/// The sources in their order, each entry once. Those that came over a link are beside its name.
pub fn merge<'a>(sources: impl Iterator<Item = (Option<&'a str>, &'a Dns)>) -> Resolvers {
    let mut dns = Resolvers::default();
    for (link, source) in sources {
        for server in &source.servers {
            let server = match (server, link) {
                (IpAddr::V6(v6), Some(link)) if v6.is_unicast_link_local() => format!("{v6}%{link}"),
                _ => server.to_string(),
            };
            if dns.servers.len() < MAX_SERVERS && !dns.servers.contains(&server) {
                dns.servers.push(server);
            }
        }
        for domain in &source.search {
            if dns.search.len() < MAX_SEARCH && !dns.search.contains(domain) {
                dns.search.push(domain.clone());
            }
        }
    }
    dns
}

/// The file's content.
pub fn render(dns: &Resolvers) -> String {
    let mut text = String::new();
    if !dns.search.is_empty() {
        text.push_str(&format!("search {}\n", dns.search.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_come_first_and_each_entry_once() {
        let of = |servers: &[&str], search: &[&str]| Dns {
            servers: servers.iter().map(|s| s.parse().unwrap()).collect(),
            search: search.iter().map(ToString::to_string).collect(),
        };
        let wish = of(&["10.0.0.1"], &["example.org"]);
        let lease = of(&["9.9.9.9", "10.0.0.1", "10.0.0.2", "10.0.0.3"], &["lan", "example.org"]);
        let text =
            render(&merge([(None, &wish), (Some("eth0"), &lease), (Some("eth1"), &lease)].into_iter()));
        assert_eq!(
            text,
            "search example.org lan\nnameserver 10.0.0.1\nnameserver 9.9.9.9\nnameserver 10.0.0.2\n"
        );
        assert_eq!(render(&Resolvers::default()), "");
        let nearby = of(&["fe80::1", "2001:db8::53"], &[]);
        let text =
            render(&merge([(Some("eth0"), &nearby), (Some("eth1"), &nearby), (None, &nearby)].into_iter()));
        assert_eq!(text, "nameserver fe80::1%eth0\nnameserver 2001:db8::53\nnameserver fe80::1%eth1\n");
    }
}
