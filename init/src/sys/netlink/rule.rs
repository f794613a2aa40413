//! Rules of policy routing (ip-rule(8)).

use std::net::IpAddr;

use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::family;

/// FRA_PROTOCOL of the rules that we set (Linux 4.17), to know them again; not one of those that
/// `rt_protos` of iproute2 assigns.
const OUR_RULES: u8 = 0x52;

/// A rule: packets from here or to there are routed by this table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Source and the length of its prefix.
    pub from: Option<(IpAddr, u8)>,
    /// Destination and the length of its prefix.
    pub to: Option<(IpAddr, u8)>,
    /// The table that is asked.
    pub table: u32,
    /// Order; lower comes first.
    pub priority: u32,
}

/// A rule that this program has set.
pub(super) fn parse(message: RuleMessage) -> Option<Rule> {
    let (mut from, mut to, mut ours) = (None, None, false);
    let (mut table, mut priority) = (message.header.table.into(), 0);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Source(ip) => from = Some((ip, message.header.src_len)),
            RuleAttribute::Destination(ip) => to = Some((ip, message.header.dst_len)),
            RuleAttribute::Table(value) => table = value,
            RuleAttribute::Priority(value) => priority = value,
            RuleAttribute::Protocol(protocol) => ours = u8::from(protocol) == OUR_RULES,
            _ => {}
        }
    }
    ours.then_some(Rule { from, to, table, priority })
}

/// `None` for a rule that names no prefix, and so no family.
pub(super) fn message(rule: &Rule) -> Option<RuleMessage> {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.from.or(rule.to)?.0);
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(rule.table).unwrap_or(0);
    if let Some((ip, length)) = rule.from {
        message.header.src_len = length;
        message.attributes.push(RuleAttribute::Source(ip));
    }
    if let Some((ip, length)) = rule.to {
        message.header.dst_len = length;
        message.attributes.push(RuleAttribute::Destination(ip));
    }
    message.attributes.push(RuleAttribute::Table(rule.table));
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::from(OUR_RULES)));
    Some(message)
}
