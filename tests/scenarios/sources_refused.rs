//! A config drive on a partition is refused, and so is a password on the kernel command line; what is
//! malformed and more trusted keeps the door closed for what is good and less trusted. Each is said.
use std::process::Command;

use crate::console::Mark;
use crate::lab::Lab;
use crate::process;
use crate::vm::{Vm, limit};

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let key = std::fs::read_to_string(device.dir.join("client_key.pub"))?;
    let user_data = format!("#cloud-config\nssh_authorized_keys:\n- {}\n", key.trim());
    let medium = lab.path("cidata.img");
    let files = [("meta-data", "instance-id: x\n"), ("user-data", user_data.as_str())];
    super::sources_disagree::fat(lab, &medium, "cidata", &files)?;

    // The same in a partition, as the rescued system could have it.
    let disk = lab.path("disk.img");
    std::fs::File::create(&disk)?.set_len(8 << 20)?;
    let mut command = Command::new("sfdisk");
    command.arg("-q").arg(&disk);
    process::run(&mut command, b"label: gpt\nstart=2048, size=4096\n", limit(30))?.ok()?;
    let mut command = Command::new("dd");
    command.arg(format!("if={}", medium.display())).arg(format!("of={}", disk.display()));
    process::check(command.args(["bs=512", "seek=2048", "conv=notrunc", "status=none"]), limit(30))?;

    let vm = lab.rescue_with(&[])?.append("passwd=hunter2hunter2").disk(&disk).start()?;
    nobody(&vm, &["vda1 is labelled CIDATA: refused", "passwd=: refused"])?;
    super::nobody_without_credentials::closed(&vm, &device)?;
    // The kernel itself repeats its command line.
    let ours = |line: &&String| line.contains("rescue:") || line.contains("obody");
    assert!(!vm.console.lines().iter().filter(ours).any(|line| line.contains("hunter2")), "it was told");
    drop(vm);

    let vm = lab
        .rescue_with(&[])?
        .smbios(&[("passwd.hashed-password.root", "hunter2hunter2")])
        .disk(&medium)
        .start()?;
    nobody(&vm, &["refused: SMBIOS: passwd.hashed-password.root"])?;
    // The medium is read nevertheless, and lets nobody in.
    vm.console.stage("sources", limit(60))?;
    super::nobody_without_credentials::closed(&vm, &device)?;
    assert!(!vm.console.lines().iter().any(|line| line.contains("hunter2")), "a secret on the console");
    Ok(())
}

/// The console says that nobody can log in, and all of this about it.
fn nobody(vm: &Vm, why: &[&str]) -> anyhow::Result<()> {
    vm.console.wait("why nobody may log in", Mark::default(), limit(90), |line| {
        (line.contains("nobody can log in") && why.iter().all(|word| line.contains(word))).then_some(())
    })
}
