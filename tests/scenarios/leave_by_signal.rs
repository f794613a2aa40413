//! SIGINT to PID 1, which is how the kernel reports Ctrl-Alt-Del, and SIGTERM end in an orderly
//! shutdown.
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    for signal in ["INT", "TERM"] {
        let mut vm = lab.ready(&device, &[])?;
        let mark = vm.console.mark();
        vm.ssh(&device, "root")?.run(&format!("kill -{signal} 1"))?;
        vm.console.line("rescue: going down", mark, limit(30))?;
        vm.ended(&format!("the end that SIG{signal} asks for"))?;
    }
    Ok(())
}
