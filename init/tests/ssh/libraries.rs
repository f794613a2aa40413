//! Clients by libraries: libssh, Go's through rclone, paramiko and asyncssh.

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

#[test]
fn paramiko_and_asyncssh_transfer_files() {
    let server = Server::start();
    std::fs::write(server.file("up"), noise(3_000_017)).unwrap();
    let paramiko = r#"
import paramiko, sys, stat
port, key, hosts, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
client = paramiko.SSHClient()
client.load_host_keys(hosts)
client.connect("127.0.0.1", port, "root", key_filename=key, allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()
sftp.put(folder + "/up", folder + "/p")
sftp.get(folder + "/p", folder + "/p.back")
sftp.chmod(folder + "/p", 0o600)
sftp.utime(folder + "/p", (1, 2))
it = sftp.stat(folder + "/p")
assert stat.S_IMODE(it.st_mode) == 0o600 and (it.st_atime, it.st_mtime) == (1, 2), it
sftp.symlink("p", folder + "/p.link")
assert sftp.readlink(folder + "/p.link") == "p"
sftp.truncate(folder + "/p", 17)
assert sftp.stat(folder + "/p").st_size == 17
with sftp.open(folder + "/p", "a") as f: f.write("end")
with sftp.open(folder + "/p", "r") as f: f.seek(17); assert f.read() == b"end"
for call in [lambda: sftp.stat(folder + "/none"), lambda: sftp.listdir(folder + "/none"), lambda: sftp.remove(folder + "/none")]:
    try: call(); raise SystemExit("no error")
    except FileNotFoundError: pass
try: sftp.mkdir(folder); raise SystemExit("no error")
except OSError: pass
assert sftp.normalize(folder + "/./p") == folder + "/p"
assert "p.link" in sftp.listdir(folder)
print("done")
"#;
    let folder = server.folder.path().to_str().unwrap();
    assert_eq!(said(&python(&server, "paramiko", paramiko, &[folder])), "done\n");
    let asyncssh = r#"
import asyncio, asyncssh, sys, os
port, key, hosts, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
async def main():
    async with asyncssh.connect("127.0.0.1", port, username="root", client_keys=[key], known_hosts=hosts, config=None) as c:
        async with c.start_sftp_client() as sftp:
            await sftp.put(folder + "/up", folder + "/a")
            await sftp.get(folder + "/a", folder + "/a.back")
            await sftp.posix_rename(folder + "/a", folder + "/a2")
            await sftp.link(folder + "/a2", folder + "/a3")
            assert (await sftp.stat(folder + "/a3")).nlink in (None, 2)
            v = await sftp.statvfs(folder)
            assert v.blocks == os.statvfs(folder).f_blocks and v.namemax == 255, v
            await sftp.copy(folder + "/a2", folder + "/a4")
            assert (await sftp.stat(folder + "/a4")).size == os.stat(folder + "/up").st_size
            assert (await sftp.realpath("/usr/../etc")) in ("/etc", b"/etc")
        r = await c.run("cat", input="through\n", check=True)
        print(r.stdout, end="")
asyncio.run(main())
"#;
    assert_eq!(said(&python(&server, "asyncssh", asyncssh, &[folder])), "through\n");
    let up = std::fs::read(server.file("up")).unwrap();
    for name in ["p.back", "a.back", "a4"] {
        assert!(std::fs::read(server.file(name)).unwrap() == up, "{name}");
    }
}
