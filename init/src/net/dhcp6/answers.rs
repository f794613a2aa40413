//! What the answers of servers come to (RFC 8415 18.2.10), and an address that is not to be had.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::lease::{Held, Lease};
use super::reply::{Kind, Reply, status};
use super::request::iaid;
use super::{Action, Machine, REFRESH, REFRESH_MIN, State};

impl Machine {
    pub(super) fn reply(&mut self, reply: &Reply, now: Duration, actions: &mut Vec<Action>) {
        if let Some(seconds) = reply.solicit_wait.filter(|s| (60..=86_400).contains(s)) {
            self.solicit_wait = Duration::from_secs(seconds.into());
        }
        let lease = || Lease::from_reply(reply, iaid(self.mac), self.sent);
        match (reply.kind, &self.state) {
            // The first offer that can be used is taken, as DHCPv4 does: to collect offers for the first
            // second (RFC 8415 18.2.1) and choose by the servers' preference is a second of waiting on
            // every network, and wins something on the few that have two servers of which either would
            // do.
            (Kind::Advertise, State::Soliciting) => match lease() {
                Ok(lease) => {
                    let addresses = lease.addresses.iter().map(|a| a.address).collect();
                    let state = State::Requesting { server: lease.server, addresses };
                    self.exchange(state, now, actions);
                }
                Err(why) => self.complain(format!("refusing a DHCPv6 offer: {}", why.why), actions),
            },
            (Kind::Reply, State::Soliciting) if reply.rapid => match lease() {
                Ok(lease) => self.bind(lease, now, actions),
                Err(why) => self.complain(format!("refusing a DHCPv6 lease: {}", why.why), actions),
            },
            (Kind::Reply, State::Requesting { server, .. }) if *server == reply.server => match lease() {
                Ok(lease) => self.bind(lease, now, actions),
                Err(why) => {
                    self.complain(format!("DHCPv6 request: {}", why.why), actions);
                    self.refused(now, actions);
                }
            },
            (Kind::Reply, State::Renewing | State::Rebinding) => match lease() {
                Ok(lease) => self.bind(lease, now, actions),
                Err(why) => {
                    self.complain(format!("DHCPv6 renewal: {}", why.why), actions);
                    self.not_renewed(reply, why.code, now, actions);
                }
            },
            (Kind::Reply, State::Confirming) => match reply.status.as_ref().map(|s| s.code) {
                Some(status::SUCCESS) | None => self.bound(now),
                Some(status::NOT_ON_LINK) => {
                    actions.push(Action::Say("the DHCPv6 address belongs to another network".into()));
                    self.lease = None;
                    actions.push(Action::Configure { news: true });
                    self.refused(now, actions);
                }
                Some(_) => {}
            },
            (Kind::Reply, State::Declining { server, .. }) if *server == reply.server => {
                self.refused(now, actions);
            }
            (Kind::Reply, State::Asking) => self.informed(reply, now, actions),
            _ => {}
        }
    }

    fn not_renewed(&mut self, reply: &Reply, code: Option<u16>, now: Duration, actions: &mut Vec<Action>) {
        let taken_back = |held: &Held| {
            let mut said = reply.associations.iter().filter(|ia| ia.iaid == iaid(self.mac));
            said.any(|ia| ia.addresses.iter().any(|a| a.address == held.address && a.valid == 0))
        };
        let Some(lease) = &self.lease else { return };
        if lease.addresses.iter().all(taken_back) || code == Some(status::NOT_ON_LINK) {
            self.lease = None;
            actions.push(Action::Configure { news: true });
            self.refused(now, actions);
        } else if code == Some(status::NO_BINDING) {
            // RFC 8415 18.2.10.1: a server that lost its memory may still give the same again.
            let addresses = lease.addresses.iter().map(|a| a.address).collect();
            let server = reply.server.clone();
            self.exchange(State::Requesting { server, addresses }, now, actions);
        }
    }

    fn informed(&mut self, reply: &Reply, now: Duration, actions: &mut Vec<Action>) {
        if reply.status.as_ref().is_some_and(|s| s.code != status::SUCCESS) {
            return;
        }
        let other = Some((reply.dns.clone(), reply.search.clone()));
        let news = self.other != other;
        self.other = other;
        let refresh = reply.refresh.unwrap_or(REFRESH).max(REFRESH_MIN);
        self.rest(State::Informed);
        self.wake = (refresh != u32::MAX).then(|| now + Duration::from_secs(refresh.into()));
        actions.push(Action::Configure { news });
    }

    fn bind(&mut self, lease: Lease, now: Duration, actions: &mut Vec<Action>) {
        let at = |lease: &Lease| lease.addresses.iter().map(|a| a.address).collect::<Vec<_>>();
        let news = self.lease.as_ref().map(at) != Some(at(&lease));
        self.lease = Some(lease);
        // What was only just given may yet be found to be another host's.
        if matches!(self.state, State::Renewing | State::Rebinding) {
            self.refusals = 0;
        }
        self.complaint.clear();
        self.bound(now);
        actions.push(Action::Configure { news });
    }

    pub(super) fn bound(&mut self, now: Duration) {
        self.rest(State::Bound);
        let renew = self.lease.as_ref().and_then(|lease| lease.renew);
        self.wake = renew.map(|at| at.max(now + Duration::from_secs(1)));
    }

    pub(super) fn decline(&mut self, address: Ipv6Addr, now: Duration, actions: &mut Vec<Action>) {
        let Some(lease) = &self.lease else { return };
        if !lease.addresses.iter().any(|a| a.address == address) {
            return;
        }
        let state = State::Declining { server: lease.server.clone(), addresses: vec![address] };
        self.lease = None;
        actions.push(Action::Configure { news: true });
        if self.ready {
            self.exchange(state, now, actions);
        }
    }
}
