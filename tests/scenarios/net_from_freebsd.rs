//! Asked to, the rescue takes the network of the FreeBSD on the disk from its rc.conf, and writes nothing
//! there.
use std::process::Command;
use std::time::Duration;

use crate::image::digest_of_files;
use crate::lab::Lab;
use crate::process;

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
    // UFS 1: the UFS 2 of this program has its superblock where neither FreeBSD nor the driver looks.
    let mut makefs = Command::new("makefs");
    makefs.args(["-t", "ffs", "-o", "version=1", "-s", "16m"]).args([&disk, &tree]);
    process::check(&mut makefs, Duration::from_secs(60))?;
    let before = digest_of_files(&[&disk])?;
    let device = lab.device()?.key_login("root")?.build()?;
    let vm = lab.standard(&device)?.append("rescue.network=from-disk").disk(&disk);
    let mut vm = vm.network(&network, vec![cable]).start()?;
    vm.ready_at("192.0.2.7")?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.7")?;
    guest.reach()?;
    assert!(guest.ok("ip -4 route show default")?.contains("via 192.0.2.1 dev eth0"));
    guest.run("poweroff")?;
    vm.ended("the power-off")?;
    assert_eq!(digest_of_files(&[&disk])?, before, "the disk was written to");
    Ok(())
}
