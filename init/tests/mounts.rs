//! Mounting real file systems on loop devices, each test in a mount namespace of its own with its own
//! /mnt and /run: what changes on the disk is told by SHA-256. Only the loop devices are looked at.
#![allow(missing_docs)]

use std::path::Path;
use std::process::Command;

use rescue_schema::report::{MountReport, UnmountReport};

/// At the head of every script: a namespace's own folders, and how images become devices.
const PRELUDE: &str = r#"
mount --make-rprivate /
mount -t tmpfs none /mnt; mount -t tmpfs none /run
loops=
attach() { made=$(losetup -f --show "$1"); loops="$loops $made"; }
detach() { for l in $loops; do blockdev --setrw $l; losetup -d $l; done; loops=; }
end() { code=$?; trap - EXIT; for p in $(jobs -p); do kill -9 $p || :; done; wait || :
  umount -R /mnt/* 2>/dev/null || :; detach; exit $code; }
trap end EXIT
sum() { sync; sha256sum $1 | cut -d' ' -f1; }
# system FILE UUID NAME FSTAB: an ext4 with a small Linux on it.
system() { rm -rf tree; mkdir -p tree/etc tree/usr/bin tree/boot tree/srv
  printf 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n' >tree/etc/os-release
  echo $3 >tree/etc/hostname; printf "$4" >tree/etc/fstab
  truncate -s 32M $1; mkfs.ext4 -q -U $2 -d tree $1; }
# dirty FILE: its journal is to be replayed, and an open file without a name is on its list of orphans.
dirty() { attach $1; mkdir /tmp/dirty.$$; mount $made /tmp/dirty.$$
  exec 9>/tmp/dirty.$$/orphan; echo x >&9; rm /tmp/dirty.$$/orphan; echo new >/tmp/dirty.$$/new
  sync -f /tmp/dirty.$$; cp $1 $1.dirty; exec 9>&-
  umount /tmp/dirty.$$; rmdir /tmp/dirty.$$; detach; mv $1.dirty $1; }
"#;
const ROOT: &str = "11111111-2222-3333-4444-555555555555";

/// Runs a script; gives what it printed, both streams in order.
fn sh(script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = Command::new("unshare")
        .args(["-m", "bash", "-ec", &format!("{PRELUDE}{script}")])
        .current_dir(folder.path())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("R", Path::new(env!("CARGO_BIN_EXE_rescue")))
        .env("ROOT", ROOT)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{script}\n{text}\n{}", String::from_utf8_lossy(&out.stderr));
    text
}

/// The lines of `text` that start with `key=`.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn looking_leaves_every_byte_as_it_was() {
    let text = sh(r#"
        system a $ROOT db7 "UUID=$ROOT / ext4 errors=remount-ro 0 1\n"; dirty a
        dumpe2fs -h a 2>/dev/null | grep -q needs_recovery
        dumpe2fs -h a 2>/dev/null | grep -q 'First orphan inode'
        cp a control; attach a; dev=$made; echo sum=$(sum a)
        $R disks >&2; $R disks --json >/dev/null; echo sum=$(sum a)
        $R probe $dev >&2; echo sum=$(sum a)
        $R mount --only $dev --dry-run >&2; test -z "$(ls /mnt)"; echo sum=$(sum a)
        $R mount --only $dev >&2; grep -q " /mnt/db7 ext4 ro" /proc/mounts; test $(blockdev --getro $dev) = 1
        ls -lR /mnt/db7 >/dev/null; ! touch /mnt/db7/x 2>/dev/null
        $R mount --only $dev | grep -q 'already mounted at /mnt/db7, read-only'; echo sum=$(sum a)
        $R umount >&2; test -z "$(ls /mnt)"; test $(blockdev --getro $dev) = 0; echo sum=$(sum a)
        $R mount $dev --only $dev >&2; $R umount $dev >&2; test -z "$(ls /mnt)"; echo sum=$(sum a)
        echo control=$(sum control)
        attach control; mkdir /mnt/c; mount -o ro,noload $made /mnt/c; umount /mnt/c; echo control=$(sum control)
    "#);
    let sums = values(&text, "sum");
    assert_eq!(sums.len(), 7);
    assert!(sums.iter().all(|s| *s == sums[0]), "{sums:?}");
    // What a plain `mount -o ro,noload` does to it: without this the image would prove nothing.
    let control = values(&text, "control");
    assert_eq!(control[0], sums[0]);
    assert_ne!(control[0], control[1]);
}

#[test]
fn writing_replays_the_journal_and_says_so_first() {
    let text = sh(r#"
        system a $ROOT db7 "UUID=$ROOT / ext4 ro 0 1\n"; dirty a; attach a; dev=$made
        $R mount --only $dev >&2
        $R mount --only $dev --rw | sed s/^/said=/
        grep -q " /mnt/db7 ext4 rw" /proc/mounts; grep -q new /mnt/db7/new
        $R mount --only $dev --rw | grep -q 'already mounted at /mnt/db7, read-write'
        echo '# repaired' >>/mnt/db7/etc/fstab; $R umount --json | sed s/^/json=/; test -z "$(ls /mnt)"
        e2fsck -fn a >&2
        attach a; $R mount --only $made --rw | sed s/^/clean=/; grep -q repaired /mnt/db7/etc/fstab
    "#);
    let said = values(&text, "said").join("\n");
    assert!(said.contains("ext4, READ-WRITE, replays its journal"), "{said}");
    assert!(said.ends_with("repair it in /mnt/db7, then: rescue umount, reboot"), "{said}");
    assert!(!values(&text, "clean").join("\n").contains("replays"));
    let report: UnmountReport = serde_json::from_str(&values(&text, "json").join("\n")).unwrap();
    assert_eq!(report.unmounted, ["/mnt/db7"]);
}

#[test]
fn its_own_fstab_decides_and_what_is_gone_stops_nothing() {
    let text = sh(r#"
        truncate -s 8M b; mkfs.ext4 -q -L 'the boot' b
        system a $ROOT db7 "LABEL=the\\\\040boot /boot ext4 defaults 0 2\n\
UUID=$ROOT / ext4 defaults 0 1\nUUID=dead-beef /srv ext4 defaults 0 2\n\
LABEL=the\\\\040boot /nowhere ext4 defaults 0 2\nLABEL=the\\\\040boot /out/in ext4 defaults 0 2\n\
nas:/x /net nfs defaults 0 0\ntmpfs /tmp tmpfs defaults 0 0\nUUID=0 none swap sw 0 0\n/a /b none bind 0 0\n\
LABEL=the\\\\040boot /opt ext4 noauto 0 0\nbroken\n"
        debugfs -w -R "symlink /out /mnt" a 2>/dev/null; mkdir /mnt/in
        attach a; one=$made; attach b; two=$made; echo one=$one; echo two=$two
        $R mount --only $one --only $two --json | sed s/^/json=/
        cut -d' ' -f1,2 /proc/mounts | grep -E "^$one|^$two" | sed s/^/mount=/
        test -z "$(ls /mnt/in)"; rmdir /mnt/in
        $R umount --dry-run | sed s/^/plan=/; $R umount >&2; test -z "$(ls /mnt)"
    "#);
    let (one, two) = (values(&text, "one")[0], values(&text, "two")[0]);
    let reports: Vec<MountReport> = serde_json::from_str(&values(&text, "json").join("\n")).unwrap();
    let [report] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!((report.system.as_str(), report.device.as_str(), report.read_only), ("db7", one, true));
    assert_eq!(values(&text, "mount"), [format!("{one} /mnt/db7"), format!("{two} /mnt/db7/boot")]);
    assert_eq!(values(&text, "plan"), ["unmount /mnt/db7/boot", "unmount /mnt/db7"]);
    let has = |lines: &[String], words: &str| {
        assert!(lines.iter().any(|l| l.contains(words)), "{words}: {lines:#?}");
    };
    has(&report.trouble, "/etc/fstab line 3: UUID=dead-beef for /srv is on no disk here");
    has(&report.trouble, "on /nowhere: no such folder");
    has(&report.trouble, "on /out/in: no such folder");
    has(&report.trouble, "/etc/fstab line 11");
    has(&report.trouble, "mounting /a on /b: no such folder");
    for words in ["line 6: nas:/x", "line 7: tmpfs", "line 8: UUID=0", "line 10"] {
        has(&report.left_out, words);
    }
}

#[test]
fn of_several_systems_one_is_to_be_named() {
    let text = sh(r#"
        system a $ROOT db7 "UUID=$ROOT / ext4 defaults 0 1\n"; cp a copy
        system c 33333333-2222-3333-4444-555555555555 web1 ''
        for f in a copy c; do attach $f; only="$only --only $made"; echo dev=$(basename $made); done
        code=0; $R mount $only 2>said || code=$?; echo code=$code; sed s/^/said=/ said; test -z "$(ls /mnt)"
        code=0; $R mount nobody $only 2>/dev/null || code=$?; echo code=$code
        $R mount web1 $only >&2; ls /mnt | sed s/^/one=/
        $R mount --all $only >&2; ls /mnt | sed s/^/all=/
        $R umount web1 >&2; ls /mnt | sed s/^/left=/; $R umount --all >&2; test -z "$(ls /mnt)"
    "#);
    let devices = values(&text, "dev");
    assert_eq!(values(&text, "code"), ["2", "2"]);
    let said = values(&text, "said").join("\n");
    assert!(said.contains("web1") && said.contains(&format!("db7-{}", devices[1])), "{said}");
    assert_eq!(values(&text, "one"), ["web1"]);
    assert_eq!(values(&text, "all").len(), 3);
    assert_eq!(values(&text, "left"), [format!("db7-{}", devices[0]), format!("db7-{}", devices[1])]);
}

#[test]
fn what_is_busy_stays_and_tells_who_holds_it() {
    let text = sh(r#"
        truncate -s 8M b; mkfs.ext4 -q -U 22222222-2222-3333-4444-555555555555 b
        system a $ROOT db7 "UUID=$ROOT / ext4 defaults 0 1\nUUID=22222222-2222-3333-4444-555555555555 /boot ext4\n"
        attach a; only="--only $made"; attach b; only="$only --only $made"
        $R mount $only >&2
        (cd /mnt/db7/etc; exec sleep 99) & (exec 8</mnt/db7/etc/fstab; exec sleep 98) &
        until test "$(pgrep -c -P $$ sleep)" = 2; do :; done
        code=0; $R mount --rw $only >&2 2>said || code=$?; echo code=$code; sed s/^/mount=/ said
        grep -q " /mnt/db7 ext4 ro" /proc/mounts; grep -q " /mnt/db7/boot ext4 ro" /proc/mounts
        cd /mnt/db7; code=0; $R umount --json >/run/json || code=$?; echo code=$code; sed s/^/json=/ /run/json; cd /
    "#);
    assert_eq!(values(&text, "code"), ["1", "1"]);
    let said = values(&text, "mount").join("\n");
    assert!(
        said.contains("working directory /mnt/db7/etc") && said.contains("open file /mnt/db7/etc/fstab"),
        "{said}"
    );
    let report: UnmountReport = serde_json::from_str(&values(&text, "json").join("\n")).unwrap();
    assert_eq!(report.unmounted, ["/mnt/db7/boot"]);
    assert_eq!(report.busy.len(), 1);
    assert!(report.busy[0].holders.len() >= 3, "{report:?}");
}

#[test]
fn kill_ends_the_holders_but_not_the_shell_that_asks() {
    let text = sh(r#"
        system a $ROOT db7 "UUID=$ROOT / ext4 defaults 0 1\n"; attach a; dev=$made; here=$PWD
        $R mount --only $dev >&2; cd /mnt/db7
        (trap '' TERM; exec sleep 99) & until pgrep -P $$ sleep >/dev/null; do :; done
        code=0; $R umount --kill 2>/run/said || code=$?; echo code=$code; sed s/^/said=/ /run/said
        ! pgrep -P $$ sleep >/dev/null; cd $here; (cd /mnt/db7; exec sleep 99) &
        until test "$(readlink /proc/$!/cwd)" = /mnt/db7; do :; done
        $R umount --kill | sed s/^/done=/; test -z "$(ls /mnt)"
    "#);
    assert_eq!(values(&text, "code"), ["1"]);
    let said = values(&text, "said").join("\n");
    assert!(said.contains("(your own shell)") && said.contains("leave it first: cd /"), "{said}");
    assert_eq!(values(&text, "done"), ["unmounted /mnt/db7"]);
}

#[test]
fn a_damaged_root_is_named_and_nothing_is_left_behind() {
    let text = sh(r#"
        system a $ROOT db7 "UUID=$ROOT / ext4 defaults 0 1\n"
        # The inode table goes, the superblock stays: it is found, and cannot be mounted.
        table=$(dumpe2fs a 2>/dev/null | sed -n 's/.*Inode table at \([0-9]*\).*/\1/p' | head -1)
        size=$(dumpe2fs -h a 2>/dev/null | sed -n 's/^Block size: *//p')
        dd if=/dev/zero of=a bs=$size seek=$table count=4 conv=notrunc status=none
        attach a; dev=$made; before=$(sum a)
        code=0; $R mount --only $dev 2>/run/said || code=$?; echo code=$code; sed s/^/said=/ /run/said
        code=0; $R mount --only $dev $dev 2>/run/said || code=$?; echo code=$code; sed s/^/alone=/ /run/said
        code=0; $R mount --only $dev db7 2>/run/said || code=$?; echo code=$code; sed s/^/named=/ /run/said
        test -z "$(ls /mnt)"; test $(blockdev --getro $dev) = 0; test $(sum a) = $before
    "#);
    assert_eq!(values(&text, "code"), ["1", "1", "1"], "{text}");
    assert!(values(&text, "named").join("\n").contains("no Linux system found, nor another"), "{text}");
    let said = values(&text, "said").join("\n");
    assert!(said.contains("no Linux system found") && said.contains("looking at /dev/loop"), "{said}");
    assert!(!values(&text, "alone").is_empty());
}

/// The programs of this machine that an entered system needs, with their libraries, in the folder `tree`.
const PROGRAMS: &str = r#"
programs() { for p in /bin/sh /bin/sleep /bin/cat /bin/touch /bin/ls; do
  for f in $p $(ldd $p | grep -o '/[^ ]*'); do mkdir -p tree$(dirname $f); cp -L $f tree$f; done; done
  for d in proc sys dev run tmp var/tmp root; do mkdir -p tree/$d; done
  echo root:x:0:0::/root:/bin/sh >tree/etc/passwd; }
# An engine that took itself for PID 1 would write to these.
mount --bind /etc /etc; mount -o remount,ro,bind /etc
"#;

#[test]
fn a_system_is_entered_and_nothing_is_left_of_it() {
    let text = sh(&format!(
        "{PROGRAMS}{}",
        r#"
        system a $ROOT db7 "UUID=$ROOT / ext4 defaults 0 1\r\n/srv /boot none bind 0 0\r\n/boot /srv none bind 0 0\r\n"
        programs; ln -s ../run/resolver/stub.conf tree/etc/resolv.conf; rm a
        truncate -s 64M a; mkfs.ext4 -q -U $ROOT -d tree a; dirty a; attach a; dev=$made; echo sum=$(sum a)
        enter() { timeout -s KILL 120 $R enter --only $dev "$@"; }
        code=0; enter -- /bin/sh -c 'ls / >/tmp/x && ls /sys/class/block >/dev/null && test -c /dev/null &&
          cat /etc/resolv.conf >/dev/null && ! touch /x 2>/dev/null && echo pid=$$ && exit 7' || code=$?; echo code=$code
        code=0; enter -- /bin/sh -c 'sleep 600 & kill -9 $$' 2>/run/said || code=$?; echo code=$code
        sed s/^/said=/ /run/said
        code=0; enter -- /nowhere 2>/dev/null || code=$?; echo code=$code
        $R systems --only $dev --json >/run/json; grep -q '"certain"' /run/json
        ! grep ' /mnt/db7' /proc/mounts; test -z "$(ls /mnt)"; echo sum=$(sum a); test $(blockdev --getro $dev) = 0
        # Who is inside keeps it, whatever namespace that is; --kill ends it.
        $R mount --only $dev >&2; enter -- /bin/sh -c 'echo in >/dev/stderr; sleep 600' 2>/run/in & 
        until grep -q in /run/in; do sleep 0.1; done
        # What another namespace has at that place is another's.
        unshare -m sh -c 'mount -t tmpfs none /mnt/db7; cp -a tree/. /mnt/db7; echo in >/run/other
          exec chroot /mnt/db7 /bin/sleep 601' & other=$!
        until grep -q in /run/other && test "$(readlink /proc/$other/root)" = /mnt/db7; do sleep 0.1; done
        code=0; $R umount 2>/run/said >&2 || code=$?; echo code=$code; sed s/^/held=/ /run/said
        $R umount --kill >&2; test -z "$(ls /mnt)"; kill -0 $other; kill $other; wait || :; echo sum=$(sum a)
        enter --rw -- /bin/touch /changed; attach a; mkdir /mnt/c; mount -o ro $made /mnt/c; test -e /mnt/c/changed
        umount /mnt/c
    "#
    ));
    assert_eq!(values(&text, "code"), ["7", "137", "127", "1"], "{text}");
    let sums = values(&text, "sum");
    assert!(sums.len() == 3 && sums.iter().all(|s| *s == sums[0]), "{sums:?}");
    assert!(values(&text, "said").join("\n").contains("left running"), "{text}");
    assert!(values(&text, "held").join("\n").contains("root /mnt/db7"), "{text}");
}
