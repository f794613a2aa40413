//! Firmware tables, fw_cfg, an optical config drive and a disk for NoCloud say different things, and nothing
//! is appended: each field comes from the most trusted that has it, and no secret is readable to others.
use std::process::Command;

use crate::device::write_private;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab
        .device()?
        .password_login("admin", "yescrypt")?
        .with(|document| (document.device.id, document.device.hostname) = (None, Some("from-fw-cfg".into())))
        .build()?;
    let key = |name: &str| -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(device.dir.join(format!("{name}.pub")))?.trim().to_string())
    };
    let (right, wrong) = (key("client_key")?, key("wrong_key")?);
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&device.document)?)?;
    let hash = document["logins"][0]["password_hash"].as_str().unwrap_or_default().to_string();

    let folder = lab.path("config");
    std::fs::create_dir_all(folder.join("openstack/latest"))?;
    let meta_data = serde_json::json!({
        "uuid": "8f3b1c52-0b1e-4a7c-9a52-5f1c9b6d7e01", "hostname": "from-config-drive",
        "public_keys": { "mine": wrong },
    });
    write_private(&folder.join("openstack/latest/meta_data.json"), meta_data.to_string().as_bytes())?;
    let network = serde_json::json!({
        "links": [{ "id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56" }],
        "networks": [{ "id": "n", "link": "a", "type": "ipv4", "ip_address": "10.0.2.15/24",
                       "routes": [{ "network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.2.2" }] }],
        "services": [{ "type": "dns", "address": "192.0.2.53" }],
    });
    write_private(&folder.join("openstack/latest/network_data.json"), network.to_string().as_bytes())?;
    let iso = lab.path("config.iso");
    let mut command = Command::new("genisoimage");
    command.args(["-quiet", "-R", "-J", "-V", "config-2", "-o"]).arg(&iso).arg(&folder);
    process::check(&mut command, limit(30))?;

    let disk = lab.path("cidata.img");
    fat(
        lab,
        &disk,
        "cidata",
        &[
            ("meta-data", "instance-id: x\nlocal-hostname: from-nocloud\n"),
            ("user-data", &format!("#cloud-config\nssh_authorized_keys:\n- {wrong}\n")),
        ],
    )?;

    let vm = lab
        .rescue_with(&[])?
        .smbios(&[("ssh.authorized_keys.root", &right), ("passwd.hashed-password.root", &hash)])
        .fw_cfg("rescue.device.json", &device.document)
        .cdrom(&iso)
        .disk(&disk)
        .start()?;
    let ready = vm.ready()?;
    assert_eq!(ready.hostkey, device.host_key_fingerprint, "the host key is that of fw_cfg");
    vm.console.stage("sources", limit(60))?;
    let guest = vm.ssh(&device, "root")?;
    // The network of the config drive replaces what DHCP said, at the same address.
    let has_dns = guest.run(
        "n=0; until grep -q 192.0.2.53 /etc/resolv.conf; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.2; done; hostname",
    )?;
    assert_eq!((has_dns.status, has_dns.stdout.trim()), (0, "from-fw-cfg"), "{has_dns:?}");
    let said = guest.run("rescue status --sources --json")?;
    let said: serde_json::Value = serde_json::from_str(&said.stdout)?;
    let gave: Vec<(String, String, String)> = said
        .as_array()
        .into_iter()
        .flatten()
        .map(|s| {
            let text = |name: &str| s[name].as_str().unwrap_or_default().to_string();
            let gave: Vec<&str> =
                s["gave"].as_array().into_iter().flatten().filter_map(|g| g.as_str()).collect();
            (text("source"), text("state"), gave.join(" "))
        })
        .collect();
    let expected = [
        ("appended cpio", "absent", ""),
        ("kernel command line", "absent", ""),
        ("SMBIOS", "found", "logins"),
        ("fw_cfg", "found", "ssh.host_keys device.hostname device.family session.id"),
        ("removable media", "found", "device.id network network.dns"),
        ("whole disks", "found", ""),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string()));
    for line in expected {
        assert!(gave.contains(&line), "{line:?} is not among {gave:#?}");
    }
    let refused = guest.clone().with_key(&device.wrong_key).run("true")?;
    assert_eq!(refused.status, 255, "{refused:?}");
    super::secrets_stay_secret::nowhere(&vm, &guest, &hash[20..60])?;
    let left = guest.run("test -e /run/rescue/sources-found.json; echo $?; mount | grep -c iso9660")?;
    assert_eq!(left.stdout, "1\n0\n", "the documents are gone, and nothing was mounted: {left:?}");
    Ok(())
}

/// A FAT image with these files.
pub(super) fn fat(
    lab: &Lab<'_>,
    image: &std::path::Path,
    label: &str,
    files: &[(&str, &str)],
) -> anyhow::Result<()> {
    std::fs::File::create(image)?.set_len(2 << 20)?;
    process::check(Command::new("mkfs.vfat").args(["-n", &label.to_uppercase()]).arg(image), limit(30))?;
    for (name, content) in files {
        let file = lab.path(&format!("content-{name}"));
        write_private(&file, content.as_bytes())?;
        let mut command = Command::new("mcopy");
        command.arg("-i").arg(image).arg(&file).arg(format!("::{name}"));
        process::check(&mut command, limit(30))?;
    }
    Ok(())
}
