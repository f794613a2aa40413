//! `admin` is a second login with uid 0 and a home of its own. That the firmware calls the machine one of VMware's
//! while no such host answers is said, and changes nothing.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.device()?.key_login("root")?.key_login("admin")?.build()?;
    let vm = lab.rescue(&device)?.qemu(&["-smbios", "type=1,manufacturer=VMware,, Inc."]).start()?;
    vm.ready()?;
    let (root, admin) = (vm.ssh(&device, "root")?, vm.ssh(&device, "admin")?);
    assert_eq!(admin.ok("id -u; echo $LOGNAME")?, "0\nadmin");
    let (home_of_root, home_of_admin) = (root.ok("echo $HOME; pwd")?, admin.ok("echo $HOME; pwd")?);
    assert_ne!(home_of_root, home_of_admin);
    admin.until("rescue status --sources", |said| said.contains("says VMware, and no such host answers"))?;
    assert!(vm.ssh(&device, "bob")?.run("true")?.status == 255, "a login that was never injected");
    Ok(())
}
