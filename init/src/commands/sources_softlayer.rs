//! SoftLayer's metadata service, where the command line names it: by HTTPS alone, at a name of the private network.

use std::path::Path;
use std::time::{Duration, Instant};

use super::sources::settled;
use super::sources_asking::Asking;
use super::sources_url::patiently;
use crate::creds::metadata::hints::SOFTLAYER;
use crate::creds::translate::softlayer::{METHODS, metadata};
use crate::creds::{METADATA, Said};
use crate::sys::cmdline::Cmdline;
use crate::web::url::Url;

/// The service, which knows the machine by its private address.
const SERVICE: &str = "https://api.service.softlayer.com/rest/v3.1/SoftLayer_Resource_Metadata";
/// How long it is tried.
const PATIENCE: Duration = Duration::from_secs(120);
/// What it is called.
const PLACE: &str = "SoftLayer";

/// Begins to ask; `None` where nobody has named it.
pub(super) fn begin(root: &Path, line: &Cmdline, ours: bool) -> Option<Result<Asking, Box<Said>>> {
    let named = line.all("rescue.metadata").any(|words| words.split(',').any(|word| word == SOFTLAYER));
    let root = root.to_path_buf();
    named.then(|| Asking::begin(Said::waiting(METADATA, "asking SoftLayer"), move || ask(&root, ours)))
}

fn ask(root: &Path, ours: bool) -> Said {
    let until = Instant::now() + PATIENCE;
    let mut answers: [Vec<u8>; 4] = Default::default();
    for (method, place) in METHODS.iter().zip(&mut answers) {
        let Ok(url) = Url::parse(&format!("{SERVICE}/{method}.json")) else { continue };
        match patiently(&url, PLACE, (root, ours), until) {
            Ok((200, body)) => *place = body.to_vec(),
            // What this machine has not.
            Ok((404, _)) => {}
            Ok((status, _)) => return Said::refused(METADATA, &format!("{PLACE}: {method}: HTTP {status}")),
            Err(why) => return Said::absent(METADATA, &format!("{PLACE}: {why}")),
        }
    }
    match metadata(&answers) {
        Ok(part) => settled(METADATA, PLACE, part),
        Err(why) => Said::refused(METADATA, &format!("{PLACE}: {why}")),
    }
}
