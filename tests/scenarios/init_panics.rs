//! PID 1 that panics (on purpose, by `rescue.panic=test`) says so on the console and then does what
//! the kernel's `panic=` asks for: here, a reboot at once.
use crate::console::Mark;
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let mut vm = lab.rescue(&device)?.append("rescue.panic=test").start()?;
    vm.console.line("rescue: fatal", Mark::default(), limit(60))?;
    vm.ended("the reboot that panic=-1 asks for")?;
    let lines = vm.console.lines();
    assert!(!lines.iter().any(|l| l.contains("Attempted to kill init")), "the kernel had to end it");
    Ok(())
}
