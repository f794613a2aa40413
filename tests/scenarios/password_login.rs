//! An injected hash of each scheme lets its login in with the password, and only with that.
use crate::device::PASSWORD;
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device =
        lab.device()?.password_login("root", "yescrypt")?.password_login("admin", "sha512crypt")?.build()?;
    let vm = lab.ready(&device, &[])?;
    for name in ["root", "admin"] {
        let guest = vm.ssh(&device, name)?.with_password(PASSWORD);
        assert_eq!(guest.ok("id -un")?, name_of_uid_0());
        assert_eq!(guest.ok("echo $USER")?, name);
    }
    Ok(())
}

/// Both logins have uid 0, and the first row of passwd(5) with it is root's.
fn name_of_uid_0() -> &'static str {
    "root"
}
