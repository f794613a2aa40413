//! What disks say: tables of systems, partition tables, members and file systems.

use std::path::Path;

use init::disk::resolve::flat;
use init::disk::source::{BUDGET, Reader, Source};
use init::disk::{assemble, crypttab, fstab, mdadm, mount, mountinfo, probe, resolve, system, unmount, zfs};
use rescue_schema::report::{BlockReport, PartitionReport, ProbeReport, ProbeResult, SignatureReport};

use super::sparse::Sparse;
use super::{halves, seal};

/// How a system would be mounted by this fstab.
pub(super) fn fstab_of_a_system(data: &[u8]) {
    let (entries, skipped) = fstab::parse(data);
    assert!(entries.windows(2).all(|pair| pair[0].line < pair[1].line));
    assert!(skipped.iter().all(|line| entries.iter().all(|e| e.line != *line)));
    let disk = machine_disk();
    // A line of either may be one of the other.
    let tables = mount::Tables { fstab: Some(data), crypttab: Some(data), mdadm: Some(data) };
    let leave = mount::Leave { write: true, degraded: false };
    let plan =
        mount::plan(&disk.children[0], tables, std::slice::from_ref(&disk), Path::new("/mnt/x"), leave);
    assert!(plan.steps.len() <= 128, "{}", plan.steps.len());
    for step in &plan.steps {
        let place = plan.place(step);
        assert!(place.starts_with("/mnt/x"), "{}", place.display());
        let _ = step.to_string();
    }
}

/// A crypttab, a NUL, and what fstab calls a device: what it stands for is open here, or known to be closed.
pub(super) fn crypttab_of_a_system(data: &[u8]) {
    let (table, source) = halves(data);
    assert!(crypttab::parse(table).iter().all(|(name, _)| !name.is_empty() && !name.contains('/')));
    let mut disk = machine_disk();
    disk.children[0].probe.kind = Some("crypto_LUKS".into());
    let open = |path: &str| BlockReport { path: path.into(), kind: "crypt".into(), ..BlockReport::default() };
    disk.children[0].children = vec![open("/dev/mapper/luks-1")];
    let disks = [disk];
    let known = ["/dev/mapper/luks-1", "/dev/vda", "/dev/vda2"];
    match crypttab::opened(&String::from_utf8_lossy(source), table, &disks, "/dev/vda2") {
        Some(crypttab::Opened::As(path)) => assert_eq!(path, known[0]),
        Some(crypttab::Opened::Not(path)) => assert!(known.contains(&path.as_str()), "{path}"),
        None => {}
    }
}

/// A mdadm.conf, a NUL, and what fstab calls an array: it stands for one that is here, or for none.
pub(super) fn mdadm_of_a_system(data: &[u8]) {
    let (config, source) = halves(data);
    assert!(mdadm::parse(config).len() <= 1024);
    let mut disk = machine_disk();
    for (number, child) in disk.children.iter_mut().enumerate() {
        child.probe.kind = Some("linux_raid_member".into());
        let uuid = child.probe.uuid.clone();
        let label = Some(["db7:root".to_string(), "db7:0".to_string()][number % 2].clone());
        child.probe.signatures = vec![SignatureReport { uuid, label, ..SignatureReport::default() }];
        let name = format!("md12{number}");
        let path = format!("/dev/{name}");
        child.children = vec![BlockReport { name, path, ..BlockReport::default() }];
    }
    let disks = [disk];
    match resolve::array(&String::from_utf8_lossy(source), Some(config), &disks) {
        resolve::Array::Is(path, _) => assert!(flat(&disks).iter().any(|b| b.path == path), "{path}"),
        resolve::Array::Untold(all) => assert!(all.len() > 1, "{all:?}"),
        resolve::Array::Absent | resolve::Array::Other => {}
    }
}

/// A disk of two file systems.
fn machine_disk() -> BlockReport {
    let part = |number: u32, uuid: &str| BlockReport {
        name: format!("vda{number}"),
        path: format!("/dev/vda{number}"),
        kind: "part".into(),
        partition: Some(PartitionReport { number, ..PartitionReport::default() }),
        probe: ProbeReport {
            result: ProbeResult::Found,
            kind: Some("ext4".into()),
            uuid: Some(uuid.into()),
            label: Some(format!("label{number}")),
            ..ProbeReport::default()
        },
        ..BlockReport::default()
    };
    BlockReport {
        name: "vda".into(),
        path: "/dev/vda".into(),
        kind: "disk".into(),
        serial: Some("S1".into()),
        children: vec![
            part(1, "11111111-2222-3333-4444-555555555555"),
            part(2, "66666666-7777-8888-9999-000000000000"),
        ],
        ..BlockReport::default()
    }
}

pub(super) fn mounts(data: &[u8]) {
    let mounts = mountinfo::parse(data);
    assert!(mountinfo::planned_unmounts(data).len() <= mounts.len());
    for folder in ["/mnt", "/"] {
        let _ = unmount::plan(data, Path::new(folder));
    }
}

/// What a system calls itself becomes one folder's name.
pub(super) fn os_release(data: &[u8]) {
    let (release, hostname) = halves(data);
    let facts = system::facts(release, Some(hostname), None);
    let name = system::name(&facts);
    assert!(
        !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && !name.contains('/'),
        "{name:?}"
    );
    assert!(facts.pretty_name.is_none_or(|name| !name.contains(char::is_control)));
}

/// A registry hive, asked for what is asked of Windows.
pub(super) fn registry(data: &[u8]) {
    let bytes = data.to_vec();
    let reader = Reader::new(&bytes, 512);
    if let Ok(Some(hive)) = system::regf::Hive::open(&reader) {
        for (path, name) in [
            (&["Microsoft", "Windows NT", "CurrentVersion"][..], "ProductName"),
            (&["Select"][..], "Current"),
        ] {
            let _ = hive.value(path, name);
        }
    }
    assert!(reader.spent() <= BUDGET);
}

pub(super) fn image(data: &[u8]) {
    if let Some(image) = Sparse::parse(data) {
        look(&image);
    }
}

/// The name of a format, a NUL, and an image that this format alone looks at.
pub(super) fn one_format(data: &[u8]) {
    let (name, image) = halves(data);
    if let (Ok(name), Some(mut image)) = (std::str::from_utf8(name), Sparse::parse(image)) {
        seal::seal(name, &mut image);
        let reader = Reader::new(&image, image.sector);
        for found in probe::ask_one(name, &reader) {
            assert!(!found.kind.is_empty() && found.offset < image.size());
        }
        assert!(reader.spent() <= BUDGET);
    }
}

/// With the checksums of a GPT made right, so that what they guard is reached too.
pub(super) fn sealed_gpt(data: &[u8]) {
    let Some(mut image) = Sparse::parse(data) else { return };
    let sector = if image.sector == 4096 { 4096 } else { 512 };
    let mut header = [0; 512];
    if image.size() < sector + 512 || image.read_at(sector, &mut header).is_err() {
        return;
    }
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (size, count, entry) = (number(12) as usize, number(80), number(84));
    let start = u64::from_le_bytes(*header[72..].first_chunk().unwrap_or(&[0; 8]));
    let length = u64::from(count) * u64::from(entry);
    if let Some(at) = start.checked_mul(sector)
        && length <= 1 << 21
        && at.checked_add(length).is_some_and(|end| end <= image.size())
    {
        #[allow(clippy::cast_possible_truncation)]
        let mut entries = vec![0; length as usize];
        let _ = image.read_at(at, &mut entries);
        header[88..92].copy_from_slice(&crc(&entries).to_le_bytes());
    }
    if (92..=512).contains(&size) {
        header[16..20].fill(0);
        let sum = crc(&header[..size]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
    }
    image.put(sector, &header);
    look(&image);
}

/// With the checksums of a physical volume made right from the inside out: text, header, label.
pub(super) fn sealed_lvm(data: &[u8]) {
    const SEED: u32 = 0xf597_a6cf;
    let Some(mut image) = Sparse::parse(data) else { return };
    let sum = |bytes: &[u8]| init::disk::source::crc32(0xEDB8_8320, SEED, bytes).to_le_bytes();
    if image.size() < 8192 {
        return;
    }
    let mut header = vec![0; 512];
    let _ = image.read_at(4096, &mut header);
    let number = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().unwrap_or(&[0; 8]));
    let (offset, length) = (number(40), number(48).min(1 << 16));
    let from = offset.checked_add(4096).filter(|from| from.saturating_add(length) <= image.size());
    if let Some(from) = from {
        #[allow(clippy::cast_possible_truncation)]
        let mut text = vec![0; length as usize];
        let _ = image.read_at(from, &mut text);
        header[56..60].copy_from_slice(&sum(&text));
    }
    let sealed = sum(&header[4..]);
    header[..4].copy_from_slice(&sealed);
    image.put(4096, &header);
    let mut label = vec![0; 512];
    let _ = image.read_at(512, &mut label);
    let sealed = sum(&label[20..]);
    label[16..20].copy_from_slice(&sealed);
    image.put(512, &label);
    look(&image);
}

/// What zpool(8) and zfs(8) say of pools, a NUL between, each name of which a stranger chose: what is shown can be
/// mounted, and is planned.
pub(super) fn zpool(data: &[u8]) {
    let (pools, datasets) = halves(data);
    let (pools, datasets) = (String::from_utf8_lossy(pools), String::from_utf8_lossy(datasets));
    let _ = zfs::state(&pools, "17");
    let mut disk = machine_disk();
    disk.children[0].probe.kind = Some("zfs_member".into());
    disk.children[0].probe.uuid = Some("17".into());
    let mut disks = [disk];
    zfs::attach(&mut disks, &pools, &datasets, &[]);
    let all: Vec<BlockReport> = flat(&disks).into_iter().filter(|b| zfs::is_dataset(b)).cloned().collect();
    for root in &all {
        assert!(!root.path.contains(char::is_control) && !root.path.starts_with(['-', '/']), "{root:?}");
        let _ = (zfs::may_be_root(root, &disks), zfs::is_kept(root, &disks), zfs::locked(root));
        let mut plan = mount::alone(root, &disks, Path::new("/mnt/x"), mount::Leave::default());
        zfs::add(&mut plan, root, &disks, false);
        assert!(plan.steps.len() <= 128, "{}", plan.steps.len());
        assert!(plan.steps.iter().all(|step| !step.target.split('/').any(|part| part == "..")), "{plan:?}");
    }
}

fn crc(bytes: &[u8]) -> u32 {
    !init::disk::source::crc32(0xEDB8_8320, !0, bytes)
}

/// What is found of an image can be said as JSON and is read back.
fn look(image: &Sparse<'_>) {
    let report = probe::image(&Reader::new(image, image.sector));
    let json = serde_json::to_vec(&report).expect("a report is JSON");
    assert_eq!(serde_json::from_slice::<ProbeReport>(&json).expect("a report reads back"), report);
    if report.result == ProbeResult::Found {
        assert!(!report.signatures.is_empty());
    }
    put_together(report);
}

/// Whatever an image says of arrays and groups, what is planned of it is of the devices that there are.
fn put_together(probe: ProbeReport) {
    let disk = |path: &str| BlockReport { path: path.into(), probe: probe.clone(), ..BlockReport::default() };
    let disks = [disk("/dev/vda"), disk("/dev/vdb")];
    for (count, degraded) in [(1, false), (1, true), (2, true)] {
        let wish = assemble::Wish { degraded, ..assemble::Wish::default() };
        let plan = assemble::plan(&disks[..count], &wish);
        let named = assemble::members(&plan, false);
        assert!(named.iter().all(|path| disks.iter().any(|disk| disk.path == *path)), "{named:?}");
        let _ =
            (format!("{:?}", plan.remarks), plan.steps.iter().map(ToString::to_string).collect::<String>());
    }
}
