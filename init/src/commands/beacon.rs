//! `rescue beacon`: tells `session.beacon` what has become of the boot, in one signed HTTPS request. What it
//! says is put together and signed by root; what is heard of the network is heard by a second process, which
//! can do nothing but send it.
//!
//! The body is JSON; the header `Rescue-Signature` is its signature by the SSH host key as `ssh-keygen -Y sign
//! -n rescue-beacon` writes it, in base64; `Authorization: Bearer` is `session.beacon.token`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rescue_schema::credentials::{Beacon, MAX_DOCUMENT};
use rescue_schema::manifest::ImageInfo;
use rescue_schema::paths;
use rescue_schema::report::{BootReport, NetReport, StageResult, SystemsReport};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::wrapped::put;
use super::{Command, Usage, https};
use crate::ssh::host_keys;
use crate::sys::files::{read_capped, read_trimmed};
use crate::sys::lines::hear;
use crate::sys::{log, priority, sandbox};
use crate::web::exchange::{Request, Surroundings, exchange};
use crate::web::tls;
use crate::web::url::Url;

/// What the signature is for.
const NAMESPACE: &str = "rescue-beacon";
/// How long looking for systems may take: a dying disk must not keep back the rest.
const LOOKING: Duration = Duration::from_secs(30);
/// Waits between attempts, doubled each time up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How long it is tried.
const TRYING: Duration = Duration::from_secs(3600);
/// Longest answer that is read, in bytes; nothing of it is used.
const MAX_ANSWER: usize = 64 << 10;
/// What the process that sends may use.
const LIMITS: sandbox::Limits = sandbox::Limits { memory: 64 << 20, descriptors: 16 };

pub(super) const COMMAND: Command =
    Command { name: "beacon", links: &[], usage: "[--root DIR]", about: "", run };

/// What the process that sends is told.
#[derive(Serialize, Deserialize)]
struct Errand {
    beacon: Beacon,
    body: String,
    signature: String,
    around: Surroundings,
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let mut root = PathBuf::from("/");
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--root" => root = args.next().ok_or_else(|| Usage("--root wants a folder".into()))?.into(),
            other => return Err(Usage(format!("unknown argument {other:?}")).into()),
        }
    }
    priority::set_nice(10);
    if let Err(error) = prepare(&root).and_then(|errand| dispatch(&errand, root == Path::new("/"))) {
        log::kmsg_error(&format!("rescue: session.beacon: not sent: {error:#}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn prepare(root: &Path) -> anyhow::Result<Errand> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let wishes = zeroize::Zeroizing::new(
        read_capped(&at(paths::BEACON_WISHES), MAX_DOCUMENT)
            .with_context(|| format!("reading {}", paths::BEACON_WISHES))?,
    );
    let Ok(beacon) = serde_json::from_slice::<Beacon>(&wishes) else {
        bail!("{} is not what PID 1 writes", paths::BEACON_WISHES)
    };
    let keys = host_keys::load_or_generate(&at(paths::HOST_KEYS))?;
    let body = body(root).to_string();
    let (signature, _) = host_keys::sign(&keys, NAMESPACE, body.as_bytes())?;
    let mut around = Surroundings::observe(root);
    if let Some(roots) = &beacon.ca {
        around = around.pinned(roots);
    }
    Ok(Errand { beacon, body, signature, around })
}

/// What is said: what this boot has come to.
fn body(root: &Path) -> serde_json::Value {
    let boot: BootReport = state(root, paths::BOOT_REPORT);
    let net: NetReport = state(root, paths::NET_REPORT);
    let image: Option<ImageInfo> = state(root, paths::IMAGE_INFO);
    let failed = boot.stages.iter().filter(|stage| stage.result == StageResult::Failed);
    let failed: Vec<_> = failed.map(|stage| json!({ "stage": stage.name, "why": stage.why })).collect();
    let addresses: Vec<&String> = net.links.iter().flat_map(|link| &link.addresses).collect();
    let systems = systems(root).map(|report| {
        let system = |it: &rescue_schema::report::SystemReport| {
            json!({ "name": it.name, "family": it.family, "pretty_name": it.pretty_name,
                "device": it.device, "sure": it.sure })
        };
        report.systems.iter().map(system).collect::<Vec<_>>()
    });
    json!({
        "version": 1,
        "event": if boot.ready.is_some() { "ready" } else { "failed" },
        "boot": read_trimmed(&root.join("proc/sys/kernel/random/boot_id")),
        "session": boot.session,
        "device": boot.device,
        "family": image.map(|image| image.family),
        "addresses": addresses,
        "ssh": boot.ready.as_ref().map(|ready| &ready.ssh),
        "hostkey": boot.ready.as_ref().map(|ready| &ready.hostkey),
        "logins": boot.logins,
        "closed": boot.closed,
        "failed": failed,
        "systems": systems,
    })
}

fn state<T: serde::de::DeserializeOwned + Default>(root: &Path, path: &str) -> T {
    let json = read_capped(&root.join(path.trim_start_matches('/')), 1 << 20).ok();
    json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// What `rescue systems` finds, in the time that it has.
fn systems(root: &Path) -> Option<SystemsReport> {
    if root != Path::new("/") {
        return None;
    }
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("rescue").args(["systems", "--json"]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let out = std::os::fd::OwnedFd::from(child.stdout.take()?);
    let heard = hear(out.into(), LOOKING, 4 << 20);
    if heard.is_err() {
        let _ = child.kill();
    }
    let _ = child.wait();
    serde_json::from_slice(&heard.ok()?).ok()
}

/// Has it sent, and logs what comes of it.
fn dispatch(errand: &Errand, ours: bool) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(https::program(ours)?);
    https::apart(&mut command)?;
    let mut child = command.spawn().context("starting the process that sends it")?;
    let json = zeroize::Zeroizing::new(serde_json::to_vec(errand)?);
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(&json).context("telling the process that sends it")?;
    }
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out.take(1 << 20)).lines().map_while(Result::ok) {
            match ours {
                true => log::tell("beacon", &line),
                false => put!("{line}\n"),
            }
        }
    }
    let status = child.wait().context("waiting for the process that sends it")?;
    match status.success() {
        true => Ok(()),
        false => bail!("the process that sends it ended: {status}"),
    }
}

/// The process that sends: it reads its errand, gives up everything but the network, and tries.
///
/// # Errors
/// When it cannot give up its privileges, or is told no errand.
pub(super) fn send() -> anyhow::Result<()> {
    sandbox::drop_privileges(LIMITS).context("giving up privileges")?;
    let mut json = zeroize::Zeroizing::new(Vec::new());
    std::io::stdin().take(16 << 20).read_to_end(&mut json)?;
    let Ok(errand) = serde_json::from_slice::<Errand>(&json) else { bail!("not an errand") };
    let url = match Url::parse(&errand.beacon.url) {
        Ok(url) if url.is_https() => url,
        read => {
            let why = read.err().unwrap_or("not an https:// address");
            put!("not sent: session.beacon.url is {why}\n");
            return Ok(());
        }
    };
    let signature = base64(errand.signature.as_bytes());
    let token = errand
        .beacon
        .token
        .as_ref()
        .map(|t| zeroize::Zeroizing::new(format!("Bearer {}", t.expose_secret())));
    let mut headers = vec![("Content-Type", "application/json"), ("Rescue-Signature", signature.as_str())];
    headers.extend(token.as_ref().map(|token| ("Authorization", token.as_str())));
    let until = Instant::now() + TRYING;
    let mut wait = FIRST_WAIT;
    loop {
        let request = Request { method: "POST", url: &url, headers: &headers, body: errand.body.as_bytes() };
        let why = match exchange(&errand.around, request, tls::secure, MAX_ANSWER) {
            Ok(answer) if (200..300).contains(&answer.status) => {
                put!("sent: HTTP {}\n", answer.status);
                return Ok(());
            }
            Ok(answer) if matches!(answer.status, 408 | 425 | 429 | 500..) => {
                format!("HTTP {}", answer.status)
            }
            Ok(answer) => {
                put!("refused: HTTP {}; not sent again\n", answer.status);
                return Ok(());
            }
            Err(why) => why,
        };
        if Instant::now() + wait > until {
            put!("not sent: {why}; given up\n");
            return Ok(());
        }
        put!("not sent: {why}; again in {} s\n", wait.as_secs());
        // There is no event to wait for: the other side comes back unsaid.
        std::thread::sleep(wait);
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// In one line (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_usize {
            let six = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap_or_default();
            text.push(match at > chunk.len() {
                true => '=',
                false => char::from(LETTERS.get(six).copied().unwrap_or(b'=')),
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
