//! Files: sftp, scp in both its protocols, rsync, and what libraries do with SFTP.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::server::*;

impl Server {
    /// OpenSSH's options for `sftp` and `scp`.
    fn files(&self, program: &str) -> Command {
        let mut command = tool(program, "openssh-client");
        command.args(["-F", "none", "-P", &self.address.port().to_string()]);
        command.args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.file("known_hosts").display()));
        command.arg("-i").arg(self.file("id"));
        command
    }

    fn sftp(&self, batch: &str) -> Output {
        std::fs::write(self.file("batch"), batch).unwrap();
        self.files("sftp").arg("-b").arg(self.file("batch")).arg("root@127.0.0.1").output().unwrap()
    }
}

/// Bytes that no block of zeros or repetition stands for.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tree with what copying programs get wrong: modes, times, links, an empty folder, odd names.
fn tree(at: &Path) {
    std::fs::create_dir_all(at.join("empty")).unwrap();
    std::fs::create_dir_all(at.join("a b/c")).unwrap();
    std::fs::write(at.join("big"), noise(3_000_001)).unwrap();
    std::fs::write(at.join("none"), b"").unwrap();
    std::fs::write(at.join("a b/c/it's \"x\" *"), b"odd").unwrap();
    std::fs::write(at.join(std::ffi::OsStr::from_bytes(b"latin-\xfc")), b"not UTF-8").unwrap();
    std::fs::set_permissions(at.join("none"), PermissionsExt::from_mode(0o751)).unwrap();
    std::fs::set_permissions(at.join("a b/c"), PermissionsExt::from_mode(0o500)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::open(at.join("big")).unwrap().set_modified(old).unwrap();
}

/// Name, mode, time of change (of files) and content of all below.
fn facts(at: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![at.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(at).unwrap().to_path_buf();
            if meta.is_dir() {
                found.push((name, meta.mode(), 0, Vec::new()));
                folders.push(path);
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                found.push((name, meta.mode(), 0, target.as_os_str().as_bytes().to_vec()));
            } else {
                found.push((name, meta.mode(), meta.mtime(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn openssh_sftp_does_all_that_it_has_words_for() {
    let server = Server::start();
    let (here, there) = (server.file("here"), server.file("there"));
    std::fs::create_dir(&here).unwrap();
    std::fs::create_dir(&there).unwrap();
    let content = noise(5_000_003);
    std::fs::write(here.join("f"), &content).unwrap();
    let batch = format!(
        r#"lcd {here}
cd {there}
pwd
put f
put -p f g
-rename -l f g
ln f hard
ln -s hard soft
chmod 0640 g
ls -la
get soft back
copy f copied
mkdir d
-rmdir no-such
rename g d/g
rm hard
df
df -h
!cp f f.part
reput f f
-get no-such
rmdir d
"#,
        here = here.display(),
        there = there.display()
    );
    // The last command fails and ends it: the folder is not empty.
    let output = server.sftp(&batch);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains(&format!("Remote working directory: {}", there.display())), "{out}");
    assert!(out.contains("-rw-r-----"), "{out}");
    assert!(out.contains("lrwxrwxrwx"), "{out}");
    assert!(out.contains("soft"), "{out}");
    assert!(out.contains("Avail"), "{out}{err}");
    assert!(err.contains("no-such") && err.contains("remote rmdir"), "{err}");
    for (name, same) in [
        ("there/f", true),
        ("there/d/g", true),
        ("here/back", true),
        ("there/copied", true),
        ("there/hard", false),
    ] {
        assert_eq!(std::fs::read(server.file(name)).is_ok_and(|c| c == content), same, "{name} {out}{err}");
    }
    assert_eq!(std::fs::metadata(there.join("d/g")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(std::fs::read_link(there.join("soft")).unwrap(), Path::new("hard"));
}

#[test]
fn sftp_renames_over_what_is_there_and_lists_what_has_odd_names() {
    let server = Server::start();
    let there = server.file("there");
    tree(&there);
    for n in 0..1500 {
        std::fs::write(there.join(format!("empty/file-{n:04}")), b"").unwrap();
    }
    symlink("no-such-target", there.join("dangling")).unwrap();
    let batch = format!("cd {}\nrename big none\nls -1 empty\nls -l\n", there.display());
    let output = server.sftp(&batch);
    let out = said(&output);
    assert_eq!(std::fs::metadata(there.join("none")).unwrap().len(), 3_000_001);
    assert_eq!(out.lines().filter(|l| l.starts_with("empty/file-")).count(), 1500);
    assert!(out.contains("dangling") && out.contains("Sep  9  2001"), "{out}");
}

#[test]
fn a_tree_is_copied_there_and_back_by_both_protocols_of_scp() {
    let server = Server::start();
    let here = server.file("tree");
    tree(&here);
    // The old protocol is served by the `scp` that the login's shell finds: ours, by another name's link.
    let bin = server.file("bin");
    std::fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_rescue"), bin.join("scp")).unwrap();
    let wrapper = server.file("wrapper");
    let script = format!(
        "#!/bin/sh\nfor last; do :; done\nexport PATH={}:$PATH\nexec sh -c \"$last\"\n",
        bin.display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    for (name, more) in
        [("sftp", vec![]), ("old", vec!["-O".to_string(), "-S".into(), wrapper.display().to_string()])]
    {
        let (there, back) = (server.file(&format!("there-{name}")), server.file(&format!("back-{name}")));
        let copy = |from: &Path, to: &Path, remote_from: bool| {
            let of = |path: &Path, remote| match remote {
                true => format!("root@127.0.0.1:{}", path.display()),
                false => path.display().to_string(),
            };
            let mut scp = server.files("scp");
            scp.args(&more).args(["-r", "-p", &of(from, remote_from), &of(to, !remote_from)]);
            said(&scp.output().unwrap());
        };
        copy(&here, &there, false);
        assert!(
            facts(&there) == facts(&here),
            "{name}: {:?}",
            facts(&there).iter().map(|f| (&f.0, f.1, f.2)).collect::<Vec<_>>()
        );
        copy(&there, &back, true);
        assert!(facts(&back) == facts(&here), "{name}");
        // One file, over a longer one, and one that is not there.
        std::fs::write(server.file("long"), noise(10_000)).unwrap();
        std::fs::write(server.file("short"), b"short").unwrap();
        let mut scp = server.files("scp");
        scp.args(&more)
            .arg(server.file("short"))
            .arg(format!("root@127.0.0.1:{}", server.file("long").display()));
        said(&scp.output().unwrap());
        assert_eq!(std::fs::read(server.file("long")).unwrap(), b"short");
        // A name is bytes.
        let odd = OsString::from_vec([name.as_bytes(), b"-caf\xe9"].concat());
        let target = [b"root@127.0.0.1:", server.file("").as_os_str().as_bytes(), odd.as_bytes()].concat();
        said(
            &server
                .files("scp")
                .args(&more)
                .arg(server.file("short"))
                .arg(OsStr::from_bytes(&target))
                .output()
                .unwrap(),
        );
        assert_eq!(std::fs::read(server.file("").join(&odd)).unwrap(), b"short", "{name}");
        let mut ssh = server.ssh(&["--"]);
        ssh.arg(OsString::from_vec([b"printf %s ", odd.as_bytes()].concat()));
        assert_eq!(ssh.output().unwrap().stdout, odd.as_bytes());
        let mut scp = server.files("scp");
        scp.args(&more)
            .arg(format!("root@127.0.0.1:{}", server.file("no-such").display()))
            .arg(server.file("x"));
        let output = scp.output().unwrap();
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains("No such file or directory"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_forced_command_serves_files_read_only() {
    let rescue = env!("CARGO_BIN_EXE_rescue");
    let server = Server::with(|key| {
        format!(
            r#"[{{"name":"root","authorized_keys":["restrict,command=\"{rescue} sftp-server -R\" {key}"]}}]"#
        )
    });
    std::fs::write(server.file("f"), b"content").unwrap();
    let f = server.file("f").display().to_string();
    said(&server.sftp(&format!("get {f} {f}.got\n")));
    assert_eq!(std::fs::read(server.file("f.got")).unwrap(), b"content");
    let output = server.sftp(&format!("rm {f}\n"));
    assert!(!output.status.success() && text(&output.stderr).contains("ermission denied"), "{output:?}");
    assert!(server.file("f").exists());
}

#[test]
fn rsync_copies_a_tree() {
    let server = Server::start();
    let (here, there) = (server.file("tree"), server.file("there"));
    tree(&here);
    symlink("big", here.join("link")).unwrap();
    let ssh = server.ssh(&[]);
    let shell: Vec<_> = ssh.get_args().map(|a| a.to_str().unwrap()).collect();
    // Without the address, which rsync adds itself.
    let shell = format!("timeout {}", shell[..shell.len() - 1].join(" "));
    let run = || {
        let mut rsync = tool("rsync", "rsync");
        rsync.args(["-a", "--stats", "-e", &shell]).arg(format!("{}/", here.display()));
        said(&rsync.arg(format!("127.0.0.1:{}/", there.display())).output().unwrap())
    };
    run();
    assert!(facts(&there) == facts(&here));
    assert!(run().contains("Number of regular files transferred: 0"));
}

#[test]
fn curl_with_libssh2_is_told_what_lets_it_in_and_puts_and_gets() {
    let server = Server::on_a_machine();
    let mut curl = tool("curl", "curl");
    let url = format!("sftp://root@127.0.0.1:{}/", server.address.port());
    let output = curl.args(["-sS", "--insecure", "--user", "root:correct horse", &url]).output().unwrap();
    // One that is newer than Debian 12's has what is needed.
    if !output.status.success() {
        let log = || std::fs::read_to_string(server.file("run/rescue/log")).unwrap();
        until("the log says why", || log().contains(" ended: "));
        let way = r#"no MAC in common: "ssh":{"algorithms":["hmac-sha2-512"]} in device.json lets it in"#;
        assert!(log().contains(way), "{}", log());
    }

    // This libssh2 is older than MACs that are computed over what is encrypted.
    let server = Server::with_ssh(
        |key| format!(r#"[{{"name":"root","authorized_keys":["{key}"]}}]"#),
        r#","algorithms":["hmac-sha2-512"]"#,
    );
    let content = noise(2_000_003);
    std::fs::write(server.file("up"), &content).unwrap();
    let url = |name: &str| {
        format!("sftp://root@127.0.0.1:{}{}", server.address.port(), server.file(name).display())
    };
    let curl = |args: &[&str]| {
        let mut curl = tool("curl", "curl");
        // libssh2 reads the key in OpenSSH's format by the public half beside it.
        curl.args(["-sS", "--insecure", "--key"]).arg(server.file("id"));
        curl.arg("--pubkey").arg(server.file("id.pub")).args(args).output().unwrap()
    };
    said(&curl(&["-T", server.file("up").to_str().unwrap(), &url("there")]));
    assert!(std::fs::read(server.file("there")).unwrap() == content);
    said(&curl(&["-o", server.file("down").to_str().unwrap(), &url("there")]));
    assert!(std::fs::read(server.file("down")).unwrap() == content);
    assert!(said(&curl(&[&format!("{}/", url(""))])).contains("there"));
    assert!(!curl(&[&url("no-such")]).status.success());
}

#[test]
fn lftp_mirrors_both_ways() {
    let server = Server::start();
    let here = server.file("tree");
    tree(&here);
    let ssh = format!(
        "ssh -a -x -F none -i {} -o UserKnownHostsFile={} -o BatchMode=yes",
        server.file("id").display(),
        server.file("known_hosts").display()
    );
    let script = format!(
        "set sftp:connect-program '{ssh}'; set net:max-retries 1; set sftp:charset latin1; set file:charset latin1; \
         open -p {} sftp://root:@127.0.0.1; mirror -R {here} {there}; mirror {there} {back}",
        server.address.port(),
        here = here.display(),
        there = server.file("there").display(),
        back = server.file("back").display()
    );
    said(&tool("lftp", "lftp").env("HOME", server.folder.path()).args(["-c", &script]).output().unwrap());
    let contents = |at: &str| facts(&server.file(at)).into_iter().map(|f| (f.0, f.3)).collect::<Vec<_>>();
    assert!(contents("there") == contents("tree"));
    assert!(contents("back") == contents("tree"));
}

#[test]
fn psftp_puts_and_gets() {
    let server = Server::start();
    std::fs::write(server.file("up"), noise(1_000_003)).unwrap();
    let key = server.putty_key();
    let batch = format!(
        "put {up} {there}\nls {folder}\nget {there} {down}\nmv {there} {there}2\nrm {there}2\n",
        up = server.file("up").display(),
        there = server.file("there").display(),
        folder = server.folder.path().display(),
        down = server.file("down").display()
    );
    std::fs::write(server.file("psftp"), batch).unwrap();
    let mut psftp = tool("psftp", "putty-tools");
    psftp.env("HOME", server.folder.path()).args(["-batch", "-P", &server.address.port().to_string()]);
    psftp.args(["-hostkey", &server.fingerprint(), "-i"]).arg(key).arg("-b").arg(server.file("psftp"));
    let out = said(&psftp.arg("root@127.0.0.1").output().unwrap());
    assert!(out.contains("there"), "{out}");
    assert!(std::fs::read(server.file("down")).unwrap() == std::fs::read(server.file("up")).unwrap());
    assert!(!server.file("there2").exists());
}

#[test]
fn sshfs_mounts_a_folder() {
    let server = Server::start();
    assert!(Path::new("/dev/fuse").exists(), "no /dev/fuse: this machine's kernel has no FUSE, or hides it");
    let (there, here) = (server.file("there"), server.file("mounted"));
    tree(&there);
    std::fs::create_dir(&here).unwrap();
    let mut sshfs = tool("sshfs", "sshfs");
    sshfs.arg(format!("root@127.0.0.1:{}", there.display())).arg(&here);
    sshfs.args(["-p", &server.address.port().to_string(), "-F", "none"]);
    for option in [
        format!("UserKnownHostsFile={}", server.file("known_hosts").display()),
        format!("IdentityFile={}", server.file("id").display()),
        "BatchMode=yes".into(),
    ] {
        sshfs.args(["-o", &option]);
    }
    said(&sshfs.stdout(Stdio::null()).stderr(Stdio::null()).output().unwrap());
    let seen = facts(&here).into_iter().map(|f| (f.0, f.1, f.3)).collect::<Vec<_>>();
    let wrote = std::fs::write(here.join("new"), b"through")
        .and_then(|()| std::fs::rename(here.join("new"), here.join("none")));
    let _ = Command::new("fusermount3").arg("-u").arg(&here).status();
    assert!(wrote.is_ok(), "{wrote:?}");
    assert_eq!(std::fs::read(there.join("none")).unwrap(), b"through");
    assert_eq!(seen.len(), 7);
}
