//! Where netd takes its wishes from: the kernel command line, the injected document, the rescued
//! system's disk. In network namespaces and on loop devices. Needs root, `ip` (iproute2), `losetup` and
//! `mkfs.ext4`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A namespace with one cable, `c0` at our end of it with the address 02:00:00:00:00:01.
struct Lab {
    name: String,
    folder: tempfile::TempDir,
    netd: Option<Child>,
}

fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().expect("running ip (package iproute2)");
    assert!(out.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

impl Lab {
    /// Starts netd with this command line and injected document.
    fn start(name: &str, cmdline: &str, injected: Option<&str>) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run this test as root");
        let lab = Self {
            name: format!("{name}-w{}", std::process::id()),
            folder: tempfile::tempdir().unwrap(),
            netd: None,
        };
        let root = lab.folder.path().join("root");
        for folder in ["etc", "run/rescue", "proc"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("proc/cmdline"), cmdline).unwrap();
        if let Some(json) = injected {
            std::fs::write(root.join("run/rescue/network.json"), json).unwrap();
        }
        ip(&["netns", "add", &lab.name]);
        ip(&["-n", &lab.name, "link", "add", "c0", "type", "veth", "peer", "name", "s0"]);
        ip(&["-n", &lab.name, "link", "set", "c0", "address", "02:00:00:00:00:01"]);
        ip(&["-n", &lab.name, "link", "set", "s0", "address", "02:00:00:00:00:02", "up"]);
        lab.run()
    }

    fn run(mut self) -> Self {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name, env!("CARGO_BIN_EXE_rescue"), "netd", "--verbose", "--root"])
            .arg(self.folder.path().join("root"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting netd by `ip netns exec`");
        self.netd = Some(child);
        self
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: &str, met: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !met(self) {
            assert!(start.elapsed() < Duration::from_secs(120), "no {what}; netd:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut child) = self.netd.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[test]
fn the_command_line_overrides_the_document() {
    let lab = Lab::start(
        "line",
        "quiet BOOTIF=01-02-00-00-00-00-01 ip=192.0.2.7::192.0.2.1:255.255.255.0 nameserver=192.0.2.53\n",
        Some(r#"{"links":[{"mac":"02:00:00:00:00:01","addresses":["198.51.100.7/24"]}]}"#),
    );
    let show = |what: &str| ip(&["-4", "-n", &lab.name, what, "show", "dev", "c0"]);
    lab.until("address", |_| show("addr").contains("192.0.2.7/24"));
    lab.until("route", |_| show("route").contains("default via 192.0.2.1"));
    assert!(!show("addr").contains("198.51.100.7"));
    assert!(lab.log().contains("the network of the injected document is not used"), "{}", lab.log());
    let resolv = lab.folder.path().join("root/etc/resolv.conf");
    lab.until("name server", |_| std::fs::read_to_string(&resolv).unwrap_or_default().contains("192.0.2.53"));
}

#[test]
fn what_is_for_another_machine_leaves_the_ladder() {
    let lab =
        Lab::start("other", "BOOTIF=01-02-00-00-00-00-99 ip=192.0.2.7::192.0.2.1:255.255.255.0\n", None);
    lab.until("word", |lab| {
        lab.log().contains("names only cards that are not here; using DHCP on every link")
    });
    let report = lab.folder.path().join("root/run/rescue/net.json");
    lab.until("c0 in the report", |_| {
        std::fs::read_to_string(&report).unwrap_or_default().contains("\"c0\"")
    });
    assert!(!ip(&["-n", &lab.name, "addr"]).contains("192.0.2.7"));
}

#[test]
fn what_cannot_be_built_leaves_the_document() {
    let lab = Lab::start(
        "bad",
        "bond=bond0:bond0 ip=bond0:dhcp\n",
        Some(r#"{"links":[{"mac":"02:00:00:00:00:01","addresses":["198.51.100.7/24"]}]}"#),
    );
    lab.until("address", |_| ip(&["-n", &lab.name, "addr"]).contains("198.51.100.7/24"));
    assert!(lab.log().contains("built upon itself; it is not used"), "{}", lab.log());
}

#[test]
fn a_system_on_a_disk_says_how_and_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        mount --make-rprivate /; mount -t tmpfs none /run
        mkdir -p tree/etc/network tree/usr/bin
        printf 'ID=debian\n' >tree/etc/os-release
        printf 'auto eth0\niface eth0 inet static\n address 192.0.2.7/24\n gateway 192.0.2.1\n' >tree/etc/network/interfaces
        ln -s /proc/self/environ tree/etc/rc.conf
        truncate -s 16M disk; mkfs.ext4 -q -d tree disk; before=$(sha256sum <disk)
        device=$(losetup -f --show disk); trap 'losetup -d $device' EXIT
        "$R" net-from-disk --only $device >answer
        test "$before" = "$(sha256sum <disk)"; test $(blockdev --getro $device) = 0
        "$R" net-from-disk --root tree >from-root
    "#;
    let out = Command::new("unshare")
        .args(["-m", "bash", "-ec", script])
        .current_dir(folder.path())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("R", Path::new(env!("CARGO_BIN_EXE_rescue")))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    let link = &read("answer")["network"]["links"][0];
    assert_eq!(link["addresses"][0], "192.0.2.7/24");
    assert_eq!(link["routes"][0]["via"], "192.0.2.1");
    assert_eq!(read("from-root")["network"]["links"][0], *link);
}
