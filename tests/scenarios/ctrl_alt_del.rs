//! Ctrl-Alt-Del on the keyboard reboots in an orderly way.
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let mut vm = lab.ready(&device, &[])?;
    let mark = vm.console.mark();
    vm.keys(&["ctrl", "alt", "delete"])?;
    vm.console.line("rescue: going down", mark, limit(30))?;
    vm.ended("the reboot by Ctrl-Alt-Del")
}
