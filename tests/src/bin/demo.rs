//! `cargo demo`: a server that no longer boots is rescued over SSH, from nothing prepared.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rescue_tests::console::Mark;
use rescue_tests::debian::{self, GONE_UUID, Health};
use rescue_tests::device::{Device, DeviceBuilder};
use rescue_tests::guest::Guest;
use rescue_tests::image::{Binaries, Image, build_command, target};
use rescue_tests::narrate::{Narrator, seconds};
use rescue_tests::process::{quote, show};
use rescue_tests::qemu::{Accelerator, Start};
use rescue_tests::vm::{Vm, VmBuilder, limit};
use rescue_tests::{apt, device};

const USAGE: &str = "\
usage: cargo demo [-- --stay]

A Debian server whose /etc/fstab names a disk that is gone is rescued over SSH.
  --stay   stop before the repair: leave the rescue running and print how to get in";

/// Lines of output that the demo shows of one command.
const SHOWN: usize = 40;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let stay = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--stay"] => true,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("demo: unknown arguments: {}\n{USAGE}", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match demo(stay) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(stay: bool) -> Result<()> {
    let mut story = Narrator::new(if stay { 6 } else { 9 });
    let dir = target().join("demo");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    println!("Rescue Kernel: a server that no longer boots, rescued over SSH.");
    if Accelerator::of_this_machine() == Accelerator::Tcg {
        println!(
            "This machine has no hardware virtualisation: QEMU emulates, everything takes several times longer."
        );
    }

    story.step("What this needs of the host");
    if apt::missing(&[apt::DEMO]).is_empty() {
        story.say("all programs are there (QEMU, OpenSSH, mkfs tools, mmdebstrap, GRUB)");
    } else {
        story.say(&format!("missing Debian packages: {}", apt::missing(&[apt::DEMO]).join(" ")));
        story.during("installing them", || {
            apt::install_missing(&[apt::DEMO], |command| story.command(command))
        })?;
    }

    let (binaries, image) = build(&mut story)?;
    let disk = broken_disk(&mut story, &dir)?;
    emergency(&mut story, &dir, &disk)?;
    let device = inject(&mut story, &dir, &binaries, &image)?;
    let mut vm = boot_rescue(&mut story, &dir, &image, &disk, stay, &device)?;
    let guest = vm.ssh(&device, "root")?;
    if stay {
        return leave_running(&story, &vm, &guest, &device);
    }
    look(&mut story, &guest)?;
    repair(&mut story, &guest, &mut vm)?;
    drop(vm);
    own_boot(&mut story, &dir, &disk)?;
    story.headline(&format!("Rescued. The whole story took {}.", seconds(story.so_far())));
    println!("Artifacts: {}", dir.display());
    for (name, what) in [
        ("disk.img", "the repaired disk"),
        ("device/device.json", "the injected device document"),
        ("initrd.img", "rescue image with the document behind it"),
        ("before/console.log", "the console of the boot that failed"),
        ("rescue/console.log", "the console of the rescue"),
        ("after/console.log", "the console of the boot that succeeded"),
    ] {
        println!("  {name:<22} {what}");
    }
    println!("Image: {}", image.dir.display());
    println!("Try it yourself: cargo demo -- --stay");
    Ok(())
}

fn build(story: &mut Narrator) -> Result<(Binaries, Image)> {
    story.step("Build the rescue: two static programs and an image for Debian machines");
    story.command(&show(&build_command()));
    let binaries = story.during("static release binaries", Binaries::build)?;
    for program in [&binaries.rescue, &binaries.imagebuilder] {
        story.say(&format!("{}  {}", size(program)?, program.display()));
    }
    story.command("imagebuilder build --family debian --profile minimal -o IMAGE");
    let image = story.during("rescue image", || binaries.image("debian", "minimal"))?;
    for file in [&image.kernel, &image.initramfs] {
        story.say(&format!("{}  {}", size(file)?, file.display()));
    }
    Ok((binaries, image))
}

fn broken_disk(story: &mut Narrator, dir: &Path) -> Result<PathBuf> {
    story.step("A server: real Debian on a disk image, and the mistake");
    let disk = dir.join("disk.img");
    let cached = debian::cached()?.exists();
    let what = match cached {
        true => "Debian disk (from the cache)",
        false => "Debian disk: packages by mmdebstrap, GPT, GRUB, ext4 (some minutes, once)",
    };
    story.during(what, || debian::debian(&disk, Health::FstabNamesMissingDisk))?;
    story.say("/etc/fstab of the server; the last line names a disk that is gone:");
    story.output(&debian::read_file(&disk, "/etc/fstab")?, SHOWN);
    Ok(disk)
}

fn emergency(story: &mut Narrator, dir: &Path, disk: &Path) -> Result<()> {
    story.step("The server's own boot, as its owner sees it: emergency mode");
    let vm = by_firmware(dir, "before", disk)?;
    story.during("firmware, GRUB, Debian … emergency mode", || {
        vm.console.line("You are in emergency mode", Mark::default(), limit(150))
    })?;
    story.output(&telling(&vm), 12);
    Ok(())
}

fn inject(story: &mut Narrator, dir: &Path, binaries: &Binaries, image: &Image) -> Result<Device> {
    story.step("Who may enter, and as whom the machine answers: device.json");
    let device = DeviceBuilder::new(&dir.join("device"))?
        .key_login("root")?
        .password_login("root", "yescrypt")?
        .build()?;
    story.say(&format!("root, by the key {} or a password", device.client_key.display()));
    story.say(&format!("host key, known before it boots: {}", device.host_key_fingerprint));
    story.command("imagebuilder inject --device device.json -o device.cpio");
    let cpio = story.during("injected", || binaries.inject(&device))?;
    story.command("cat rescue-debian.img device.cpio >initrd.img");
    image.initrd(&[std::fs::read(cpio)?], &dir.join("initrd.img"))?;
    Ok(device)
}

fn boot_rescue(
    story: &mut Narrator,
    dir: &Path,
    image: &Image,
    disk: &Path,
    stay: bool,
    device: &Device,
) -> Result<Vm> {
    story.step("Boot the same machine into the rescue, and log in over SSH");
    let start = Start::Kernel {
        kernel: image.kernel.clone(),
        initrd: dir.join("initrd.img"),
        append: "console=ttyS0 panic=-1".into(),
    };
    let mut builder = VmBuilder::new(start, &dir.join("rescue"), "repair_fstab")?.disk(disk);
    if stay {
        builder = builder.outlives_us();
    }
    let begun = Instant::now();
    let vm = builder.start()?;
    let ready = story.during("from power on to SSH", || vm.ready())?;
    story.output(&ready.to_string(), SHOWN);
    ensure!(ready.hostkey == device.host_key_fingerprint, "the machine answers with another host key");
    let guest = vm.ssh(device, "root")?;
    story.command(&show(&guest.command(&["rescue", "status"])));
    story.output(&guest.ok("rescue status")?, SHOWN);
    story.took("power on to the end of the first command over SSH", begun.elapsed());
    Ok(vm)
}

fn leave_running(story: &Narrator, vm: &Vm, guest: &Guest, device: &Device) -> Result<()> {
    story.headline("The rescue is running. Get in with:");
    println!("\n  {}\n", show(&guest.command(&[])));
    println!(
        "password    {:?}, if you would rather type one (drop the IdentityFile and BatchMode)",
        device::PASSWORD
    );
    println!("host key    {}", device.host_key_fingerprint);
    println!("console     socat -,raw,echo=0 UNIX-CONNECT:{}", quote(&vm.console_socket().to_string_lossy()));
    println!("try         rescue disks; rescue mount; rescue mount --rw; reboot");
    println!("stop it     poweroff in the rescue, or: kill {}", vm.pid());
    Ok(())
}

fn look(story: &mut Narrator, guest: &Guest) -> Result<()> {
    story.step("See what is there, without writing a byte to the disk");
    inside(story, guest, "rescue disks")?;
    inside(story, guest, "rescue mount")?;
    inside(story, guest, "tail -n 3 /mnt/*/etc/fstab")?;
    inside(story, guest, "rescue umount")
}

fn repair(story: &mut Narrator, guest: &Guest, vm: &mut Vm) -> Result<()> {
    story.step("Repair /etc/fstab, with a copy kept, and leave");
    inside(story, guest, "rescue mount --rw")?;
    inside(story, guest, "cd /mnt/*/etc && cp -p fstab fstab.before-rescue")?;
    inside(story, guest, &format!("cd /mnt/*/etc && sed -i 's/^UUID={GONE_UUID}/#&/' fstab"))?;
    inside(story, guest, "cd /mnt/*/etc && diff fstab.before-rescue fstab; true")?;
    story.command("reboot");
    guest.run("reboot")?;
    story.during("orderly reboot", || vm.ended("the reboot"))
}

fn own_boot(story: &mut Narrator, dir: &Path, disk: &Path) -> Result<()> {
    story.step("The same disk boots by itself again");
    let vm = by_firmware(dir, "after", disk)?;
    story.during("firmware, GRUB, Debian … its own login prompt", || {
        vm.console.line("db7 login:", Mark::default(), limit(150))
    })?;
    story.output(&telling(&vm), 8);
    Ok(())
}

/// A machine whose firmware boots this disk, as the server's own does.
fn by_firmware(dir: &Path, log: &str, disk: &Path) -> Result<Vm> {
    VmBuilder::new(Start::FirstDisk, &dir.join(log), "debian_boots")?.links(Vec::new()).disk(disk).start()
}

/// The lines of a boot that tell how it went, the prompt that waits included.
fn telling(vm: &Vm) -> String {
    // The prompt follows within moments; what is shown should end with it.
    std::thread::sleep(Duration::from_secs(2));
    let console = vm.console.verdict(String::new()).console;
    let lines: Vec<String> = console.into_iter().filter(|line| !line.trim().is_empty()).collect();
    lines.join("\n")
}

/// Shows a command, runs it in the guest, and shows what it printed.
fn inside(story: &Narrator, guest: &Guest, shell: &str) -> Result<()> {
    let start = Instant::now();
    story.command(&format!("ssh root@db7 -- {shell}"));
    story.output(&guest.ok(shell)?, SHOWN);
    story.took("done", start.elapsed());
    Ok(())
}

fn size(path: &Path) -> Result<String> {
    let bytes = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
    Ok(format!("{:5.1} MB", bytes as f64 / 1e6))
}
