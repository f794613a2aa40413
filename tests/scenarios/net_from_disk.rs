//! Asked to, the rescue takes the network of the system on the disk, by the name that it gives the card,
//! and writes nothing there.
use crate::disk::ext4_of;
use crate::image::digest_of_files;
use crate::lab::Lab;

const INTERFACES: &str = "auto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet static\n\
    \taddress 192.0.2.7/24\n\tgateway 192.0.2.1\n\tdns-nameservers 192.0.2.53\n";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let network = lab.network()?;
    let cable = network.cable("t0", &["192.0.2.1/24"])?;
    let disk = lab.path("disk.img");
    ext4_of(
        &disk,
        64,
        "root",
        &[
            ("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
            ("etc/network/interfaces", INTERFACES),
        ],
    )?;
    let before = digest_of_files(&[&disk])?;
    let device = lab.device()?.key_login("root")?.build()?;
    let vm = lab.rescue(&device)?.append("rescue.network=from-disk").disk(&disk);
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
