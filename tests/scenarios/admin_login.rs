//! `admin` is a second login with uid 0 and a home of its own.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.device()?.key_login("root")?.key_login("admin")?.build()?;
    let vm = lab.ready(&device, &[])?;
    let (root, admin) = (vm.ssh(&device, "root")?, vm.ssh(&device, "admin")?);
    assert_eq!(admin.ok("id -u; echo $LOGNAME")?, "0\nadmin");
    let (home_of_root, home_of_admin) = (root.ok("echo $HOME; pwd")?, admin.ok("echo $HOME; pwd")?);
    assert_ne!(home_of_root, home_of_admin);
    assert!(vm.ssh(&device, "bob")?.run("true")?.status == 255, "a login that was never injected");
    Ok(())
}
