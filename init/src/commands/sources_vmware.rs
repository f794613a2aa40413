//! What a host of VMware's says of its guest, where the firmware says that this is one.

use std::path::Path;
use std::time::Duration;

use super::apart;
use super::sources::settled;
use crate::creds::metadata::hints::VMWARE;
use crate::creds::{METADATA, Said, guestinfo};
use crate::sys::cmdline::Cmdline;
use crate::sys::files::read_trimmed;
use crate::sys::vmware;

/// How long the host may take: a call takes microseconds, and carries four bytes.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest that it says, in bytes, as JSON.
const MAX_SAID: usize = 4 << 20;
/// What it is called.
const PLACE: &str = "VMware guestinfo";
const NOBODY: &str = "the firmware says VMware, and no such host answers";

/// Asks; `None` where there is nobody to ask. For a process with one thread.
pub(super) fn ask(root: &Path, line: &Cmdline) -> Option<Said> {
    let wanted = line.get("rescue.metadata");
    let maker = read_trimmed(&root.join("sys/class/dmi/id/sys_vendor")).unwrap_or_default();
    if !maker.starts_with("VMware")
        || wanted.is_some_and(|wanted| !wanted.split(',').any(|word| word == VMWARE))
    {
        return None;
    }
    let said = apart::run(LIMIT, MAX_SAID, || serde_json::to_vec(&here()).unwrap_or_default());
    let said = said
        .map_err(|error| error.to_string())
        .and_then(|json| serde_json::from_slice::<Said>(&json).map_err(|_| NOBODY.into()));
    Some(said.unwrap_or_else(|why| Said::absent(METADATA, &format!("{PLACE}: {why}"))).checked())
}

/// In a process of its own: a call ends it where there is no such host.
fn here() -> Said {
    if !guestinfo::answers(&mut vmware::call) {
        return Said::absent(
            METADATA,
            &format!("{PLACE}: the firmware says VMware, and no such host answers"),
        );
    }
    let part = guestinfo::read(&mut |name| guestinfo::variable(&mut vmware::call, name));
    match part {
        Ok(Some(part)) => settled(METADATA, PLACE, part),
        Ok(None) => Said::absent(METADATA, &format!("{PLACE}: neither metadata nor userdata")),
        Err(why) => Said::refused(METADATA, &format!("{PLACE}: {why}")),
    }
}
