//! Junk on the kernel command line is tolerated.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let junk = "rescue. rescue.= rescue.panic rescue.nonsense=\u{e9}\u{1}x \"rescue.quoted=a b\" =x == - \
                rescue.very=long,,,=\"unfinished quote";
    let vm = lab.rescue(&device)?.append(junk).start()?;
    vm.ready()?;
    assert_eq!(vm.ssh(&device, "root")?.ok("id -u")?, "0");
    Ok(())
}
