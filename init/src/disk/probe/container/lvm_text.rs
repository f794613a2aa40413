//! The metadata of a volume group as text (lvm(8), lib/format_text): sections in braces, `key = value`.
//! Only what names things is taken here; what maps a volume is [`super::lvm_volumes`]'s.

use std::collections::BTreeSet;

use super::lvm_volumes::Volume;

/// Most types of segments that are told apart; LVM2 knows some thirty.
const TYPES: usize = 64;
/// Deepest nesting that is followed; LVM2 has six.
const DEPTH: usize = 16;
/// Most physical and logical volumes that are listed.
const MOST: usize = 4096;

/// A volume group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) sequence: u64,
    pub(super) exported: bool,
    pub(super) devices: Vec<Device>,
    pub(super) volumes: Vec<Volume>,
    /// Sectors of an extent.
    pub(super) extent: u64,
    /// Types of the segments: `striped`, `thin-pool`, `raid1`…
    pub(super) types: BTreeSet<String>,
    /// The one machine that may use it (lvmsystemid(7)).
    pub(super) system: Option<String>,
}

/// One of its physical volumes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) id: String,
    /// What LVM2 took as the size of the device.
    pub(super) bytes: Option<u64>,
    /// First sector of its extents.
    pub(super) start: u64,
    /// Whether the group knows that it is gone.
    pub(super) missing: bool,
}

/// The group of a text; `None` where there is none.
pub(super) fn parse(text: &str) -> Option<Group> {
    let mut group = Group::default();
    let mut path: Vec<&str> = Vec::new();
    // The areas of a segment stand on lines of their own.
    let mut list = false;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim().trim_matches('\0');
        if let Some(name) = line.strip_suffix('{') {
            let name = name.trim();
            if path.len() >= DEPTH {
                return None;
            }
            match path.as_slice() {
                [] if group.name.is_empty() => group.name = name.into(),
                [top, "physical_volumes"] if *top == group.name && group.devices.len() < MOST => {
                    group.devices.push(Device { name: name.into(), ..Device::default() });
                }
                [top, "logical_volumes"] if *top == group.name && group.volumes.len() < MOST => {
                    group.volumes.push(Volume::new(name));
                }
                [top, "logical_volumes", _] if *top == group.name => {
                    if let Some(volume) = group.volumes.last_mut() {
                        volume.begin();
                    }
                }
                _ => {}
            }
            path.push(name);
            list = false;
        } else if line == "}" {
            path.pop();
        } else if line == "]" {
            list = false;
        } else if list {
            if let Some(volume) = group.volumes.last_mut() {
                volume.area(line);
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim(), value.trim());
            let text = || value.trim_matches('"').to_string();
            match (path.as_slice(), key) {
                ([top], "id") if *top == group.name => group.id = text(),
                ([top], "seqno") if *top == group.name => group.sequence = value.parse().unwrap_or(0),
                ([top], "status") if *top == group.name => group.exported = value.contains("\"EXPORTED\""),
                ([top], "system_id") if *top == group.name => {
                    group.system = Some(text()).filter(|id| !id.is_empty());
                }
                ([top], "extent_size") if *top == group.name => group.extent = value.parse().unwrap_or(0),
                ([_, "logical_volumes", _, _], key) => {
                    if key == "type" && group.types.len() < TYPES {
                        group.types.insert(text());
                    }
                    list = value == "[";
                    if let Some(volume) = group.volumes.last_mut() {
                        volume.segment(key, value.trim_matches('"'));
                    }
                }
                ([_, "logical_volumes", _], key) => {
                    if let Some(volume) = group.volumes.last_mut() {
                        volume.own(key, value.trim_matches('"'));
                    }
                }
                ([_, "physical_volumes", _], "pe_start") => {
                    if let Some(device) = group.devices.last_mut() {
                        device.start = value.parse().unwrap_or(0);
                    }
                }
                ([_, "physical_volumes", _], "flags") => {
                    if let Some(device) = group.devices.last_mut() {
                        device.missing = value.contains("\"MISSING\"");
                    }
                }
                ([_, "physical_volumes", _], "id") => {
                    if let Some(device) = group.devices.last_mut() {
                        device.id = text();
                    }
                }
                ([_, "physical_volumes", _], "dev_size") => {
                    if let Some(device) = group.devices.last_mut() {
                        device.bytes = value.parse::<u64>().ok().and_then(|sectors| sectors.checked_mul(512));
                    }
                }
                _ => {}
            }
        }
    }
    (!group.name.is_empty() && !group.id.is_empty()).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_their_own_level() {
        let text = "vg0 {\nid = \"AAAA\"\nseqno = 7\nstatus = [\"RESIZEABLE\", \"READ\"]\n\
                    physical_volumes {\npv0 {\nid = \"BBBB\"\ndev_size = 8 # sectors\n}\n}\n\
                    logical_volumes {\nroot {\nid = \"CCCC\"\nsegment1 {\nid = \"no\"\ntype = \"raid1\"\n}\n}\nswap {\n}\n}\n}\n\
                    contents = \"Text Format Volume Group\"\n";
        let group = parse(text).unwrap();
        assert_eq!((group.name.as_str(), group.id.as_str(), group.sequence), ("vg0", "AAAA", 7));
        assert_eq!(
            group.devices,
            [Device { name: "pv0".into(), id: "BBBB".into(), bytes: Some(4096), ..Device::default() }]
        );
        assert!(group.volumes.iter().map(|v| v.name.as_str()).eq(["root", "swap"]));
        assert!(group.types.iter().eq(["raid1"]) && group.system.is_none());
        assert!(parse("").is_none() && parse("}\n}\n=\n").is_none());
        assert!(parse(&"a {\n".repeat(100_000)).is_none());
    }
}
