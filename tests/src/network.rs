//! A network of a scenario's own: a network namespace in which machines have their cards plugged in,
//! and the programs that real networks are made of. Nothing in it reaches the host's network, and all of
//! it ends with the scenario. Needs root.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;
use crate::qemu::Link;
use crate::vm::limit;

const SOON: Duration = Duration::from_secs(60);

/// The namespace.
pub struct Network {
    /// A process that does nothing but keep it.
    holder: Child,
    /// Where its programs log.
    dir: PathBuf,
    /// For sockets, whose paths are short (unix(7)).
    sockets: tempfile::TempDir,
}

/// A program that runs in a network until it is dropped.
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Network {
    /// An empty network, with nothing but its loopback. Logs go to `dir`.
    ///
    /// # Errors
    /// Without root.
    pub fn new(dir: &Path) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "a network of its own needs root: run this as root");
        let mut command = Command::new("setpriv");
        // Should we be killed, the namespace and all in it go with us.
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "sh",
            "-c",
            "echo there; exec sleep infinity",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = command.spawn().context("starting unshare (package util-linux)")?;
        let mut said = String::new();
        if let Some(out) = holder.stdout.take() {
            BufReader::new(out).read_line(&mut said).context("awaiting the namespace")?;
        }
        let sockets = tempfile::Builder::new().prefix("rescue-net-").tempdir().context("making a folder")?;
        let network = Self { holder, dir: dir.into(), sockets };
        ensure!(said.trim() == "there", "unshare --net does not work here");
        network.ip("link set lo up")?;
        Ok(network)
    }

    /// The words that put a command into the network; it ends when we do.
    pub fn prefix(&self) -> Vec<String> {
        let namespace = format!("--net=/proc/{}/ns/net", self.holder.id());
        ["nsenter", &namespace, "setpriv", "--pdeathsig", "KILL"].map(String::from).to_vec()
    }

    /// A command that runs in the network.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.prefix().iter().skip(1)).arg(program).env("PATH", process::path_with_sbin());
        command
    }

    /// Opens the namespace, for a thread of ours that moves into it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn namespace(&self) -> Result<File> {
        let path = format!("/proc/{}/ns/net", self.holder.id());
        File::open(&path).with_context(|| format!("opening {path}"))
    }

    /// Runs `ip` with these words, parted by blanks.
    ///
    /// # Errors
    /// What it said.
    pub fn ip(&self, words: &str) -> Result<String> {
        process::check(self.command("ip").args(words.split_whitespace()), SOON)
    }

    /// A socket for the card of a machine. The host's end has this name and no address of its own.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn tap(&self, name: &str) -> Result<Link> {
        self.ip(&format!("tuntap add dev {name} mode tap"))?;
        let quiet = format!(
            "echo 1 > /proc/sys/net/ipv6/conf/{name}/accept_dad; \
            echo 0 > /proc/sys/net/ipv6/conf/{name}/accept_ra; echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6"
        );
        process::check(self.command("sh").args(["-c", &quiet]), SOON)?;
        // No address but what a scenario gives it.
        self.ip(&format!("link set {name} addrgenmode none"))?;
        self.ip(&format!("link set {name} up"))?;
        Ok(Link::Tap { name: name.into() })
    }

    /// Gives the host's end of a link an address at once.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn address(&self, link: &str, prefix: &str) -> Result<()> {
        if prefix.contains(':') {
            let on = format!("echo 0 > /proc/sys/net/ipv6/conf/{link}/disable_ipv6");
            process::check(self.command("sh").args(["-c", &on]), SOON)?;
            return self.ip(&format!("addr add {prefix} dev {link} nodad")).map(drop);
        }
        self.ip(&format!("addr add {prefix} dev {link}")).map(drop)
    }

    /// A tap whose host's end has these addresses: a network of one cable.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn cable(&self, name: &str, prefixes: &[&str]) -> Result<Link> {
        let link = self.tap(name)?;
        for prefix in prefixes {
            self.address(name, prefix)?;
        }
        Ok(link)
    }

    /// Starts a program and waits until it has said `ready`.
    ///
    /// # Errors
    /// What it said, when it ends or stays silent.
    pub fn start(&self, command: &mut Command, name: &str, ready: &str) -> Result<Service> {
        let log = self.dir.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let shown = process::show(command);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {shown}"))?;
        let mut service = Service { child, log };
        service.until(ready).with_context(|| format!("running {shown}"))?;
        Ok(service)
    }

    /// A real DHCP server (and a silent one for IPv6): dnsmasq on this link with this range, such as
    /// `192.0.2.50,192.0.2.60`.
    ///
    /// # Errors
    /// What dnsmasq said.
    pub fn dnsmasq(&self, link: &str, range: &str, more: &[&str]) -> Result<Service> {
        let mut command = self.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--port=0"]);
        command.args([
            "--no-ping",
            "--dhcp-authoritative",
            "--bind-interfaces",
            "--user=root",
            "--pid-file=",
        ]);
        command.arg(format!("--interface={link}")).arg(format!("--dhcp-range={range},1h"));
        command.arg(format!(
            "--dhcp-leasefile={}",
            self.sockets.path().join(format!("{link}.leases")).display()
        ));
        self.start(command.args(more), &format!("dnsmasq-{link}"), "DHCP, sockets bound")
    }

    /// ISC's DHCP server, whose leases may be as short as one likes. `range` is `192.0.2.50 192.0.2.60`
    /// of a /24.
    ///
    /// # Errors
    /// What dhcpd said.
    pub fn dhcpd(&self, link: &str, range: &str, seconds: u32) -> Result<Service> {
        let net = range.split(['.', ' ']).take(3).collect::<Vec<_>>().join(".");
        let (conf, leases) = (self.dir.join("dhcpd.conf"), self.sockets.path().join("dhcpd.leases"));
        let text = format!(
            "authoritative; default-lease-time {seconds}; max-lease-time {seconds}; min-lease-time {seconds};\n\
             ping-check false;\nsubnet {net}.0 netmask 255.255.255.0 {{ range {range}; option routers {net}.1; }}\n"
        );
        std::fs::write(&conf, text).with_context(|| format!("writing {}", conf.display()))?;
        std::fs::write(&leases, "")?;
        let mut command = self.command("dhcpd");
        command.args(["-4", "-f", "-d", "--no-pid", "-cf"]).arg(&conf).arg("-lf").arg(&leases).arg(link);
        self.start(&mut command, "dhcpd", "Server starting service")
    }

    /// A real router's voice: radvd with these lines for `interface LINK { … };`.
    ///
    /// # Errors
    /// What radvd said.
    pub fn radvd(&self, link: &str, lines: &str) -> Result<Service> {
        let conf = self.dir.join("radvd.conf");
        std::fs::write(&conf, format!("interface {link} {{\n  AdvSendAdvert on;\n{lines}\n}};\n"))
            .with_context(|| format!("writing {}", conf.display()))?;
        let mut command = self.command("radvd");
        command.args(["--nodaemon", "--logmethod=stderr", "--debug=1", "-C"]).arg(&conf);
        command.arg("-p").arg(self.sockets.path().join("radvd.pid"));
        self.start(&mut command, "radvd", "started")
    }

    /// A switch's LLDP: lldpd on this link, which calls itself `system` and the port `port`, every second.
    ///
    /// # Errors
    /// What lldpd said.
    pub fn lldpd(&self, link: &str, system: &str, port: &str, vlan: u8) -> Result<Service> {
        // Its own start script makes the folder that it locks itself into.
        std::fs::create_dir_all("/run/lldpd").context("making /run/lldpd")?;
        let socket = self.sockets.path().join("lldpd");
        let mut command = self.command("lldpd");
        command
            .args(["-d", "-l", "-S", "a switch", "-I", link, "-C", link, "-O", "/dev/null", "-u"])
            .arg(&socket);
        let service = self.start(&mut command, "lldpd", "libevent")?;
        let told = format!(
            "configure system hostname {system}\nconfigure ports {link} lldp portidsubtype local {port}\n\
             configure ports {link} lldp custom-tlv oui 00,80,c2 subtype 1 oui-info 00,{vlan:02x}\n\
             configure lldp tx-interval 1\n"
        );
        let mut client = self.command("lldpcli");
        process::run(client.arg("-u").arg(&socket), told.as_bytes(), SOON)?.ok().context("telling lldpd")?;
        Ok(service)
    }

    /// A short folder for sockets.
    pub(crate) fn sockets(&self) -> &Path {
        self.sockets.path()
    }

    /// Where its programs log.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Service {
    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said `text`.
    ///
    /// # Errors
    /// What it said, when it ends or stays silent.
    pub fn until(&mut self, text: &str) -> Result<()> {
        let end = Instant::now() + limit(10);
        while !self.log().contains(text) {
            let gone = self.child.try_wait()?.is_some();
            if gone || Instant::now() > end {
                let said = self.log();
                let tail: Vec<&str> = said.lines().rev().take(20).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("awaited {text:?} of {}, it said:\n{}", self.log.display(), tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
