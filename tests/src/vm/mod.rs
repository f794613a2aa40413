//! A machine that runs: started ([`VmBuilder`]) with a deadline, driven by its power button and its sockets,
//! gone when it is dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rescue_schema::report::Ready;
use serde_json::{Value, json};

use crate::console::{Console, Mark};
use crate::device::Device;
use crate::guest::Guest;
use crate::network::Network;
use crate::qemu::{Accelerator, Link, Machine, QEMU, mac};

mod builder;

pub use builder::{OVMF_VARIABLES, VmBuilder};

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
        self.ready_when(&format!("the ready line with {address}"), |ready| is_at(ready, address))
    }

    /// Waits until it says so with the host key of its document. A machine that has to fetch that may be reached
    /// before, when it is slow, with a key that it has made.
    ///
    /// # Errors
    /// A verdict, when it does not come.
    pub fn ready_as(&self, device: &Device, address: &str) -> Result<Ready> {
        let key = &device.host_key_fingerprint;
        self.ready_when(&format!("the ready line with {address} and {key}"), |ready| {
            is_at(ready, address) && ready.hostkey == *key
        })
    }

    fn ready_when(&self, what: &str, is: impl Fn(&Ready) -> bool) -> Result<Ready> {
        self.console.wait(what, Mark::default(), limit(30), |line| Ready::find(line).filter(&is))
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

    /// Plugs in a card of this model, with no cable in it.
    ///
    /// # Errors
    /// As [`Vm::power_button`].
    pub fn plug_card(&mut self, model: &str) -> Result<()> {
        self.qmp.execute("device_add", &json!({"driver": model, "id": model, "romfile": ""})).map(drop)
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

fn is_at(ready: &Ready, address: &str) -> bool {
    let host = ready.ssh.rsplit_once(':').map_or("", |(host, _)| host);
    host.trim_matches(['[', ']']) == address
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
