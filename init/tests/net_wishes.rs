//! Where netd takes its wishes from: the kernel command line, the injected document, the rescued
//! system's disk. In network namespaces and on loop devices. Needs root, `ip` (iproute2), `losetup` and
//! `mkfs.ext4`.

mod netlab;

use std::path::Path;
use std::process::Command;

use netlab::Lab;
use serde_json::Value;

/// Starts netd with this command line and injected document, behind a cable; its card has the address
/// 02:00:00:00:00:01.
fn start(name: &str, cmdline: &str, injected: Option<&str>) -> Lab {
    let mut lab = Lab::new(name, 1);
    lab.at_client("link set c0 address 02:00:00:00:00:01");
    std::fs::create_dir_all(lab.path("root/proc")).unwrap();
    std::fs::write(lab.path("root/proc/cmdline"), cmdline).unwrap();
    if let Some(json) = injected {
        lab.wish(json);
    }
    lab.start();
    lab
}

#[test]
fn the_command_line_overrides_the_document() {
    let lab = start(
        "line",
        "quiet BOOTIF=01-02-00-00-00-00-01 ip=192.0.2.7::192.0.2.1:255.255.255.0 nameserver=192.0.2.53\n",
        Some(r#"{"links":[{"mac":"02:00:00:00:00:01","addresses":["198.51.100.7/24"]}]}"#),
    );
    let show = |what: &str| lab.at_client(&format!("-4 {what} show dev c0"));
    lab.until("address", |_| show("addr").contains("192.0.2.7/24"));
    lab.until("route", |_| show("route").contains("default via 192.0.2.1"));
    assert!(!show("addr").contains("198.51.100.7"));
    assert!(lab.log().contains("the network of the injected document is not used"), "{}", lab.log());
    lab.until("name server", |lab| lab.file("root/etc/resolv.conf").contains("192.0.2.53"));
}

#[test]
fn what_is_for_another_machine_leaves_the_ladder() {
    let lab = start("other", "BOOTIF=01-02-00-00-00-00-99 ip=192.0.2.7::192.0.2.1:255.255.255.0\n", None);
    lab.until("word", |lab| {
        lab.log().contains("names only cards that are not here; using DHCP on every link")
    });
    lab.until("c0 in the report", |lab| !lab.link("c0").name.is_empty());
    assert!(!lab.at_client("addr").contains("192.0.2.7"));
}

#[test]
fn what_cannot_be_built_leaves_the_document() {
    let lab = start(
        "bad",
        "bond=bond0:bond0 ip=bond0:dhcp\n",
        Some(r#"{"links":[{"mac":"02:00:00:00:00:01","addresses":["198.51.100.7/24"]}]}"#),
    );
    lab.until("address", |lab| lab.at_client("addr").contains("198.51.100.7/24"));
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
