//! Windows: by its registry hives, whose SOFTWARE names version, edition and build.

use std::os::fd::BorrowedFd;

use super::regf::{Hive, Value};
use super::{Facts, any_case, plain};
use crate::disk::bytes::Bytes;
use crate::disk::source::Reader;
use crate::sys::inside;

const VERSION: &[&str] = &["Microsoft", "Windows NT", "CurrentVersion"];
/// First build of Windows 11, whose registry still says `Windows 10`.
const ELEVEN: u32 = 22000;

pub(super) fn look(root: BorrowedFd<'_>, top: &[String]) -> Option<Facts> {
    let folder = ["Windows", "WINNT"].into_iter().find(|w| top.iter().any(|n| n.eq_ignore_ascii_case(w)))?;
    let hive = |name| any_case(root, &[folder, "System32", "config", name]);
    let software = hive("SOFTWARE")?;
    let mut found = Facts { family: "windows", id: Some("windows".into()), ..Facts::default() };
    found.evidence.push(format!("its registry {}", software.trim_start_matches('.')));
    match inside::open_file(root, &software) {
        Ok(source) => read_software(&Reader::new(&source, 512), &mut found),
        Err(error) => found.notes.push(format!("reading its registry: {error}")),
    }
    if let Some(Ok(source)) = hive("SYSTEM").map(|path| inside::open_file(root, &path)) {
        read_system(&Reader::new(&source, 512), &mut found);
    }
    let kernel = any_case(root, &[folder, "System32", "ntoskrnl.exe"]);
    if let Some(kernel) = kernel.and_then(|path| inside::head(root, &path, 4096).ok()) {
        found.architecture = machine(&Bytes(kernel));
        found.evidence.push("its kernel ntoskrnl.exe".into());
    }
    let sleeping = any_case(root, &["hiberfil.sys"]).and_then(|path| inside::head(root, &path, 4).ok());
    if let Some(state) = sleeping.as_deref().and_then(hibernated) {
        found.notes.push(state.into());
    }
    let logs = any_case(root, &[folder, "System32", "winevt", "Logs", "System.evtx"]);
    found.last_log = logs.and_then(|path| inside::known(root, &path).ok()).map(|k| k.modified);
    Some(found)
}

/// The head of hiberfil.sys: `hibr` or `HIBR` while an image waits in it; `wake` once it was used; zeros when
/// none is there.
fn hibernated(head: &[u8]) -> Option<&'static str> {
    head.eq_ignore_ascii_case(b"hibr").then_some(
        "hibernated, or shut down with Fast Startup: what is written from here is lost or harms it when it resumes",
    )
}

fn text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::Text(text) => plain(&text),
        Value::Number(number) => Some(number.to_string()),
        Value::Other(..) => None,
    }
}

/// SOFTWARE: what it is.
fn read_software(reader: &Reader<'_>, found: &mut Facts) {
    let hive = match Hive::open(reader) {
        Ok(Some(hive)) => hive,
        Ok(None) => return found.notes.push("its registry SOFTWARE is no hive".into()),
        Err(error) => return found.notes.push(format!("reading its registry: {}", error.0)),
    };
    let ask = |path: &[&str], name: &str| text(hive.value(path, name).ok().flatten());
    let version = |name: &str| ask(VERSION, name);
    found.build = version("CurrentBuildNumber").or_else(|| version("CurrentBuild"));
    let number = found.build.as_deref().and_then(|b| b.parse::<u32>().ok());
    found.pretty_name = version("ProductName").map(|name| match number {
        Some(ELEVEN..) if !name.contains("Server") => name.replacen("Windows 10", "Windows 11", 1),
        _ => name,
    });
    found.edition = version("EditionID");
    found.version =
        version("DisplayVersion").or_else(|| version("ReleaseId")).or_else(|| version("CSDVersion"));
    if let (Some(build), Some(update)) = (&mut found.build, version("UBR")) {
        build.push('.');
        build.push_str(&update);
    }
    found.machine_id = ask(&["Microsoft", "Cryptography"], "MachineGuid");
    if found.pretty_name.is_some() {
        found.evidence.push("ProductName in it".into());
    }
    if hive.dirty {
        found.notes.push("its registry was not written whole: Windows was not shut down cleanly".into());
    }
}

/// SYSTEM: its name.
fn read_system(reader: &Reader<'_>, found: &mut Facts) {
    let Ok(Some(hive)) = Hive::open(reader) else { return };
    let current = match hive.value(&["Select"], "Current") {
        Ok(Some(Value::Number(n @ 1..=999))) => n,
        _ => 1,
    };
    let set = format!("ControlSet{current:03}");
    let path = [set.as_str(), "Control", "ComputerName", "ComputerName"];
    found.hostname = text(hive.value(&path, "ComputerName").ok().flatten());
}

/// The machine of a PE file (PE format, "COFF file header").
fn machine(head: &Bytes) -> Option<String> {
    let at = usize::try_from(head.u32(0x3C)?).ok()?;
    if !head.is(at, b"PE\0\0") {
        return None;
    }
    Some(match head.u16(at.checked_add(4)?)? {
        0x8664 => "x86_64".into(),
        0xAA64 => "aarch64".into(),
        0x14C => "i686".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, tree};

    /// Written by hivex; no hive of Microsoft's own is in this repository.
    const SOFTWARE: &[u8] = include_bytes!("../../../fuzz/corpus/registry/software");

    #[test]
    fn the_registry_names_version_edition_and_build() {
        let root = tree(&[("hiberfil.sys", "HIBR"), ("WINDOWS/system32/Config/x", "")]);
        std::fs::write(root.path().join("WINDOWS/system32/Config/SOFTWARE"), SOFTWARE).unwrap();
        let found = facts(&root).unwrap();
        assert_eq!(found.pretty_name.as_deref(), Some("Windows Server 2022 Standard"));
        assert_eq!(found.edition.as_deref(), Some("ServerStandard"));
        assert_eq!((found.build.as_deref(), found.version.as_deref()), (Some("20348.2113"), Some("21H2")));
        assert_eq!(found.machine_id.as_deref(), Some("3f0e1c52-7d3a-4c0e-9a51-2f4d6b8c9e10"));
        assert!(found.notes.iter().any(|n| n.contains("hibernated")), "{:?}", found.notes);
    }

    #[test]
    fn a_torn_hive_is_still_a_windows() {
        let root = tree(&[("Windows/System32/config/x", "")]);
        for length in [0, 4, 600, 4096, 4200, SOFTWARE.len() - 1] {
            let torn = SOFTWARE.get(..length).unwrap_or(SOFTWARE);
            std::fs::write(root.path().join("Windows/System32/config/SOFTWARE"), torn).unwrap();
            assert_eq!(facts(&root).unwrap().family, "windows");
        }
    }
}
