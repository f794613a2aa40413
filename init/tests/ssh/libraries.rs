//! Clients by libraries: libssh, and Go's through rclone.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::server::*;
use crate::transfer::noise;

/// Compiles a program or a library of these tests; the package that brings what it includes is named when
/// that fails.
pub(crate) fn compiled(source: &str, to: &Path, flags: &[&str], package: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ssh").join(source);
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Werror", "-o"]).arg(to).arg(source).args(flags);
    let output = cc.output().unwrap_or_else(|error| panic!("cc ({error}): apt-get install gcc"));
    assert!(output.status.success(), "apt-get install {package}? {}", text(&output.stderr));
}

#[test]
fn libssh_logs_in_each_way_runs_commands_and_transfers_files() {
    let server = Server::start();
    let program = server.file("libssh");
    compiled("libssh.c", &program, &["-lssh"], "libssh-dev");
    let client = |way: [&str; 2], what: &[&str]| -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "90"]).arg(&program).args(way).arg(server.address.port().to_string());
        command.arg(server.file("known_hosts")).args(what).env("HOME", server.folder.path());
        command.stdin(std::fs::File::open(server.file("up")).unwrap()).output().unwrap()
    };
    let content = noise(2_000_003);
    std::fs::write(server.file("up"), &content).unwrap();
    let id = server.file("id").display().to_string();
    let key = ["key", id.as_str()];
    for way in [key, ["password", "correct horse"], ["keyboard-interactive", "correct horse"]] {
        let output = client(way, &["exec", "echo \"$USER $LANG\" >&2; cat; exit 7"]);
        assert_eq!(output.status.code(), Some(7), "{way:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "root C.UTF-8\n", "{way:?}");
        assert!(output.stdout == content, "{way:?}: {} bytes", output.stdout.len());
    }
    let output = client(["password", "wrong"], &["exec", "echo in"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), String::new()));

    let at = |name: &str| server.file(name).display().to_string();
    std::fs::create_dir(server.file("there")).unwrap();
    said(&client(key, &["put", &at("up"), &at("there/f")]));
    assert!(std::fs::read(server.file("there/f")).unwrap() == content);
    assert_eq!(std::fs::metadata(server.file("there/f")).unwrap().mode() & 0o7777, 0o640);
    assert!(said(&client(key, &["list", &at("there")])).contains("f 100640 2000003\n"));
    said(&client(key, &["get", &at("there/f"), &at("down")]));
    assert!(std::fs::read(server.file("down")).unwrap() == content);
    said(&client(key, &["rename", &at("there/f"), &at("there/g")]));
    assert!(!server.file("there/f").exists() && server.file("there/g").exists());
    let output = client(key, &["get", &at("there/none"), &at("down")]);
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("No such file"), "{}", text(&output.stderr));
}

#[test]
fn rclone_syncs_both_ways_and_finds_what_differs() {
    let server = Server::start();
    let here = server.file("here");
    std::fs::create_dir_all(here.join("a b/empty")).unwrap();
    for n in 0..40 {
        std::fs::write(here.join(format!("a b/file {n}")), noise(1000 * n)).unwrap();
    }
    std::fs::write(here.join("large"), noise(9_000_001)).unwrap();
    let rclone = |args: &[&str]| {
        let mut rclone = tool("rclone", "rclone");
        rclone.env("HOME", server.folder.path()).args(["--config", "/dev/null", "--sftp-host", "127.0.0.1"]);
        rclone.args(["--sftp-port", &server.address.port().to_string(), "--sftp-user", "root"]);
        rclone.arg("--sftp-key-file").arg(server.file("id"));
        rclone.arg("--sftp-known-hosts-file").arg(server.file("known_hosts"));
        rclone.args(args).stdin(Stdio::null()).output().unwrap()
    };
    let remote = format!(":sftp:{}", server.file("there").display());
    let (here, back) = (here.display().to_string(), server.file("back").display().to_string());
    said(&rclone(&["sync", "--create-empty-src-dirs", &here, &remote]));
    // By checksums that the commands of the other side make.
    said(&rclone(&["check", "--checkers", "2", &here, &remote]));
    said(&rclone(&["sync", "--transfers", "8", &remote, &back]));
    assert!(std::fs::read(server.file("back/large")).unwrap() == noise(9_000_001));
    assert!(server.file("there/a b/empty").is_dir());
    std::fs::write(server.file("there/a b/file 7"), noise(6999)).unwrap();
    let output = rclone(&["check", &here, &remote]);
    assert!(!output.status.success() && text(&output.stderr).contains("file 7"), "{}", text(&output.stderr));
}
