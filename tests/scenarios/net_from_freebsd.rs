//! Asked to, the rescue takes the network of the FreeBSD on the disk from its rc.conf; it is found on its UFS2 and
//! shown, and nothing is written there.
use anyhow::ensure;

use crate::disk;
use crate::image::digest_of_files;
use crate::lab::Lab;

const RC_CONF: &str = "hostname=\"bsd7.example.org\"\nifconfig_vtnet0=\"inet 192.0.2.7 netmask 255.255.255.0\"\n\
    defaultrouter=\"192.0.2.1\"\nsshd_enable=\"YES\"\n";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let network = lab.network()?;
    let cable = network.cable("t0", &["192.0.2.1/24"])?;
    let (tree, disk) = (lab.path("tree"), lab.path("disk.img"));
    std::fs::create_dir_all(tree.join("etc"))?;
    std::fs::create_dir_all(tree.join("bin"))?;
    std::fs::write(tree.join("etc/rc.conf"), RC_CONF)?;
    std::fs::write(tree.join("etc/fstab"), "/dev/ada0p2 / ufs rw 1 1\n")?;
    let version = "#!/bin/sh\nUSERLAND_VERSION=\"14.1-RELEASE-p5\"\n";
    std::fs::write(tree.join("bin/freebsd-version"), version)?;
    disk::ufs2(&disk, 16, &tree)?;
    let before = digest_of_files(&[&disk])?;
    let device = lab.device()?.key_login("root")?.build()?;
    let vm = lab.standard(&device)?.append("rescue.network=from-disk").disk(&disk);
    let mut vm = vm.network(&network, vec![cable]).start()?;
    vm.ready_at("192.0.2.7")?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.7")?;
    guest.reach()?;
    assert!(guest.ok("ip -4 route show default")?.contains("via 192.0.2.1 dev eth0"));
    let said = guest.ok("rescue systems")?;
    ensure!(said.contains("FreeBSD 14.1-RELEASE-p5") && said.contains("/dev/vda, ufs"), "{said}");
    ensure!(guest.ok("rescue mount && cat /mnt/bsd7/etc/rc.conf")?.contains("sshd_enable"));
    let refused = guest.run("touch /mnt/bsd7/x")?;
    ensure!(refused.stderr.contains("Read-only"), "{refused:?}");
    let told = guest.run("rescue mount --rw")?;
    ensure!(told.stdout.contains("read-only"), "the driver is not trusted to write: {told:?}");
    guest.ok("rescue umount")?;
    guest.run("poweroff")?;
    vm.ended("the power-off")?;
    assert_eq!(digest_of_files(&[&disk])?, before, "the disk was written to");
    Ok(())
}
