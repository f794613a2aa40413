//! A wrong key, a wrong password, or nothing at all opens nothing, and the right key still does.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.ready(&device, &[])?;
    let guest = vm.ssh(&device, "root")?;
    for (what, guest) in [
        ("a wrong key", guest.clone().with_key(&device.wrong_key)),
        ("a wrong password", guest.clone().with_password("incorrect")),
        ("an empty password", guest.clone().with_password("")),
        ("nothing", guest.clone().with_nothing()),
    ] {
        let output = guest.run("echo inside")?;
        assert_eq!((output.status, output.stdout.as_str()), (255, ""), "{what}");
        assert!(output.stderr.contains("Permission denied"), "{what}: {}", output.stderr);
    }
    assert_eq!(guest.ok("echo inside")?, "inside");
    Ok(())
}
