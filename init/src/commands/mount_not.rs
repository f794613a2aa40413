//! Why a device that a person named is not mounted or entered: of that very device, with what is on it and what to do.

use rescue_schema::report::BlockReport;

use super::assemble as together;
use super::find::Survey;
use crate::disk::drivers::driver;
use crate::disk::resolve::Missing;
use crate::disk::{assemble, resolve, sealed};

/// Of a name that stands for no device here, or for several.
pub(super) fn nowhere(name: &str, missing: &Missing, disks: &[BlockReport], all: &assemble::Wish) -> String {
    let said = missing.said(name);
    match (missing, assemble::locked(disks).first()) {
        (Missing::Several(_), _) => said,
        (Missing::Nowhere, Some(locked)) => {
            format!("{name} is not here; {0} is encrypted, and may hold it: rescue unlock {0}", locked.path)
        }
        (Missing::Nowhere, None) => said + &listed(&assemble::plan(disks, all).remarks),
    }
}

/// Of one that no file system is on.
pub(super) fn no_file_system(block: &BlockReport, disks: &[BlockReport]) -> String {
    let device = &block.path;
    let on: Vec<&str> = block.children.iter().map(|child| child.path.as_str()).collect();
    match block.probe.kind.as_deref() {
        _ if !on.is_empty() => format!(
            "{device} is no file system; name one that is on it, or a system (rescue systems): {}",
            on.join(", ")
        ),
        Some(_) if assemble::locked(disks).iter().any(|b| b.path == *device) => {
            format!("{device} is encrypted: rescue unlock {device}, or --key-file FILE")
        }
        Some(_) if sealed::is_divided(block) => format!(
            "{device} is divided into partitions that the kernel does not show: losetup -rfP {device}, then: rescue \
             systems"
        ),
        Some(kind) => {
            let left = assemble::left(disks, together::imports_pools());
            if left.members.contains(device) {
                return format!(
                    "{device} holds {kind}, a part of what is not put together: rescue assemble, then name what that makes"
                );
            }
            let why: Vec<String> = left.why.into_iter().filter(|why| speaks_of(why, block)).collect();
            let why = listed(&why);
            format!("{device} holds {kind}, which cannot be mounted: `rescue probe {device}` says more{why}")
        }
        None => {
            format!("nothing that can be mounted is known on {device}: `rescue probe {device}` says more")
        }
    }
}

/// Of one that no system's root is on.
pub(super) fn no_system(block: &BlockReport, survey: &Survey<'_>, disks: &[BlockReport]) -> String {
    let device = &block.path;
    let below = resolve::flat(std::slice::from_ref(block));
    let inside: Vec<&str> = survey
        .systems
        .iter()
        .filter(|s| !s.snapshot && below.iter().any(|b| b.path == s.root.path))
        .map(|s| s.name.as_str())
        .collect();
    if !inside.is_empty() {
        return format!("{device} itself is no system's root; on it is: {}: name that", inside.join(", "));
    }
    // What kept it from being looked at.
    if let Some(line) = survey.unseen.iter().find(|line| words(line).any(|word| word == device)) {
        return format!("no system was found on {device}; {line}");
    }
    let kind = block.probe.kind.as_deref().unwrap_or_default();
    if !block.children.is_empty() || driver(kind).is_none() {
        return no_file_system(block, disks);
    }
    let role = survey.parts.iter().find(|(path, _)| path == device).and_then(|(_, content)| content.role);
    let why = match role {
        Some(role) => format!("what is on it looks like a {role}"),
        None => "in it is neither an os-release nor what is left of a system".into(),
    };
    let label = block.probe.label.as_ref().map(|l| format!(" {l:?}")).unwrap_or_default();
    format!("{device} holds {kind}{label}, and no system: {why}; to look at it: rescue mount {device}")
}

/// Whether a line is of a device, or of the array, group or cache that it is a part of.
fn speaks_of(line: &str, block: &BlockReport) -> bool {
    let Some(own) = block.probe.signatures.first() else { return false };
    let names = ["VG_NAME", "BCACHE_SET"].into_iter().filter_map(|key| own.more.get(key));
    words(line).any(|word| word == block.path || names.clone().chain(&own.uuid).any(|name| name == word))
}

/// The words of a line, without what stands around names.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let apart = |c: char| c.is_whitespace() || matches!(c, ':' | ',' | '(' | ')' | '"');
    line.split(apart).filter(|word| !word.is_empty())
}

/// Lines of their own below a sentence.
fn listed(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  - {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::tests::disk;
    use crate::disk::system::Content;

    #[test]
    fn it_is_spoken_of_the_device_that_was_named() {
        let mut disks = [disk("vda", &[("ext4", "aa"), ("swap", "bb"), ("vfat", "cc"), ("ext4", "dd")])];
        disks[0].children[0].probe.label = Some("data\n".into());
        let mut survey = Survey::default();
        survey.parts.push(("/dev/vda3".into(), Content { role: Some("/boot/efi"), ..Content::default() }));
        survey.unseen.push("looking at /dev/vda4 (ext4): superblock broken".into());
        survey.unseen.push("/dev/vda10: cannot be read: no answer".into());
        let said = |at: usize| no_system(&disks[0].children[at], &survey, &disks);
        assert_eq!(
            said(0),
            "/dev/vda1 holds ext4 \"data\\n\", and no system: in it is neither an os-release nor what is left of a \
             system; to look at it: rescue mount /dev/vda1"
        );
        assert!(said(1).starts_with("/dev/vda2 holds swap, which cannot be mounted"), "{}", said(1));
        assert!(said(2).contains("looks like a /boot/efi"), "{}", said(2));
        assert_eq!(
            said(3),
            "no system was found on /dev/vda4; looking at /dev/vda4 (ext4): superblock broken"
        );
        let whole = no_system(&disks[0], &survey, &disks);
        assert!(whole.starts_with("/dev/vda is no file system") && whole.contains("/dev/vda3"), "{whole}");
    }
}
