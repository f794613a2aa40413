//! How the machine is to be reached: the one vocabulary of `device.json`'s `network`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::check::{DocumentError, fail, is_host_name};

/// Most links, addresses a link, routes a link or name servers that a document may name.
pub const MAX_ENTRIES: usize = 64;

/// The `network` section. Empty means: DHCP on every link that has carrier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Links to configure; when any is named, only these are configured.
    pub links: Vec<Link>,
    /// Name servers and search domains, before those that DHCP brings.
    pub dns: Dns,
}

/// One Ethernet link, matched by its MAC address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// A name for messages; never a kernel name to match.
    #[serde(default)]
    pub id: String,
    /// MAC address, `aa:bb:cc:dd:ee:ff`.
    pub mac: MacAddress,
    /// MTU in bytes, 68 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Ask for a lease by DHCPv4.
    #[serde(default)]
    pub dhcp4: bool,
    /// Static addresses with their prefix length: `192.0.2.7/24`, `2001:db8::7/64`.
    #[serde(default)]
    pub addresses: Vec<Prefix>,
    /// Routes; `to` is a prefix, and `0.0.0.0/0` or `::/0` the default.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// A route by way of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination prefix.
    pub to: Prefix,
    /// The gateway, or none for a destination on this link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
}

/// Name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Name servers, in order.
    pub servers: Vec<IpAddr>,
    /// Search domains, in order.
    pub search: Vec<String>,
}

/// A 48-bit MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl std::str::FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a MAC address such as 52:54:00:12:34:56");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// An IP address and the length of its network prefix in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address, host bits included.
    pub address: IpAddr,
    /// 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub length: u8,
}

impl std::str::FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address with a prefix such as 192.0.2.7/24");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length > most {
            return Err(format!("{text:?}: the prefix length is at most {most}"));
        }
        Ok(Self { address, length })
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl Network {
    /// Checks what the types alone cannot. `at` is the path of this section for messages.
    pub(crate) fn validate(&self, at: &str) -> Result<(), DocumentError> {
        let too_many = |n: usize, field: String| match n {
            0..=MAX_ENTRIES => Ok(()),
            _ => fail(field, format!("{n} entries; at most {MAX_ENTRIES}")),
        };
        too_many(self.links.len(), format!("{at}.links"))?;
        too_many(self.dns.servers.len(), format!("{at}.dns.servers"))?;
        too_many(self.dns.search.len(), format!("{at}.dns.search"))?;
        for (i, domain) in self.dns.search.iter().enumerate() {
            if !is_host_name(domain) {
                return fail(format!("{at}.dns.search[{i}]"), "not a domain name".into());
            }
        }
        for (i, link) in self.links.iter().enumerate() {
            let at = format!("{at}.links[{i}]");
            too_many(link.addresses.len(), format!("{at}.addresses"))?;
            too_many(link.routes.len(), format!("{at}.routes"))?;
            if link.mtu.is_some_and(|mtu| !(68..=65535).contains(&mtu)) {
                return fail(format!("{at}.mtu"), "68 to 65535 bytes".into());
            }
            if self.links.iter().take(i).any(|other| other.mac == link.mac) {
                return fail(format!("{at}.mac"), format!("{} is named twice", link.mac));
            }
            for (j, route) in link.routes.iter().enumerate() {
                if route.via.is_some_and(|via| via.is_ipv4() != route.to.address.is_ipv4()) {
                    return fail(format!("{at}.routes[{j}].via"), "not of the family of `to`".into());
                }
            }
        }
        Ok(())
    }
}
