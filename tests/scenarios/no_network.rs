//! Without any network the serial console serves: a wrong password is refused, the right one opens
//! a shell.
use crate::console::{Mark, login};
use crate::device::PASSWORD;
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.rescue(&device)?.links(Vec::new()).start()?;
    vm.console.play(&login("root", "incorrect"), Mark::default(), limit(60))?;
    let refused = vm.console.mark();
    vm.console.wait("a refusal", refused, limit(30), |line| {
        line.to_lowercase().contains("incorrect").then_some(())
    })?;
    vm.console.play(&login("root", PASSWORD), refused, limit(60))?;
    vm.console.type_line("echo uid=$(id -u) links=$(ls /sys/class/net | wc -l)")?;
    // The loopback is there always.
    vm.console.line("uid=0 links=1", refused, limit(60)).map(drop)
}
