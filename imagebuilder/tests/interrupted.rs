//! A build that is killed, wherever in its work, leaves the artifacts of the one before.

mod standin;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use standin::standin;

const BUILDER: &str = env!("CARGO_BIN_EXE_imagebuilder");
/// What a build calls at its stations, and which of its calls: it opens packages and makes files without a name, has
/// each on the disk, gives each a name beside the old one's, puts it in its place.
const STATIONS: [(&str, &[u32]); 4] =
    [("openat", &[1, 15, 30]), ("fsync", &[1, 2, 3]), ("linkat", &[1, 2, 3]), ("rename", &[1])];

fn command(program: &str, family: &str, out: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["build", "--family", family, "--profile", "minimal", "--init", &standin(), "-o"]).arg(out);
    command
}

/// What is in a folder, by name.
fn digests(folder: &Path) -> BTreeMap<String, [u8; 32]> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let digest = |path: &Path| Sha256::digest(std::fs::read(path).unwrap()).into();
    entries.map(|e| (e.file_name().into_string().unwrap(), digest(&e.path()))).collect()
}

#[test]
fn what_was_there_is_whole_wherever_a_build_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    assert!(command(BUILDER, "debian", &out).stdout(Stdio::null()).status().unwrap().success());
    let before = digests(&out);
    assert_eq!(before.len(), 3);
    // The same name, another content.
    let own = folder.path().join("own.toml");
    let text = "name = \"debian\"\nabout = \"x\"\ninherits = [\"debian\"]\n[[profile.minimal.file]]\n\
                path = \"/etc/other\"\ntext = \"other\"\n";
    std::fs::write(&own, text).unwrap();
    for (call, counts) in STATIONS {
        for count in counts {
            // strace ends the process with the call that is counted, before the kernel has done it.
            let mut traced = Command::new("strace");
            traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
            traced.arg(format!("inject={call}:signal=KILL:when={count}"));
            traced.arg(BUILDER).args(["build", "--profile", "minimal", "--init", &standin(), "--family"]);
            let status = traced.arg(&own).arg("-o").arg(&out).stdout(Stdio::null()).status().unwrap();
            assert!(!status.success(), "{call} {count}: it was not killed");
            let mut after = digests(&out);
            // Names that it had given already, beside those of the artifacts; the next build takes them away.
            after.retain(|name, _| !(name.starts_with('.') && name.ends_with(".new")));
            assert!(after == before, "{call} {count}: {:?}", after.keys());
        }
    }
    assert!(command(BUILDER, own.to_str().unwrap(), &out).stdout(Stdio::null()).status().unwrap().success());
    let after = digests(&out);
    assert!(after.keys().eq(before.keys()), "{:?}", after.keys());
    assert!(after["vmlinuz"] == before["vmlinuz"] && after["manifest.json"] != before["manifest.json"]);
}
