//! Commands of iproute2 and net-tools in configuration files, parsed and never run: what `ip route add`
//! or `route add` would do to a link.

use rescue_schema::network::{Link, Route, Rule};

use super::draft::{self, Notes};
use super::text;

/// Most words of a command that are looked at.
const MOST: usize = 64;

/// Does to the link what a command would.
pub(super) fn run(link: &mut Link, notes: &mut Notes, at: &str, command: &str) {
    // `|| true` and the like change nothing here; a second command does not stand after a first.
    let command = command.split(['|', ';', '&', '>']).next().unwrap_or_default();
    let words: Vec<&str> = command.split_whitespace().take(MOST).collect();
    let Some((program, mut rest)) = words.split_first() else { return };
    match program.rsplit('/').next().unwrap_or_default() {
        "ip" => {
            let mut v6 = false;
            while let Some((flag, after)) = rest.split_first().filter(|(w, _)| w.starts_with('-')) {
                v6 |= matches!(*flag, "-6" | "-f6");
                rest = after;
            }
            let (Some(object), Some(verb)) = (rest.first().copied(), rest.get(1).copied()) else { return };
            let arguments = rest.get(2..).unwrap_or_default();
            let adds = matches!(verb, "a" | "ad" | "add" | "append" | "replace" | "rep");
            match object {
                "r" | "ro" | "route" if adds => match route(arguments, !v6) {
                    Some(route) => draft::route(link, notes, at, route),
                    None => notes.say(at, "a route that is not understood"),
                },
                "ru" | "rule" if adds => match rule(arguments) {
                    Some(rule) => draft::rule(link, notes, at, rule),
                    None => notes.say(at, "a rule that is not understood"),
                },
                "a" | "ad" | "addr" | "address" if adds => match arguments.first() {
                    Some(address) => draft::address(link, notes, at, address, None),
                    None => notes.say(at, "an address is missing"),
                },
                "l" | "link" if verb == "set" => settings(link, notes, at, arguments),
                _ => notes.say(at, format!("ip {} is not run", text::shown(object, 20))),
            }
        }
        "route" => match net_tools(rest) {
            Some(route) => draft::route(link, notes, at, route),
            None => notes.say(at, "a route that is not understood"),
        },
        "ifconfig" => settings(link, notes, at, rest),
        "sleep" | "true" | "echo" | ":" => {}
        other => notes.say(at, format!("{} is not run", text::shown(other, 30))),
    }
}

fn settings(link: &mut Link, notes: &mut Notes, at: &str, words: &[&str]) {
    if let Some(bytes) = after(words, "mtu") {
        draft::mtu(link, notes, at, bytes);
    }
}

fn after<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().skip_while(|w| **w != key).nth(1).copied()
}

/// What follows `ip route add`. `v4` says the family where nothing else does.
pub(super) fn route(words: &[&str], v4: bool) -> Option<Route> {
    let kinds = ["unicast", "to"];
    let mut words = words.iter().copied().filter(|w| !kinds.contains(w));
    let first = words.next()?;
    if matches!(first, "blackhole" | "unreachable" | "prohibit" | "throw" | "local" | "broadcast" | "nexthop")
    {
        return None;
    }
    let (mut via, mut metric, mut source, mut table, mut onlink) = (None, None, None, None, false);
    while let Some(word) = words.next() {
        match word {
            "via" => {
                let mut gateway = words.next()?;
                if matches!(gateway, "inet" | "inet6") {
                    gateway = words.next()?;
                }
                via = Some(text::ip(gateway)?);
            }
            "metric" | "preference" | "priority" => metric = text::number(words.next()?),
            "src" => source = text::ip(words.next()?),
            "table" => table = Some(text::table(words.next()?)?),
            "onlink" => onlink = true,
            "nexthop" => return None,
            "dev" | "proto" | "scope" | "mtu" | "advmss" | "initcwnd" | "pref" | "realm" => {
                words.next();
            }
            _ => {}
        }
    }
    let v4 = via.or(source).map_or(v4, |ip| ip.is_ipv4());
    let to = text::destination(short(first).as_deref().unwrap_or(first), None, v4)?;
    Some(Route { to, via, metric, source, table, onlink })
}

/// iproute2 takes `10/8` for `10.0.0.0/8`.
fn short(to: &str) -> Option<String> {
    let (address, length) = to.split_once('/')?;
    let dots = address.bytes().filter(|b| *b == b'.').count();
    let fits = !address.contains(':') && dots < 3 && address.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    fits.then(|| format!("{address}{}/{length}", ".0".repeat(3 - dots)))
}

/// What follows `ip rule add`.
pub(super) fn rule(words: &[&str]) -> Option<Rule> {
    let prefix = |key: &str| match after(words, key) {
        None => Some(None),
        Some("all" | "any" | "default") => Some(None),
        Some(prefix) => text::prefix(prefix, None).map(draft::network_of).map(Some),
    };
    let table = ["table", "lookup"].iter().find_map(|key| after(words, key));
    let priority =
        ["priority", "prio", "pref", "preference", "order"].iter().find_map(|key| after(words, key));
    if words.iter().any(|w| matches!(*w, "not" | "fwmark" | "iif" | "oif" | "tos" | "blackhole" | "prohibit"))
    {
        return None;
    }
    let (from, to) = (prefix("from")?, prefix("to")?);
    (from.is_some() || to.is_some()).then_some(())?;
    Some(Rule { from, to, table: text::table(table?)?, priority: priority.and_then(text::number) })
}

/// What follows `route`.
fn net_tools(words: &[&str]) -> Option<Route> {
    let mut v4 = true;
    let (mut to, mut mask, mut via, mut metric) = (None, None, None, None);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "add" | "-net" | "-host" | "-inet" | "reject" => {}
            "-A" | "-6" | "-inet6" => {
                v4 = false;
                if word == "-A" {
                    v4 = words.next()? != "inet6";
                }
            }
            "del" | "delete" => return None,
            "netmask" => mask = words.next(),
            "gw" | "gateway" => via = Some(text::ip(words.next()?)?),
            "metric" => metric = text::number(words.next()?),
            "dev" => drop(words.next()),
            it if to.is_none() => to = Some(it),
            // FreeBSD's has the gateway second.
            it if via.is_none() && text::ip(it).is_some() => via = text::ip(it),
            _ => {}
        }
    }
    let v4 = via.map_or(v4, |ip| ip.is_ipv4());
    let to = to?;
    let to = text::destination(short(to).as_deref().unwrap_or(to), mask, v4)?;
    Some(Route { metric, ..draft::plain_route(to, via) })
}

/// FreeBSD's `route add` arguments: `-net 198.51.100.0/24 192.0.2.1`.
pub(super) fn bsd_route(words: &[&str]) -> Option<Route> {
    net_tools(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(command: &str) -> String {
        let (mut link, mut notes) = (Link::default(), Notes::default());
        run(&mut link, &mut notes, "up", command);
        match (link.routes.first(), link.rules.first(), link.mtu) {
            (Some(r), ..) => format!("{} {:?} {:?} {:?}", r.to, r.via, r.metric, r.table),
            (_, Some(r), _) => format!("{:?} {} {:?}", r.from.map(|p| p.to_string()), r.table, r.priority),
            (.., Some(mtu)) => mtu.to_string(),
            _ => "nothing".into(),
        }
    }

    #[test]
    fn commands() {
        for (command, wanted) in [
            (
                "ip route add 10.0.0.0/8 via 192.0.2.1 dev $IFACE || true",
                "10.0.0.0/8 Some(192.0.2.1) None None",
            ),
            (
                "/sbin/ip -6 r replace default via fe80::1 dev eth0 metric 5",
                "::/0 Some(fe80::1) Some(5) None",
            ),
            (
                "route add -net 10.0.0.0 netmask 255.0.0.0 gw 192.0.2.1",
                "10.0.0.0/8 Some(192.0.2.1) None None",
            ),
            ("route add default gw 192.0.2.1", "0.0.0.0/0 Some(192.0.2.1) None None"),
            ("ip route add 10/8 via 192.0.2.1 table 7", "10.0.0.0/8 Some(192.0.2.1) None Some(7)"),
            ("ip rule add from 192.0.2.7 table 7 prio 3", "Some(\"192.0.2.7/32\") 7 Some(3)"),
            ("ip link set dev eth0 mtu 9000", "9000"),
            ("ip route add blackhole 10.0.0.0/8", "nothing"),
            ("iptables -F", "nothing"),
            ("ip route add", "nothing"),
            ("ip", "nothing"),
        ] {
            assert_eq!(said(command), wanted, "{command}");
        }
    }
}
