//! A switch that speaks LACP and VLANs: Open vSwitch with its datapath in user space, so that the host's
//! kernel needs no module for it. A port of an aggregate of it forwards nothing until LACP has agreed, as
//! on the switches of a data centre.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::network::{Network, Service};
use crate::process;
use crate::qemu::Link;
use crate::vm::limit;

const SOON: Duration = Duration::from_secs(60);
/// Its name, and that of the port by which the host's end of the network is on it.
pub const SWITCH: &str = "sw";

/// A switch in a network.
pub struct Switch<'a> {
    network: &'a Network,
    // In this order: the daemon wants its database until its end.
    _daemon: Service,
    _database: Service,
}

impl<'a> Switch<'a> {
    /// A switch without ports but [`SWITCH`].
    ///
    /// # Errors
    /// What Open vSwitch said.
    pub fn new(network: &'a Network) -> Result<Self> {
        let at = |name: &str| network.sockets().join(name).display().to_string();
        let database = at("ovs.db");
        let mut tool = Command::new("ovsdb-tool");
        process::check(tool.args(["create", &database, "/usr/share/openvswitch/vswitch.ovsschema"]), SOON)?;
        let mut server = network.command("ovsdb-server");
        server
            .arg(&database)
            .arg(format!("--remote=punix:{}", at("db")))
            .arg(format!("--unixctl={}", at("dbctl")));
        let _database =
            network.start(server.arg("-vconsole:info"), "ovsdb-server", "ovsdb-server (Open vSwitch)")?;
        let mut daemon = network.command("ovs-vswitchd");
        daemon
            .arg(format!("unix:{}", at("db")))
            .arg(format!("--unixctl={}", at("ctl")))
            .env("OVS_RUNDIR", at(""));
        let _daemon = network.start(daemon.arg("-vconsole:info"), "ovs-vswitchd", "connected")?;
        let switch = Self { network, _daemon, _database };
        switch.tell(&format!("add-br {SWITCH} -- set bridge {SWITCH} datapath_type=netdev"))?;
        network.ip(&format!("link set {SWITCH} up"))?;
        Ok(switch)
    }

    /// Runs `ovs-vsctl` with these words, parted by blanks.
    ///
    /// # Errors
    /// What it said.
    pub fn tell(&self, words: &str) -> Result<String> {
        let mut command = self.network.command("ovs-vsctl");
        command.arg(format!("--db=unix:{}", self.network.sockets().join("db").display()));
        process::check(command.args(["--timeout=20"]).args(words.split_whitespace()), SOON)
    }

    /// An aggregate of two new sockets, which wants LACP and speaks it first and every second. `more` are
    /// settings of the port: `tag=7`, `trunks=7`; `lacp=passive other_config:lacp-time=slow` has it wait to
    /// be spoken to.
    ///
    /// # Errors
    /// What `ip` or Open vSwitch said.
    pub fn aggregate(&self, ports: [&str; 2], more: &str) -> Result<Vec<Link>> {
        let links = vec![self.network.tap(ports[0])?, self.network.tap(ports[1])?];
        let [a, b] = ports;
        self.tell(&format!(
            "add-bond {SWITCH} lag {a} {b} bond_mode=balance-tcp lacp=active other_config:lacp-time=fast {more}"
        ))?;
        Ok(links)
    }

    /// A port of the host's own in one VLAN of the switch, with an address.
    ///
    /// # Errors
    /// What `ip` or Open vSwitch said.
    pub fn vlan(&self, name: &str, tag: u16, prefix: &str) -> Result<()> {
        self.tell(&format!("add-port {SWITCH} {name} tag={tag} -- set interface {name} type=internal"))?;
        self.network.ip(&format!("link set {name} up"))?;
        self.network.address(name, prefix)
    }

    /// Waits until the aggregate has, or has not, this port.
    ///
    /// # Errors
    /// What the switch says of its aggregate, when it does not come to that.
    pub fn until_member(&self, port: &str, is: bool) -> Result<()> {
        let end = Instant::now() + limit(15);
        loop {
            let mut command = self.network.command("ovs-appctl");
            command.arg("-t").arg(self.network.sockets().join("ctl")).arg("bond/show");
            let shown = process::check(&mut command, SOON)?;
            if shown.contains(&format!("member {port}: enabled")) == is {
                return Ok(());
            }
            let log = self.network.dir().join("ovs-vswitchd.log");
            ensure!(
                Instant::now() < end,
                "awaited: {port} in use = {is}\n{shown}\nits log: {}",
                log.display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Switch<'_> {
    /// Cuts the cable of a port, or mends it, at the switch's end.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn cable(&self, port: &str, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.network.ip(&format!("link set {port} {state}")).map(drop).context("at the switch")
    }
}
