//! A machine in the making: what it has, and how QEMU is started with that.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Qmp, Sockets, Vm, free_port};
use crate::console::Console;
use crate::network::Network;
use crate::process;
use crate::qemu::{Accelerator, Drive, Link, Machine, QEMU, Start};

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// The variables of a machine that was never started.
pub const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

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

    /// Its firmware is UEFI (OVMF), with its variables in this file.
    pub fn uefi(self, variables: &Path) -> Self {
        let variables = variables.to_string_lossy().replace(',', ",,");
        let code = format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}");
        self.qemu(&["-drive", &code, "-drive", &format!("if=pflash,unit=1,format=raw,file={variables}")])
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
