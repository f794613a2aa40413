//! An injected key lets root in, with exit statuses, standard input and both outputs kept apart.
use crate::lab::Lab;
use crate::process::Output;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.device()?.key_login("root")?.build()?;
    let vm = lab.ready(&device, &[])?;
    let guest = vm.ssh(&device, "root")?;
    assert_eq!(guest.ok("id -u")?, "0");
    let told = guest.run_with_input("cat; echo err >&2; exit 7", b"in")?;
    assert_eq!(told, Output { status: 7, stdout: "in".into(), stderr: "err\n".into() });
    let told = guest.run("modprobe -n no-such-module")?;
    assert!(told.status != 0 && told.stderr.starts_with("rescue modprobe: "), "the rescue's own: {told:?}");
    Ok(())
}
