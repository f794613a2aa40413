//! Two network namespaces with cables between them: `s0`, `s1`, … at the one end, `c0`, `c1`, … at the
//! other, where `rescue netd` runs. Needs root and `ip` (iproute2).

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, SockaddrStorage, bind,
    recvfrom, send, socket,
};
use rescue_schema::report::{LinkReport, NetReport};

/// How long a thing that must happen is waited for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Lab {
    pub server: String,
    pub client: String,
    pub folder: tempfile::TempDir,
    servers: Vec<Child>,
    netd: Option<Child>,
}

impl Lab {
    /// Namespaces with so many cables, the server's ends up.
    pub fn new(name: &str, cables: u8) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run this test as root");
        let id = std::process::id();
        let lab = Self {
            server: format!("{name}-s{id}"),
            client: format!("{name}-c{id}"),
            folder: tempfile::tempdir().unwrap(),
            servers: Vec::new(),
            netd: None,
        };
        std::fs::create_dir_all(lab.path("root/etc")).unwrap();
        std::fs::create_dir_all(lab.path("root/run/rescue")).unwrap();
        ip(&["netns", "add", &lab.server]);
        ip(&["netns", "add", &lab.client]);
        lab.at_server("link set lo up");
        (0..cables).for_each(|n| lab.plug(n));
        lab
    }

    /// A cable; its card in the client has the address 02:00:00:00:00:0N.
    pub fn plug(&self, n: u8) {
        self.at_server(&format!("link add s{n} type veth peer name c{n} netns {}", self.client));
        self.at_client(&format!("link set c{n} address 02:00:00:00:00:0{n}"));
        self.at_server(&format!("link set s{n} up"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn wish(&self, json: &str) {
        // Once netd has run, it goes by what it kept.
        let kept = self.path("root/run/rescue/network-in-force.json");
        let injected = self.path("root/run/rescue/network.json");
        std::fs::write(if kept.exists() { kept } else { injected }, json).unwrap();
    }

    pub fn start(&mut self) {
        let log = File::options().append(true).create(true).open(self.path("netd.log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.client, env!("CARGO_BIN_EXE_rescue"), "netd", "--verbose"])
            .arg("--root")
            .arg(self.path("root"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting netd by `ip netns exec`");
        self.netd = Some(child);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        end(self.netd.take());
    }

    /// `rescue net ARGS…` in the client's namespace.
    pub fn net(&self, args: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.client, env!("CARGO_BIN_EXE_rescue"), "net", "--root"])
            .arg(self.path("root"))
            .args(args)
            .output()
            .unwrap()
    }

    /// Whether netd runs.
    pub fn lives(&mut self) -> bool {
        matches!(self.netd.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// Starts a server at its end of the cables and waits until its log, `<program>.log`, says once more that it
    /// is ready.
    pub fn serve(&mut self, program: &str, args: &[&str], ready: &str) {
        let name = format!("{program}.log");
        let log = File::options().append(true).create(true).open(self.path(&name)).unwrap();
        let said = |lab: &Self| lab.file(&name).matches(ready).count();
        let before = said(self);
        let child = Command::new("ip")
            .args(["netns", "exec", &self.server, program])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("starting {program} by `ip netns exec`: {e}"));
        self.servers.push(child);
        self.until(program, |lab| said(lab) > before);
    }

    /// dnsmasq, which serves leases and nothing else.
    pub fn dnsmasq(&mut self, more: &[&str], ready: &str) {
        let leases = format!("--dhcp-leasefile={}", self.path("leases").display());
        let ours =
            ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=0", "--no-ping"];
        self.serve("dnsmasq", &[&ours[..], &[&leases], more].concat(), ready);
    }

    /// The servers end in order, as by their administrator.
    pub fn stop_serving(&mut self) {
        for mut child in self.servers.drain(..) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }

    /// What a file of the lab's folder says; nothing where it is not there.
    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        self.file("netd.log")
    }

    pub fn report(&self) -> NetReport {
        serde_json::from_slice(&std::fs::read(self.path("root/run/rescue/net.json")).unwrap_or_default())
            .unwrap_or_default()
    }

    pub fn link(&self, name: &str) -> LinkReport {
        self.report().links.into_iter().find(|link| link.name == name).unwrap_or_default()
    }

    /// The first link, where there is but one cable.
    pub fn card(&self) -> LinkReport {
        self.report().links.into_iter().next().unwrap_or_default()
    }

    /// The first address of [`Lab::card`].
    pub fn address(&self) -> Option<String> {
        self.card().addresses.into_iter().next()
    }

    /// Hundredths of a second of CPU that netd has used.
    pub fn ticks(&self) -> u64 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.netd.as_ref().unwrap().id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Memory of its own in KiB. What is mapped of the program itself is counted where it is a release:
    /// of one for debugging it says nothing.
    pub fn own_kib(&self) -> u64 {
        let pid = self.netd.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[track_caller]
    pub fn at_server(&self, args: &str) -> String {
        ip(&[&["-n", &self.server][..], &words(args)].concat())
    }

    #[track_caller]
    pub fn at_client(&self, args: &str) -> String {
        ip(&[&["-n", &self.client][..], &words(args)].concat())
    }

    /// Whether the server reaches the client: a refused connection comes from there as well.
    pub fn reaches(&self, address: &str) -> bool {
        let namespace = File::open(Path::new("/run/netns").join(&self.server)).unwrap();
        let to = std::net::SocketAddr::new(address.parse().unwrap(), 9);
        let asked = std::thread::spawn(move || {
            // This thread alone moves to the other namespace.
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            std::net::TcpStream::connect_timeout(&to, Duration::from_millis(500)).map(drop)
        });
        match asked.join().unwrap() {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        }
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut met: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !met(self) {
            if start.elapsed() > PATIENCE {
                let logs = ["netd.log", "dnsmasq.log", "radvd.log", "dhcpd.log"];
                let logs: String = logs.map(|name| format!("{name}:\n{}", self.file(name))).concat();
                let kernel = ["addr", "route", "-6 route"].map(|what| self.at_client(what)).concat();
                panic!("no {what}\n{logs}\nreport: {:#?}\nkernel:\n{kernel}", self.report());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Lab {
    /// A socket on a link of the server's.
    pub fn wire(&self, link: &str) -> Wire {
        let (namespace, link) = (self.server.clone(), link.to_string());
        // This thread alone moves to the other namespace.
        std::thread::spawn(move || Wire::open(&namespace, &link)).join().unwrap()
    }
}

/// Sends and hears whole Ethernet frames on a link.
pub struct Wire(std::os::fd::OwnedFd);

impl Wire {
    /// On this link of a namespace, into which this thread goes.
    pub fn open(namespace: &str, link: &str) -> Self {
        enter(namespace).unwrap();
        let all = nix::ifaddrs::getifaddrs().unwrap();
        let place = |i: &nix::ifaddrs::InterfaceAddress| {
            let address = i.address.as_ref().filter(|_| i.interface_name == link);
            address.and_then(SockaddrStorage::as_link_addr).copied()
        };
        let place = all.into_iter().find_map(|i| place(&i)).unwrap();
        assert_eq!(place.family(), Some(AddressFamily::Packet));
        let all = Some(SockProtocol::EthAll);
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).unwrap();
        bind(fd.as_raw_fd(), &place).unwrap();
        Self(fd)
    }

    pub fn send(&self, frame: &[u8]) {
        while send(self.0.as_raw_fd(), frame, MsgFlags::empty()) == Err(nix::errno::Errno::ENOBUFS) {}
    }

    /// The next frame that arrives; none within the time.
    pub fn hear(&self, within: Duration) -> Option<Vec<u8>> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap() == 0 {
                return None;
            }
            let mut frame = vec![0; 2048];
            let (length, from) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut frame).unwrap();
            // PACKET_OUTGOING: our own.
            if from.is_none_or(|from| from.pkttype() != 4) {
                frame.truncate(length);
                return Some(frame);
            }
        }
    }
}

/// Takes this thread into a namespace.
pub fn enter(name: &str) -> std::io::Result<()> {
    let begun = Instant::now();
    loop {
        let namespace = File::open(Path::new("/run/netns").join(name))?;
        match nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET) {
            // While another `ip netns add` mounts the folder upon itself, files of before show.
            Err(nix::errno::Errno::EINVAL) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return Ok(other?),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop_serving();
        self.kill();
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[track_caller]
pub fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().expect("running ip (package iproute2)");
    assert!(out.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
