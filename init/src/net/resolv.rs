//! `/etc/resolv.conf` (resolv.conf(5)) from what is wished and what the leases and routers bring.

use rescue_schema::network::Dns;

/// Name servers that resolvers look at (MAXNS), and search domains (six before glibc 2.26).
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;

/// The sources in their order, each entry once.
pub fn merge<'a>(sources: impl Iterator<Item = &'a Dns>) -> Dns {
    let mut dns = Dns::default();
    for source in sources {
        for server in &source.servers {
            if dns.servers.len() < MAX_SERVERS && !dns.servers.contains(server) {
                dns.servers.push(*server);
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

    #[test]
    fn wishes_come_first_and_each_entry_once() {
        let of = |servers: &[&str], search: &[&str]| Dns {
            servers: servers.iter().map(|s| s.parse().unwrap()).collect(),
            search: search.iter().map(ToString::to_string).collect(),
        };
        let wish = of(&["10.0.0.1"], &["example.org"]);
        let lease = of(&["9.9.9.9", "10.0.0.1", "10.0.0.2", "10.0.0.3"], &["lan", "example.org"]);
        let text = render(&merge([&wish, &lease, &lease].into_iter()));
        assert_eq!(
            text,
            "search example.org lan\nnameserver 10.0.0.1\nnameserver 9.9.9.9\nnameserver 10.0.0.2\n"
        );
        assert_eq!(render(&Dns::default()), "");
    }
}
