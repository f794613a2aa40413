//! A malformed or over-long device document, or one whose only key is cut off, lets nobody in, and the console
//! names the field but not what stood in it.
use crate::console::Mark;
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let plain = br#"{"version":1,"logins":[{"name":"root","password_hash":"hunter2hunter2"}]}"#;
    let cut = br#"{"version":1,"logins":[{"name":"root","authorized_keys":["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd"]}]}"#;
    let long = vec![b' '; rescue_schema::credentials::MAX_DOCUMENT + 1];
    for (document, message) in [
        (&plain[..], "logins[0].password_hash"),
        (br#"{"version":1,"logins":[{"name":"root"}],"pasword":""}"#, "pasword"),
        (&[0xff, 0, 7], "device.json"),
        (&long, "device.json: over 1048576 bytes"),
        (cut, "authorized_keys of root, line 1: no key that this server knows; it opens nothing"),
    ] {
        let vm = lab.rescue_with_document(document)?.start()?;
        vm.console.line(message, Mark::default(), limit(60))?;
        super::nobody_without_credentials::closed(&vm, &device)?;
        assert!(!vm.console.lines().iter().any(|line| line.contains("hunter2")), "a secret on the console");
    }
    Ok(())
}
