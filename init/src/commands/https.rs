//! What `rescue` has done by a process that can do nothing but speak to the web: by `rescue-https` where that
//! takes TLS, which an image may be without.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rescue_schema::credentials::MAX_DOCUMENT;
use rescue_schema::paths;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::sys::lines::hear;
use crate::sys::{sandbox, spawn};
use crate::web::exchange::{Request, Secure, Surroundings, exchange};
use crate::web::tls;
use crate::web::url::Url;

/// What the process that fetches may use.
const LIMITS: sandbox::Limits = sandbox::Limits { memory: 64 << 20, descriptors: 16 };
/// How long it may take: longer than an exchange may.
const FETCHING: Duration = Duration::from_secs(90);

/// The word by which either program fetches.
pub(super) const FETCH: &str = "fetch";

/// What the process that fetches is told.
#[derive(Serialize, Deserialize)]
struct Errand {
    url: String,
    around: Surroundings,
}

/// What it says before the body.
#[derive(Serialize, Deserialize)]
enum Outcome {
    /// What was answered, with this status of HTTP.
    Answered(u16),
    /// Why nothing was.
    Failed(String),
}

/// The program that speaks TLS: outside of an image it lies beside this one.
///
/// # Errors
/// When there is none.
pub(super) fn program(ours: bool) -> anyhow::Result<PathBuf> {
    let path = match ours {
        true => PathBuf::from(paths::HTTPS_PROGRAM),
        false => std::env::current_exe()?.with_file_name("rescue-https"),
    };
    if std::fs::symlink_metadata(&path).is_err() {
        bail!("this image has no {} (the profile minimal leaves it out)", path.display());
    }
    Ok(path)
}

/// `command` in an environment, and in a folder, that are empty.
///
/// # Errors
/// When no such folder can be made.
pub(super) fn apart(command: &mut Command) -> anyhow::Result<()> {
    let nowhere = ["/run", "/tmp", "/"].iter().find_map(|folder| sandbox::nowhere(Path::new(folder)).ok());
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    spawn::within(command, nowhere.context("making an empty folder")?);
    Ok(())
}

/// Fetches a page: its status and body. `ours`: this machine is the one that is rescued.
///
/// # Errors
/// Whatever was in the way; what is worth trying again is not told apart.
pub(super) fn get(url: &Url, root: &Path, ours: bool) -> anyhow::Result<(u16, Zeroizing<Vec<u8>>)> {
    let mut command = match url.is_https() {
        true => Command::new(program(ours)?),
        false => {
            let mut command = Command::new("/proc/self/exe");
            std::os::unix::process::CommandExt::arg0(&mut command, "rescue")
                .arg(super::sources::COMMAND.name);
            command
        }
    };
    apart(command.arg(FETCH))?;
    let mut child = command.spawn().context("starting the process that fetches it")?;
    let errand = Errand { url: url.to_string(), around: Surroundings::observe(root) };
    let told = child
        .stdin
        .take()
        .map(|mut pipe| pipe.write_all(&serde_json::to_vec(&errand)?).map_err(anyhow::Error::from));
    let Some(out) = child.stdout.take() else { bail!("no pipe to the process that fetches it") };
    let heard = hear(File::from(OwnedFd::from(out)), FETCHING, MAX_DOCUMENT + 4096);
    if heard.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().context("waiting for the process that fetches it")?;
    let heard = Zeroizing::new(heard?);
    if let (Some(Err(error)), true) = (told, heard.is_empty()) {
        return Err(error.context("telling the process that fetches it"));
    }
    let mut parts = heard.splitn(2, |b| *b == b'\n');
    let (head, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match serde_json::from_slice(head) {
        Ok(Outcome::Answered(status)) => Ok((status, Zeroizing::new(body.to_vec()))),
        Ok(Outcome::Failed(why)) => bail!(why),
        Err(_) => bail!("the process that fetches it ended: {status}"),
    }
}

/// The process that fetches: it gives up everything but the network, and asks once.
pub(super) fn fetch(secure: Secure) -> anyhow::Result<()> {
    sandbox::drop_privileges(LIMITS).context("giving up privileges")?;
    let mut json = Vec::new();
    std::io::stdin().take(16 << 20).read_to_end(&mut json)?;
    let Ok(errand) = serde_json::from_slice::<Errand>(&json) else { bail!("not an errand") };
    let answer = Url::parse(&errand.url).map_err(str::to_string).and_then(|url| {
        let headers = [("Accept", "application/json")];
        let request = Request { method: "GET", url: &url, headers: &headers, body: b"" };
        exchange(&errand.around, request, secure, MAX_DOCUMENT)
    });
    let (outcome, body) = match answer {
        Ok(answer) => (Outcome::Answered(answer.status), answer.body),
        Err(why) => (Outcome::Failed(why), Zeroizing::default()),
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &outcome)?;
    out.write_all(b"\n")?;
    out.write_all(&body)?;
    Ok(out.flush()?)
}

/// What `rescue-https` does: fetches, or sends the beacon.
///
/// # Errors
/// When it cannot give up its privileges, or is told no errand.
pub fn run() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some(FETCH) => fetch(tls::secure),
        _ => super::beacon::send(),
    }
}
