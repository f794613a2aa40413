//! A machine that runs: started with a deadline, driven by its power button and its sockets,
//! gone when it is dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rescue_schema::report::Ready;
use serde_json::{Value, json};

use crate::console::{Console, Mark};
use crate::device::Device;
use crate::guest::Guest;
use crate::network::Network;
use crate::process;
use crate::qemu::{Accelerator, Drive, Link, Machine, QEMU, Start, mac};

/// A machine in the making.
#[derive(Debug, Clone)]
pub struct VmBuilder {
    machine: Machine,
    dir: PathBuf,
    scenario: String,
    outlives_us: bool,
    /// The words that put QEMU into a network.
    inside: Vec<String>,
}

impl VmBuilder {
    /// A machine with one processor, a user network, no disks, that ends when it is reset. Its logs
    /// go to `dir`.
    pub fn new(start: Start, dir: &Path, scenario: &str) -> Result<Self> {
        Ok(Self {
            machine: Machine {
                start,
                memory_mib: 512,
                cpus: 1,
                drives: Vec::new(),
                links: vec![Link::User { ssh_port: free_port()? }],
                no_reboot: true,
                more: Vec::new(),
            },
            dir: dir.into(),
            scenario: scenario.into(),
            outlives_us: false,
            inside: Vec::new(),
        })
    }

    /// Adds words to the kernel command line.
    pub fn append(mut self, words: &str) -> Self {
        if let Start::Kernel { append, .. } = &mut self.machine.start {
            append.push(' ');
            append.push_str(words);
        }
        self
    }

    /// Attaches a raw disk image.
    pub fn disk(mut self, image: &Path) -> Self {
        let serial = format!("disk{}", self.machine.drives.len());
        self.machine.drives.push(Drive { image: image.into(), serial });
        self
    }

    /// Puts an image into an optical drive.
    pub fn cdrom(self, image: &Path) -> Self {
        let file = image.to_string_lossy().replace(',', ",,");
        let id = format!("cd{}", self.machine.more.len());
        let drive = format!("if=none,id={id},media=cdrom,readonly=on,format=raw,file={file}");
        self.qemu(&["-drive", &drive, "-device", &format!("ide-cd,drive={id}")])
    }

    /// Has the firmware say this to the guest, as systemd's credentials: strings of SMBIOS.
    pub fn smbios(self, credentials: &[(&str, &str)]) -> Self {
        credentials.iter().fold(self, |vm, (name, value)| {
            let value = value.replace(',', ",,");
            vm.qemu(&["-smbios", &format!("type=11,value=io.systemd.credential:{name}={value}")])
        })
    }

    /// As [`Self::smbios`], in QEMU's firmware configuration: what is in a file.
    pub fn fw_cfg(self, name: &str, file: &Path) -> Self {
        let file = file.to_string_lossy().replace(',', ",,");
        self.qemu(&["-fw_cfg", &format!("name=opt/io.systemd.credentials/{name},file={file}")])
    }

    /// Adds words to QEMU's own command line.
    pub fn qemu(mut self, words: &[&str]) -> Self {
        self.machine.more.extend(words.iter().map(ToString::to_string));
        self
    }

    /// Replaces the network cards.
    pub fn links(mut self, links: Vec<Link>) -> Self {
        self.machine.links = links;
        self
    }

    /// Puts it into a network, with these cards.
    pub fn network(mut self, network: &Network, links: Vec<Link>) -> Self {
        self.inside = network.prefix();
        self.machine.links = links;
        self
    }

    /// Memory in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.machine.memory_mib = mib;
        self
    }

    /// Processors.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.machine.cpus = cpus;
        self
    }

    /// A reset starts it over, as on a real machine.
    pub fn reboots(mut self) -> Self {
        self.machine.no_reboot = false;
        self
    }

    /// It goes on running when we end.
    pub fn outlives_us(mut self) -> Self {
        self.outlives_us = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When QEMU does not start; with what it said.
    pub fn start(self) -> Result<Vm> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        // A socket's path has at most 107 bytes (unix(7)), which a target folder may exceed.
        let sockets = tempfile::Builder::new().prefix("rescue-vm-").tempdir().context("making a folder")?;
        let (log, said) = (self.dir.join("console.log"), self.dir.join("qemu.log"));
        let args = self.machine.arguments(Accelerator::of_this_machine(), sockets.path(), &log);
        let words: Vec<String> = args.iter().map(|arg| process::quote(arg)).collect();
        std::fs::write(self.dir.join("qemu.sh"), format!("{QEMU} {}\n", words.join(" ")))?;
        let mut command = match (self.inside.split_first(), self.outlives_us) {
            (None, true) => Command::new(QEMU),
            // Should we be killed, the machine goes with us.
            (None, false) => Command::new("setpriv"),
            (Some((first, _)), _) => Command::new(first),
        };
        match self.inside.get(1..) {
            Some(rest) => drop(command.args(rest).arg(QEMU)),
            None if self.outlives_us => {
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
            }
            None => drop(command.args(["--pdeathsig", "KILL", QEMU])),
        }
        let child = command
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said).with_context(|| format!("creating {}", said.display()))?)
            .spawn()
            .with_context(|| format!("starting {QEMU} (package qemu-system-x86)"))?;
        let mut vm = Starting { child: Some(child), said };
        let serial = vm.connect(&sockets.path().join("console"))?;
        let console = Console::new(serial, &log, &self.scenario)?;
        let qmp = Qmp::new(vm.connect(&sockets.path().join("qmp"))?)?;
        let Some(child) = vm.child.take() else { bail!("{QEMU} is gone") };
        let sockets = match self.outlives_us {
            true => Sockets::Kept(sockets.keep()),
            false => Sockets::Ours(sockets),
        };
        Ok(Vm { child, console, qmp, machine: self.machine, sockets, outlives_us: self.outlives_us })
    }
}

/// A QEMU that has been started but not yet spoken to; killed unless it is taken out.
struct Starting {
    child: Option<Child>,
    said: PathBuf,
}

impl Starting {
    fn connect(&mut self, path: &Path) -> Result<UnixStream> {
        let end = Instant::now() + Accelerator::of_this_machine().limit(10);
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let gone = self.child.as_mut().is_none_or(|c| c.try_wait().is_ok_and(|s| s.is_some()));
                    if gone || Instant::now() > end {
                        let said = std::fs::read_to_string(&self.said).unwrap_or_default();
                        bail!("{QEMU} does not answer ({error}); it said: {}", said.trim());
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

enum Sockets {
    Ours(tempfile::TempDir),
    Kept(PathBuf),
}

/// A machine that runs.
pub struct Vm {
    child: Child,
    /// Its serial console.
    pub console: Console,
    qmp: Qmp,
    machine: Machine,
    sockets: Sockets,
    outlives_us: bool,
}

impl Vm {
    /// Waits for the line that ends a boot of ours.
    ///
    /// # Errors
    /// A verdict, when it does not come.
    pub fn ready(&self) -> Result<Ready> {
        self.console.ready(limit(60))
    }

    /// Waits until it says that it is reached at this address.
    ///
    /// # Errors
    /// A verdict, when it does not come.
    pub fn ready_at(&self, address: &str) -> Result<Ready> {
        let what = format!("the ready line with {address}");
        let is = |ready: &Ready| {
            let host = ready.ssh.rsplit_once(':').map_or("", |(host, _)| host);
            host.trim_matches(['[', ']']) == address
        };
        self.console.wait(&what, Mark::default(), limit(30), |line| Ready::find(line).filter(is))
    }

    /// The loopback port that leads to its SSH server.
    ///
    /// # Errors
    /// When it has no user network.
    pub fn ssh_port(&self) -> Result<u16> {
        self.machine
            .links
            .iter()
            .find_map(|link| match link {
                Link::User { ssh_port } => Some(*ssh_port),
                Link::Wire { .. } | Link::Tap { .. } => None,
            })
            .context("this machine has no user network")
    }

    /// An SSH client that knows the host key of `device`, for the login `name`.
    ///
    /// # Errors
    /// When it has no user network, or the client's files cannot be written.
    pub fn ssh(&self, device: &Device, name: &str) -> Result<Guest> {
        Guest::new(device, name, self.ssh_port()?)
    }

    /// An SSH client as [`Vm::ssh`] has, in `network`, for a machine that has this address there.
    ///
    /// # Errors
    /// When the client's files cannot be written.
    pub fn ssh_in(&self, network: &Network, device: &Device, address: &str) -> Result<Guest> {
        Guest::inside(network.prefix(), device, "root", address)
    }

    /// Waits until QEMU has ended: the machine was switched off, or reset with `-no-reboot`.
    ///
    /// # Errors
    /// A verdict, when it goes on running.
    pub fn ended(&mut self, what: &str) -> Result<()> {
        let time = limit(60);
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                match status.success() {
                    true => return Ok(()),
                    false => bail!("{QEMU} ended with {status}"),
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.console.verdict(format!("awaited {what} for {} s", time.as_secs())).into())
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The socket of the serial console, for as long as the machine runs.
    pub fn console_socket(&self) -> PathBuf {
        match &self.sockets {
            Sockets::Ours(dir) => dir.path().join("console"),
            Sockets::Kept(dir) => dir.join("console"),
        }
    }

    /// Presses the ACPI power button.
    ///
    /// # Errors
    /// When QEMU is gone or refuses.
    pub fn power_button(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Presses keys of the keyboard together, by QEMU's names (`ctrl`, `alt`, `delete`).
    ///
    /// # Errors
    /// As [`Vm::power_button`].
    pub fn keys(&mut self, names: &[&str]) -> Result<()> {
        let keys: Vec<Value> = names.iter().map(|n| json!({"type": "qcode", "data": n})).collect();
        self.qmp.execute("send-key", &json!({ "keys": keys })).map(drop)
    }

    /// Plugs a disk in.
    ///
    /// # Errors
    /// As [`Vm::power_button`].
    pub fn plug_disk(&mut self, image: &Path, serial: &str) -> Result<()> {
        let node = format!("plugged-{serial}");
        let file = json!({"driver": "file", "filename": image});
        self.qmp.execute("blockdev-add", &json!({"driver": "raw", "node-name": node, "file": file}))?;
        let device = json!({"driver": "virtio-blk-pci", "drive": node, "id": serial, "serial": serial});
        self.qmp.execute("device_add", &device).map(drop)
    }

    /// Plugs in a network card with the MAC address of the `n`-th.
    ///
    /// # Errors
    /// As [`Vm::power_button`].
    pub fn plug_network(&mut self, n: usize, link: &Link) -> Result<()> {
        let netdev: serde_json::Map<String, Value> = link
            .netdev(&format!("net{n}"))
            .split(',')
            .enumerate()
            .map(|(at, word)| match (at, word.split_once('=')) {
                (0, _) => ("type".to_string(), json!(word)),
                (_, Some((key, "on" | "off"))) => (key.to_string(), json!(word.ends_with("=on"))),
                (_, pair) => {
                    let (key, value) = pair.unwrap_or((word, ""));
                    (key.to_string(), json!(value))
                }
            })
            .collect();
        self.qmp.execute("netdev_add", &Value::Object(netdev))?;
        let id = format!("nic{n}");
        let card = json!({"driver": "virtio-net-pci", "netdev": format!("net{n}"), "id": id, "mac": mac(n),
            "speed": 10000, "duplex": "full"});
        self.qmp.execute("device_add", &card).map(drop)
    }

    /// Asks the guest to let a device go, by the id or serial that it was plugged in with.
    ///
    /// # Errors
    /// As [`Vm::power_button`].
    pub fn unplug(&mut self, id: &str) -> Result<()> {
        self.qmp.execute("device_del", &json!({ "id": id })).map(drop)
    }

    /// Pulls or plugs the cable of the `n`-th network card.
    ///
    /// # Errors
    /// As [`Vm::power_button`].
    pub fn cable(&mut self, n: usize, plugged: bool) -> Result<()> {
        self.qmp.execute("set_link", &json!({"name": format!("nic{n}"), "up": plugged})).map(drop)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if !self.outlives_us {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// QEMU's control socket (QMP: a JSON value a line).
struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    fn new(stream: UnixStream) -> Result<Self> {
        // QEMU answers between two instructions of the guest: a minute is not a slow machine.
        stream.set_read_timeout(Some(limit(10)))?;
        let mut qmp = Self { writer: stream.try_clone()?, reader: BufReader::new(stream) };
        qmp.read().context("reading QEMU's greeting")?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("reading from QEMU")? == 0 {
            bail!("{QEMU} is gone");
        }
        serde_json::from_str(&line).context("QEMU's answer is not JSON")
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes()).with_context(|| format!("telling QEMU: {command}"))?;
        loop {
            let answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            // Anything else is an event.
        }
    }
}

/// See [`Accelerator::limit`].
pub fn limit(seconds: u64) -> Duration {
    Accelerator::of_this_machine().limit(seconds)
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
