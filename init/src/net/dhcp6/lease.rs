//! A lease that is fit to be used: everything a server says is judged here, once.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::reply::{Leased, Reply, Status, status};

const INFINITE: u32 = u32::MAX;

/// An address and when its lifetimes end; none for one without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub address: Ipv6Addr,
    /// When it stops being preferred.
    pub preferred: Option<Duration>,
    /// When it stops being valid.
    pub valid: Option<Duration>,
}

/// A lease. Times are those of the machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its addresses, one to four.
    pub addresses: Vec<Held>,
    /// The DUID of the server; empty for a lease that an earlier run of this program left.
    pub server: Vec<u8>,
    /// T1; none for a lease without end. No later than T2, which is no later than the end.
    pub renew: Option<Duration>,
    /// T2
    pub rebind: Option<Duration>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Search domains.
    pub search: Vec<String>,
}

/// Why there is no lease in a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status code, where it is the server who refuses.
    pub code: Option<u16>,
    /// What to say.
    pub why: String,
}

impl Lease {
    /// Judges what a server offers or grants to the association `iaid`; `start` is when it was asked.
    ///
    /// # Errors
    /// Where the server refuses, or gives nothing that can be used.
    pub fn from_reply(reply: &Reply, iaid: u32, start: Duration) -> Result<Self, Refused> {
        let refused = |why: &str| Refused { code: None, why: why.into() };
        failure(reply.status.as_ref())?;
        let ours = reply.associations.iter().find(|ia| ia.iaid == iaid);
        let ours = ours.ok_or_else(|| refused("it is for no association of ours"))?;
        failure(ours.status.as_ref())?;
        let mut given: Vec<&Leased> = Vec::new();
        for leased in ours.addresses.iter().filter(|a| a.valid > 0) {
            if !given.iter().any(|known| known.address == leased.address) {
                given.push(leased);
            }
        }
        // RFC 8415 21.4: such an association is discarded.
        if ours.t1 > ours.t2 && ours.t2 > 0 {
            return Err(refused("it is to be renewed after it is to be rebound"));
        }
        let Some(valid) = given.iter().map(|a| a.valid).min() else {
            return Err(refused("there is no address in it that can be used"));
        };
        // RFC 8415 14.2: half and four fifths of the shortest preferred lifetime, unless the server
        // says otherwise.
        let preferred = given.iter().map(|a| a.preferred).filter(|p| *p > 0).min().unwrap_or(valid);
        let share = |tenths: u64| match preferred {
            INFINITE => INFINITE,
            finite => u32::try_from(u64::from(finite) * tenths / 10).unwrap_or(INFINITE),
        };
        let rebind = if ours.t2 > 0 { ours.t2 } else { share(8) }.min(valid);
        let renew = if ours.t1 > 0 { ours.t1 } else { share(5) }.min(rebind);
        let end = |seconds: u32| (seconds != INFINITE).then(|| start + Duration::from_secs(seconds.into()));
        Ok(Self {
            addresses: given
                .iter()
                .map(|a| Held { address: a.address, preferred: end(a.preferred), valid: end(a.valid) })
                .collect(),
            server: reply.server.clone(),
            renew: end(renew),
            rebind: end(rebind),
            dns: reply.dns.clone(),
            search: reply.search.clone(),
        })
    }

    /// When the last of its addresses ends; none for never.
    pub fn end(&self) -> Option<Duration> {
        self.addresses.iter().map(|a| a.valid).try_fold(Duration::ZERO, |last, end| Some(last.max(end?)))
    }
}

fn failure(said: Option<&Status>) -> Result<(), Refused> {
    match said {
        Some(said) if said.code != status::SUCCESS => {
            let meaning = match said.code {
                status::NO_ADDRS => "it has no address for us",
                status::NO_BINDING => "it does not know our address",
                status::NOT_ON_LINK => "our address belongs to another network",
                _ => "it refuses",
            };
            let text = if said.text.is_empty() { String::new() } else { format!(": {}", said.text) };
            Err(Refused { code: Some(said.code), why: format!("{meaning} (status {}{text})", said.code) })
        }
        _ => Ok(()),
    }
}
