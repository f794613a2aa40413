//! `/etc/resolv.conf` (resolv.conf(5)) from what is wished and what the leases bring.

use std::net::IpAddr;

use rescue_schema::network::Dns;

use super::lease::Lease;

/// Name servers that resolvers look at (MAXNS), and search domains (six before glibc 2.26).
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;

/// Wishes first, then the leases in the order of their links, each entry once.
pub fn merge<'a>(wish: &Dns, leases: impl Iterator<Item = &'a Lease>) -> Dns {
    let mut dns = Dns::default();
    let mut add = |servers: &mut dyn Iterator<Item = IpAddr>, search: &[String]| {
        for server in servers {
            if dns.servers.len() < MAX_SERVERS && !dns.servers.contains(&server) {
                dns.servers.push(server);
            }
        }
        for domain in search {
            if dns.search.len() < MAX_SEARCH && !dns.search.contains(domain) {
                dns.search.push(domain.clone());
            }
        }
    };
    add(&mut wish.servers.iter().copied(), &wish.search);
    for lease in leases {
        add(&mut lease.dns.iter().copied().map(IpAddr::V4), &lease.search);
    }
    dns
}

/// The file's content.
pub fn render(dns: &Dns) -> String {
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
    use crate::net::dhcp::{reply::parse_reply, testing};

    #[test]
    fn wishes_come_first_and_each_entry_once() {
        let options: &[(u8, &[u8])] = &[
            (51, &[0, 0, 1, 0]),
            (6, &[9, 9, 9, 9, 10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3]),
            (15, b"lan example.org"),
        ];
        let lease = Lease::from_reply(&parse_reply(&testing::reply(5, options)).unwrap()).unwrap();
        let wish = Dns { servers: vec!["10.0.0.1".parse().unwrap()], search: vec!["example.org".into()] };
        let text = render(&merge(&wish, [&lease, &lease].into_iter()));
        assert_eq!(
            text,
            "search example.org lan\nnameserver 10.0.0.1\nnameserver 9.9.9.9\nnameserver 10.0.0.2\n"
        );
        assert_eq!(render(&Dns::default()), "");
    }
}
