//! Each family's minimal image meets a login and says what it expects; the standard image of all families
//! holds every program that a family promises, and each of them starts.
use anyhow::{Context, ensure};
use rescue_schema::manifest::Manifest;
use rescue_schema::paths;
use rescue_schema::report::StatusReport;

use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    // debian's boots in most other scenarios.
    for (family, file_system) in [("redhat", "xfs"), ("suse", "btrfs"), ("windows", "exfat"), ("freebsd", "BSD label")] {
        let vm = lab.family(family, "minimal", &device)?.start()?;
        vm.ready()?;
        let guest = vm.ssh(&device, "root")?;
        let status: StatusReport = serde_json::from_str(&guest.ok("rescue status --json")?)?;
        let image = status.image.context("an image that says nothing of itself")?;
        let expected = [&image.guest.file_systems[..], &image.guest.layouts].concat();
        ensure!(image.family == family && expected.iter().any(|it| it == file_system), "{image:?}");
        let text = guest.ok("rescue status")?;
        ensure!(text.contains("  family    "), "{family}: {text}");
    }
    let image = lab.bench.image("universal", "standard")?;
    let text = std::fs::read_to_string(image.dir.join("manifest.json")).context("reading the manifest")?;
    let manifest: Manifest = serde_json::from_str(&text)?;
    // What a package brought into a folder of programs; the applets of busybox are links and start anywhere.
    let programs: Vec<&str> = manifest
        .files
        .iter()
        .filter(|file| file.sha256.is_some() && file.path.contains("bin/") && !file.path.ends_with("/busybox") && file.origin.contains('='))
        .map(|file| {
            let packed = file.path.strip_prefix(paths::PACKED_PROGRAMS);
            packed.and_then(|path| path.strip_suffix(".zst")).unwrap_or(&file.path)
        })
        .collect();
    let mut show = std::process::Command::new(lab.bench.binaries()?.imagebuilder);
    show.args(["show", "universal", "--profile", "standard", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&process::check(&mut show, limit(120))?)?;
    ensure!(shown["profiles"][0]["parts"].as_array().is_some_and(|parts| parts.len() > 30), "{shown}");
    ensure!(programs.len() > 90, "{} programs", programs.len());
    let vm = lab.family("universal", "standard", &device)?.memory(512).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    // 126 and 127 are the shell's words for a program that cannot be started, 129 to 192 those for one that
    // was killed; 124 ends one that waits for somebody. What each thinks of --version is its own affair.
    let script = format!(
        "for p in {}; do timeout 20 $p --version </dev/null >/tmp/said 2>&1; s=$?; \
         if [ $s = 126 ] || [ $s = 127 ] || {{ [ $s -gt 128 ] && [ $s -lt 193 ]; }} || \
         grep -q 'error while loading' /tmp/said; then echo $p $s; cat /tmp/said; fi; done",
        programs.join(" ")
    );
    let failed = guest.ok(&script)?;
    ensure!(failed.trim().is_empty(), "{failed}");
    Ok(())
}
