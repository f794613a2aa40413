//! Media as the real tools make them, read by our readers and by the confined process. Needs genisoimage,
//! xorriso, `mkfs.vfat` (dosfstools) and `mcopy` (mtools); the last test needs root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use init::creds::media::{self, Kind, Volume, drive};

fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

struct Lab(tempfile::TempDir);

impl Lab {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        for (path, content) in files {
            let path = lab.path("files").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn iso(&self, program: &[&str], label: &str) -> PathBuf {
        let image = self.path("image.iso");
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(["-V", label, "-o"]).arg(&image).arg(self.path("files"));
        run(&mut command);
        image
    }

    fn fat(&self, bits: &str, mib: u64, label: &str) -> PathBuf {
        let image = self.path("image.fat");
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(Command::new("mkfs.vfat").args(["-F", bits, "-n", label, "-i", "9796932E"]).arg(&image));
        let entries = std::fs::read_dir(self.path("files")).unwrap().map(|e| e.unwrap().path());
        run(Command::new("mcopy").args(["-s", "-i"]).arg(&image).args(entries).arg("::"));
        image
    }
}

fn open(image: &Path) -> Volume<std::fs::File> {
    let label = media::label(&mut std::fs::File::open(image).unwrap()).unwrap();
    let volume = media::open(std::fs::File::open(image).unwrap()).unwrap().expect("a file system");
    assert_eq!(label.as_deref(), Some(volume.label()));
    volume
}

const META: &[u8] = br#"{"uuid":"8f3b1c52-0b1e-4a7c-9a52-5f1c9b6d7e01","hostname":"db7","public_keys":{"a":"ssh-ed25519 AAAA a"}}"#;

#[test]
fn every_way_to_make_an_iso_is_read() {
    let big: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let lab = Lab::new(&[("openstack/latest/meta_data.json", META), ("user-data", &big), ("empty", b"")]);
    for program in [
        &["genisoimage", "-quiet", "-J", "-R"][..],
        &["genisoimage", "-quiet", "-R"],
        &["genisoimage", "-quiet", "-J"],
        &["genisoimage", "-quiet", "-l", "-allow-lowercase", "-allow-multidot", "-relaxed-filenames"],
        &["genisoimage", "-quiet", "-iso-level", "2"],
        &["xorriso", "-as", "mkisofs", "-quiet"],
        &["xorriso", "-as", "mkisofs", "-quiet", "-J", "-joliet-long", "-R"],
    ] {
        let mut volume = open(&lab.iso(program, "config-2"));
        assert_eq!(Kind::of(volume.label()), Some(Kind::ConfigDrive), "{program:?}");
        assert_eq!(
            volume.file("openstack/latest/meta_data.json").unwrap().as_deref(),
            Some(META),
            "{program:?}"
        );
        assert_eq!(volume.file("user-data").unwrap(), Some(big.clone()), "{program:?}");
        assert_eq!(volume.file("empty").unwrap().as_deref(), Some(&b""[..]), "{program:?}");
        for missing in ["openstack", "openstack/latest/nothing", "user-data/x", "", "/"] {
            assert_eq!(volume.file(missing).unwrap(), None, "{program:?} {missing:?}");
        }
    }
}

#[test]
fn every_width_of_fat_is_read() {
    let big: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let lab = Lab::new(&[
        ("openstack/latest/meta_data.json", META),
        ("user-data", &big),
        ("a-name-that-is-longer-than-one-entry-holds.yaml", b"x"),
    ]);
    for (bits, mib) in [("12", 4), ("16", 32), ("32", 64)] {
        let mut volume = open(&lab.fat(bits, mib, "CONFIG-2"));
        assert_eq!((volume.label(), volume.uuid()), ("CONFIG-2", Some("9796-932E")));
        assert_eq!(
            volume.file("openstack/latest/meta_data.json").unwrap().as_deref(),
            Some(META),
            "FAT{bits}"
        );
        assert_eq!(volume.file("user-data").unwrap(), Some(big.clone()), "FAT{bits}");
        let long = volume.file("a-name-that-is-longer-than-one-entry-holds.yaml").unwrap();
        assert_eq!(long.as_deref(), Some(&b"x"[..]), "FAT{bits}");
        assert_eq!(volume.file("a-name").unwrap(), None);
    }
}

#[test]
fn what_is_too_large_damaged_or_not_there_is_said() {
    let lab =
        Lab::new(&[("user-data", &vec![b'x'; media::MAX_FILE + 1]), ("meta-data", b"instance-id: x\n")]);
    for image in [lab.iso(&["genisoimage", "-quiet", "-J"], "cidata"), lab.fat("16", 32, "CIDATA")] {
        let mut volume = open(&image);
        let why = drive::read(&mut volume, Kind::NoCloud).unwrap_err();
        assert!(why.contains("user-data has 1048577 bytes"), "{why}");
        let why = drive::read(&mut volume, Kind::ConfigDrive).unwrap_err();
        assert!(why.contains("meta_data.json"), "{why}");
        let why = drive::read(&mut volume, Kind::Ironic).unwrap_err();
        assert!(why.contains("parameters.txt"), "{why}");
        let whole = std::fs::read(&image).unwrap();
        for length in [0, 511, 512, 40_000, 60_000, whole.len() / 2] {
            if let Ok(Some(mut volume)) = media::open(&whole[..length]) {
                let _ = volume.file("meta-data");
            }
        }
    }
    assert!(media::open(&[0_u8; 100_000][..]).unwrap().is_none());
}

#[test]
fn parameters_of_ironic_are_a_command_line() {
    let key = "ssh-ed25519 AAAA me";
    let text = format!("ipa-api-url=http://192.0.2.1:6385\nsshkey=\"{key}\"\nrootpwd=hunter2\n");
    let lab = Lab::new(&[("parameters.txt", text.as_bytes())]);
    let mut volume = open(&lab.fat("12", 4, "IR-VFD-DEV"));
    let kind = Kind::of(volume.label()).unwrap();
    let part = drive::read(&mut volume, kind).unwrap();
    assert_eq!(part.document.logins[0].authorized_keys, [key]);
    assert!(part.remarks.len() == 1 && !format!("{part:?}").contains("hunter2"), "{part:?}");
}

#[test]
fn the_confined_process_reads_its_one_medium() {
    assert!(nix::unistd::geteuid().is_root(), "giving up privileges needs root: run this test as root");
    let lab = Lab::new(&[("openstack/latest/meta_data.json", META)]);
    let image = lab.iso(&["genisoimage", "-quiet", "-J", "-R"], "config-2");
    let nowhere = lab.path("nowhere");
    std::fs::create_dir(&nowhere).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_rescue"))
        .args(["sources", "--read", "config-drive", "removable media", "sr0 config-2"])
        .current_dir(&nowhere)
        .stdin(Stdio::from(std::fs::File::open(&image).unwrap()))
        .output()
        .unwrap();
    let said: serde_json::Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {:?} {}", out.status, String::from_utf8_lossy(&out.stderr)));
    assert_eq!((&said["state"], &said["document"]["device"]["hostname"]), (&"found".into(), &"db7".into()));
    assert_eq!(said["document"]["logins"][0]["authorized_keys"][0], "ssh-ed25519 AAAA a");
}

const HASH: &str = "$5$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6";

#[test]
fn ibms_drive_is_known_by_its_serial_number() {
    let vendor = format!(r##"{{"cloud-init":"#!/bin/bash\necho 'root:{HASH}' | chpasswd -e"}}"##);
    let lab = Lab::new(&[
        ("openstack/latest/meta_data.json", META),
        ("openstack/latest/vendor_data.json", vendor.as_bytes()),
        ("openstack/latest/network_data.json", b"{}"),
        ("openstack/latest/user_data", b"#!/bin/sh\nhalt\n"),
    ]);
    let part = drive::read(&mut open(&lab.fat("16", 32, "config-2")), Kind::ConfigDrive).unwrap();
    let login = &part.document.logins[0];
    assert_eq!((part.document.logins.len(), login.authorized_keys.len(), part.network.len()), (1, 1, 1));
    assert_eq!(login.password_hash.as_ref().unwrap().expose_secret(), HASH);
    assert_eq!(part.remarks, ["user-data: not used, it is a script, which is never run"]);
    let image = lab.iso(&["genisoimage", "-quiet", "-J"], "config-2");
    let part = drive::read(&mut open(&image), Kind::ConfigDrive).unwrap();
    assert!(part.document.logins[0].password_hash.is_none());
    assert!(part.remarks.iter().any(|remark| remark.starts_with("vendor_data.json: not used")), "{part:?}");
}

#[test]
fn both_documents_of_nocloud_let_in() {
    let user = format!(
        "#cloud-config\nhostname: by-user\nchpasswd: {{users: [{{name: root, password: \"{HASH}\"}}]}}\n"
    );
    let lab = Lab::new(&[
        ("meta-data", b"instance-id: iid\nlocal-hostname: by-meta\npublic-keys: [ssh-ed25519 AAAA a]\n"),
        ("user-data", user.as_bytes()),
        ("network-config", b"version: 2\nethernets: {eth0: {dhcp4: true}}\n"),
        ("vendor-data", b"#cloud-config\n"),
    ]);
    let part = drive::read(
        &mut open(&lab.iso(&["xorriso", "-as", "mkisofs", "-quiet", "-J"], "cidata")),
        Kind::NoCloud,
    )
    .unwrap();
    let login = &part.document.logins[0];
    assert_eq!((part.document.logins.len(), login.authorized_keys.len()), (1, 1));
    assert!(login.password_hash.is_some());
    assert_eq!(part.document.device.hostname.as_deref(), Some("by-user"));
    assert_eq!(part.document.device.id.as_deref(), Some("iid"));
    assert_eq!((part.network.len(), part.remarks.len()), (1, 1), "{part:?}");
}
