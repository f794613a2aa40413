use super::*;
use rescue_schema::report::{ProbeReport, ProbeResult, SignatureReport};

fn device(name: &str, kind: &str, uuid: &str, more: &[(&str, &str)]) -> BlockReport {
    let more = more.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let state = Some("clean".to_string());
    let signature = SignatureReport {
        kind: kind.into(),
        uuid: Some(uuid.into()),
        version: Some("1.2".into()),
        state,
        more,
        ..SignatureReport::default()
    };
    let probe =
        ProbeReport { result: ProbeResult::Found, signatures: vec![signature], ..ProbeReport::default() };
    BlockReport { name: name.into(), path: format!("/dev/{name}"), probe, ..BlockReport::default() }
}

fn member(name: &str, id: &str, role: &str, events: &str, present: &str) -> BlockReport {
    let same = [("MD_LEVEL", "raid1"), ("MD_LAYOUT", "0"), ("MD_SIZE", "64"), ("MD_CHUNK", "0")];
    let data = [("MD_DATA_OFFSET", "8"), ("MD_DATA_SIZE", "64"), ("MD_DEVICES", "2")];
    let own = [("UUID_SUB", id), ("MD_ROLE", role), ("MD_EVENTS", events), ("MD_PRESENT", present)];
    device(name, "linux_raid_member", "u", &[&same[..], &data, &own].concat())
}

fn volume(name: &str, id: &str, group: (&str, &str), ids: &str, types: &str) -> BlockReport {
    let more = [("VG_NAME", group.0), ("VG_UUID", group.1), ("VG_PV_UUIDS", ids), ("VG_TYPES", types)];
    device(name, "LVM2_member", id, &more)
}

fn planned(disks: &[BlockReport], degraded: bool, only: &[&str]) -> (Vec<String>, String) {
    let only = only.iter().map(ToString::to_string).collect();
    let plan = plan(disks, &Wish { degraded, only });
    (plan.steps.iter().map(ToString::to_string).collect(), plan.remarks.join("\n"))
}

const BOTH: &str = "start /dev/md127 (raid1, 2 of 2 members: /dev/a /dev/b), read-only, no resync";

#[test]
fn a_member_that_is_one_event_behind_is_taken_and_a_stale_one_is_not() {
    let whole = [member("a", "1", "0", "10", "0 1"), member("b", "2", "1", "9", "0 1")];
    assert_eq!(planned(&whole, false, &[]).0, [BOTH]);
    let stale = [member("a", "1", "0", "20", "0"), member("b", "2", "1", "9", "0 1")];
    let (steps, said) = planned(&stale, false, &[]);
    assert!(steps.is_empty() && said.contains("/dev/b is stale") && said.contains("--degraded"), "{said}");
    let one = "start /dev/md127 (raid1, 1 of 2 members: /dev/a), read-only, no resync";
    assert_eq!(planned(&stale, true, &[]).0, [one]);
}

#[test]
fn halves_that_were_both_written_to_are_not_mixed() {
    let parted = [member("a", "1", "0", "20", "0"), member("b", "2", "1", "25", "1")];
    let (steps, said) = planned(&parted, true, &[]);
    assert!(steps.is_empty() && said.contains("without the other"), "{said}");
    assert_eq!(planned(&parted, true, &["/dev/a"]).0.len(), 1);
}

#[test]
fn of_copies_none_is_taken_until_devices_are_named() {
    let pair = |x, y| [member(x, "1", "0", "5", "0 1"), member(y, "2", "1", "5", "0 1")];
    let all = [pair("a", "b"), pair("c", "d")].concat();
    let (steps, said) = planned(&all, true, &[]);
    assert!(steps.is_empty() && said.contains("copies of one another"), "{said}");
    assert_eq!(planned(&all, false, &["/dev/a", "/dev/b"]).0, [BOTH]);
    let group = ("vg", "g");
    let volumes = [volume("a", "p", group, "p", "striped"), volume("b", "p", group, "p", "striped")];
    assert!(planned(&volumes, true, &[]).0.is_empty());
    let one = "activate volume group \"vg\" on /dev/b, read-only";
    assert_eq!(planned(&volumes, false, &["/dev/b"]).0, [one]);
}

#[test]
fn groups_of_one_name_missing_volumes_and_hostile_names() {
    let two = [volume("a", "p", ("vg", "g"), "p", "striped"), volume("b", "q", ("vg", "h"), "q", "striped")];
    assert!(planned(&two, false, &[]).0.is_empty() && planned(&two, false, &["/dev/b"]).0.len() == 1);
    let lacking = [volume("a", "p", ("vg", "g"), "p q", "striped")];
    let (steps, said) = planned(&lacking, false, &[]);
    assert!(!steps[0].contains("holes") && said.contains("1 of 2 physical volumes are missing"), "{said}");
    assert!(planned(&lacking, true, &[]).0[0].contains("holes"));
    for (name, types) in [("-y", "striped"), ("a b", "striped"), ("vg", "striped thin-pool"), ("vg", "raid1")]
    {
        let (steps, said) = planned(&[volume("a", "p", (name, "g"), "p", types)], true, &[]);
        assert!(steps.is_empty() && !said.is_empty(), "{name} {types}");
    }
}
