//! Each family's image meets a login and says what it expects, in either profile; each program that a standard image
//! holds starts: those that all families share in that of all of them, the others in that of their own.
use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use rescue_schema::manifest::Manifest;
use rescue_schema::paths;
use rescue_schema::report::StatusReport;

use crate::device::Device;
use crate::guest::Guest;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

/// What each family's status names of its own. debian's images boot in most other scenarios.
const FAMILIES: [(&str, &str); 5] = [
    ("redhat", "xfs"),
    ("suse", "btrfs"),
    ("windows", "exfat"),
    ("freebsd", "BSD label"),
    ("universal", "xfs"),
];

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let all = programs(lab, "universal")?;
    ensure!(all.len() > 90, "{} programs", all.len());
    let common = programs(lab, "debian")?;
    for (family, expected) in FAMILIES {
        meets_a_login(lab, &device, family, "minimal", expected, |_| Ok(()))?;
        let own = programs(lab, family)?;
        // The same bytes are in the image of all families: started there, they are not started here again.
        let other = own.iter().find(|(path, digest)| all.get(*path) != Some(digest));
        ensure!(other.is_none(), "{family}: {other:?} is another program in the universal image");
        let start: Vec<&String> =
            own.keys().filter(|path| family == "universal" || !common.contains_key(*path)).collect();
        ensure!(!start.is_empty(), "{family}: no program of its own");
        meets_a_login(lab, &device, family, "standard", expected, |guest| each_starts(guest, &start))?;
    }
    let mut show = std::process::Command::new(lab.bench.binaries()?.imagebuilder);
    show.args(["show", "universal", "--profile", "standard", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&process::check(&mut show, limit(120))?)?;
    ensure!(shown["profiles"][0]["parts"].as_array().is_some_and(|parts| parts.len() > 30), "{shown}");
    Ok(())
}

fn meets_a_login(
    lab: &Lab<'_>,
    device: &Device,
    family: &str,
    profile: &str,
    expected: &str,
    then: impl FnOnce(&Guest) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let vm = lab.family(family, profile, device)?;
    let vm = if profile == "standard" { vm.memory(512) } else { vm }.start()?;
    vm.ready()?;
    let guest = vm.ssh(device, "root")?;
    let status: StatusReport = serde_json::from_str(&guest.ok("rescue status --json")?)?;
    let image = status.image.context("an image that says nothing of itself")?;
    let named = [&image.guest.file_systems[..], &image.guest.layouts].concat();
    ensure!(image.family == family && named.iter().any(|it| it == expected), "{image:?}");
    let text = guest.ok("rescue status")?;
    ensure!(text.contains("  family    "), "{family}: {text}");
    then(&guest).with_context(|| format!("{family} {profile}"))
}

/// What packages brought into folders of programs of a standard image, and its digest; the applets of busybox are
/// links and start anywhere.
fn programs(lab: &Lab<'_>, family: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let image = lab.bench.image(family, "standard")?;
    let text = std::fs::read_to_string(image.dir.join("manifest.json")).context("reading the manifest")?;
    let manifest: Manifest = serde_json::from_str(&text)?;
    let is_program = |path: &str| path.contains("bin/") && !path.ends_with("/busybox");
    let programs =
        manifest.files.into_iter().filter(|file| is_program(&file.path) && file.origin.contains('='));
    let plain =
        |path: String| match path.strip_prefix(paths::PACKED_PROGRAMS).and_then(|p| p.strip_suffix(".zst")) {
            Some(plain) => plain.to_string(),
            None => path,
        };
    Ok(programs.filter_map(|file| Some((plain(file.path), file.sha256?))).collect())
}

fn each_starts(guest: &Guest, programs: &[&String]) -> anyhow::Result<()> {
    let names = programs.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(" ");
    // 126 and 127 are the shell's words for a program that cannot be started, 129 to 192 those for one that
    // was killed; 124 ends one that waits for somebody. What each thinks of --version is its own affair.
    let script = format!(
        "for p in {names}; do timeout 20 $p --version </dev/null >/tmp/said 2>&1; s=$?; \
         if [ $s = 126 ] || [ $s = 127 ] || {{ [ $s -gt 128 ] && [ $s -lt 193 ]; }} || \
         grep -q 'error while loading' /tmp/said; then echo $p $s; cat /tmp/said; fi; done"
    );
    let failed = guest.ok(&script)?;
    ensure!(failed.trim().is_empty(), "{failed}");
    Ok(())
}
