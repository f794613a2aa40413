//! Without a device document nobody gets in, and the console says so and why.
use crate::console::{Mark, login};
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.rescue_with(&[])?.start()?;
    vm.console.wait("why nobody may log in", Mark::default(), limit(60), |line| {
        let line = line.to_lowercase();
        (line.contains("nobody") && (line.contains("credential") || line.contains("login"))).then_some(())
    })?;
    closed(&vm, &device)
}

/// Neither SSH nor the console lets anybody in.
pub(super) fn closed(vm: &crate::vm::Vm, device: &crate::device::Device) -> anyhow::Result<()> {
    let unverified = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    let guest = vm.ssh(device, "root")?;
    for guest in [guest.clone(), guest.with_password(crate::device::PASSWORD)] {
        // The host key was made at boot, so there is none to pin. ssh(1) takes the first value of an
        // option that it is given.
        let mut command = std::process::Command::new("ssh");
        let pinned = guest.command(&["echo inside"]);
        command.args(unverified).args(pinned.get_args());
        command.envs(pinned.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = crate::process::run(&mut command, b"", limit(30))?;
        assert_eq!((output.status, output.stdout.as_str()), (255, ""), "{}", output.stderr);
    }
    if vm.console.lines().iter().any(|line| line.contains("login:")) {
        let mark = vm.console.mark();
        vm.console.play(&login("root", "")[..1], Mark::default(), limit(30))?;
        anyhow::ensure!(vm.console.line("root@", mark, limit(3)).is_err(), "the console let somebody in");
    }
    Ok(())
}
