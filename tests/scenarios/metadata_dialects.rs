//! On each platform's machines its own metadata service says who may log in: known by what the firmware of such a
//! machine says, asked in its own words, its document read.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::console::Mark;
use crate::device::Device;
use crate::lab::Lab;
use crate::network::{Network, Service};
use crate::vm::{Vm, limit};

const ADDRESS: &str = "192.0.2.50";
const WELL_KNOWN: &str = "169.254.169.254";

/// A platform.
struct Platform {
    /// What the server calls its dialect.
    kind: &'static str,
    /// Where its service is.
    address: &'static str,
    /// What its firmware says, as QEMU takes it.
    smbios: &'static str,
    /// What the command line says, where the firmware does not.
    words: &'static str,
    /// What its service is called where sources are shown.
    shown: &'static str,
    /// A question that no other service is asked.
    asked: &'static str,
}

#[rustfmt::skip]
const PLATFORMS: &[Platform] = &[
    Platform { kind: "ec2", address: WELL_KNOWN, smbios: "type=1,manufacturer=Amazon EC2,product=t3.micro",
        words: "", shown: "EC2 at 169.254.169.254", asked: "PUT /latest/api/token" },
    Platform { kind: "gce", address: WELL_KNOWN, smbios: "type=1,manufacturer=Google,product=Google Compute Engine",
        words: "", shown: "Google Compute Engine at 169.254.169.254", asked: "GET /computeMetadata/v1/" },
    Platform { kind: "azure", address: WELL_KNOWN,
        smbios: "type=3,manufacturer=Microsoft Corporation,asset=7783-7084-3265-9085-8269-3286-77",
        words: "", shown: "Azure at 169.254.169.254", asked: "GET /metadata/instance?api-version=" },
    Platform { kind: "oracle", address: WELL_KNOWN, smbios: "type=3,manufacturer=QEMU,asset=OracleCloud.com",
        words: "", shown: "Oracle at 169.254.169.254", asked: "GET /opc/v2/instance/" },
    Platform { kind: "digitalocean", address: WELL_KNOWN, smbios: "type=1,manufacturer=DigitalOcean,product=Droplet",
        words: "", shown: "DigitalOcean at 169.254.169.254", asked: "GET /metadata/v1.json" },
    Platform { kind: "hetzner", address: WELL_KNOWN, smbios: "type=1,manufacturer=Hetzner,product=vServer",
        words: "", shown: "Hetzner at 169.254.169.254", asked: "GET /hetzner/v1/metadata" },
    Platform { kind: "scaleway", address: "169.254.42.42", smbios: "type=1,manufacturer=Scaleway,product=SCW-DEV1-S",
        words: "", shown: "Scaleway at 169.254.42.42", asked: "GET /conf?format=json" },
    Platform { kind: "equinix", address: "192.80.8.124", smbios: "type=1,manufacturer=Dell Inc.,product=PowerEdge R6515",
        words: "rescue.metadata=equinix", shown: "Equinix Metal at 192.80.8.124", asked: "GET /metadata HTTP" },
];

/// A machine's network, and what it is told besides what its platform tells it: its host key alone.
struct Place<'a> {
    lab: &'a Lab<'a>,
    network: Network,
    device: Device,
    host: PathBuf,
    key: String,
}

impl Place<'_> {
    fn serve(&self, kind: &str, address: &str) -> Result<Service> {
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../init/tests/metadata/server.py");
        let mut command = self.network.command("python3");
        command.arg(&server).args([kind, address]).env("KEY", &self.key);
        self.network.start(&mut command, kind, "listening")
    }

    fn boot(&self, words: &str, smbios: &str) -> Result<Vm> {
        let link = crate::qemu::Link::Tap { name: "t0".into() };
        let vm = self.lab.rescue_with(&[])?.fw_cfg("rescue.device.json", &self.host).append(words);
        vm.qemu(&["-smbios", smbios]).network(&self.network, vec![link]).start()
    }

    fn lets_in(&self, platform: &Platform) -> Result<()> {
        let service = self.serve(platform.kind, platform.address)?;
        let vm = self.boot(platform.words, platform.smbios)?;
        vm.ready_at(ADDRESS)?;
        let guest = vm.ssh_in(&self.network, &self.device, ADDRESS)?;
        guest.reach()?;
        let shown = guest.ok("rescue status --sources")?;
        ensure!(shown.contains(platform.shown), "{shown}");
        ensure!(!self.key.split(' ').nth(1).is_some_and(|key| shown.contains(key)), "{shown}");
        let log = service.log();
        ensure!(log.contains(platform.asked), "{log}");
        Ok(())
    }

    /// The machine gets ready, and its console says that nobody may log in and why.
    fn lets_nobody_in(&self, words: &str, why: &str) -> Result<()> {
        let vm = self.boot(words, "type=1,manufacturer=QEMU")?;
        vm.ready_at(ADDRESS)?;
        vm.console.wait(why, Mark::default(), limit(60), |line| {
            (line.contains("nobody can log in") && line.contains(why)).then_some(())
        })?;
        let refused = vm.ssh_in(&self.network, &self.device, ADDRESS)?.run("true")?;
        ensure!(refused.status == 255, "{refused:?}");
        Ok(())
    }

    /// One hangs, which costs its own deadline alone; one pours a gigabyte, of which no more is taken than was
    /// asked for.
    fn hangs_and_pours(&self) -> Result<()> {
        let hangs = self.serve("hang", WELL_KNOWN)?;
        let mut pours = self.serve("huge", "169.254.42.42")?;
        self.lets_nobody_in("rescue.metadata=openstack,scaleway", "Scaleway at 169.254.42.42: over 64 KiB")?;
        ensure!(hangs.log().contains("GET /openstack/"), "{}", hangs.log());
        ensure!(pours.log().contains("GET /conf?format=json"), "{}", pours.log());
        pours.until("poured ")?;
        let log = pours.log();
        let poured = log.lines().find_map(|line| line.strip_prefix("poured ")?.parse::<u64>().ok());
        // What both sides buffer; not the gigabyte.
        ensure!(poured.is_some_and(|bytes| bytes < 64 << 20), "{log}");
        Ok(())
    }

    fn redirects(&self) -> Result<()> {
        let service = self.serve("elsewhere", WELL_KNOWN)?;
        // Where it sends those who ask.
        let other = self.serve("openstack", "192.0.2.1")?;
        self.lets_nobody_in("rescue.metadata=openstack", "redirected elsewhere, which is not followed")?;
        ensure!(service.log().contains("GET /openstack/"), "{}", service.log());
        ensure!(!other.log().contains("GET"), "{}", other.log());
        Ok(())
    }
}

pub(crate) fn run(lab: &Lab<'_>) -> Result<()> {
    let device = lab.root_device()?;
    let host = lab.path("host.json");
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&device.document)?)?;
    document.as_object_mut().map(|all| all.remove("logins"));
    crate::device::write_private(&host, document.to_string().as_bytes())?;
    let key = std::fs::read_to_string(device.dir.join("client_key.pub"))?.trim().to_string();

    let network = lab.network()?;
    let all = ["192.0.2.1/24", "169.254.169.254/32", "169.254.42.42/32", "192.80.8.124/32"];
    let _cable = network.cable("t0", &all)?;
    let _dhcp = network.dnsmasq("t0", &format!("{ADDRESS},{ADDRESS}"), &[])?;
    let place = Place { lab, network, device, host, key };
    for platform in PLATFORMS {
        place.lets_in(platform).with_context(|| platform.shown)?;
    }
    place.hangs_and_pours().context("services that hang and pour")?;
    place.redirects().context("a service that redirects")
}
