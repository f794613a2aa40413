//! Putting together again, to be written to, what is there read-only: said first, asked for its key, then done.
//! Shared by the verbs that take `--rw`.

use std::path::Path;

use anyhow::{Context, bail};
use rescue_schema::report::BlockReport;

use super::secret::Key;
use crate::disk::assemble::reopen::{self, Aim, Opened, Reopen};
use crate::disk::assemble::{self, Format, Opening, Wish};
use crate::disk::{protection, resolve};
use crate::sys::files::read_trimmed;

/// What has to go, for `targets` to be written to. What is mounted below `folder` is unmounted before.
pub(super) fn plan(
    disks: &[BlockReport],
    targets: &[&str],
    degraded: bool,
    folder: Option<&Path>,
) -> anyhow::Result<Reopen> {
    let gives_way = |mount: &str| folder.is_some_and(|f| Path::new(mount).starts_with(f));
    let aim = Aim {
        targets,
        degraded,
        gives_way: &gives_way,
        held: &protection::is_ours,
        protected: &assemble::is_protected,
    };
    let plan = reopen::plan(disks, &aim);
    if !plan.refused.is_empty() {
        bail!("not put together for writing:\n  {}", plan.refused.join("\n  "));
    }
    Ok(plan)
}

/// Asks for what opens the encrypted volumes of a plan, and tries it, before anything is taken down.
pub(super) fn keys(plan: &Reopen, key: &mut Key) -> anyhow::Result<()> {
    plan.opened.iter().try_for_each(|one| key.prove(opening(one, false)))?;
    plan.keys.iter().try_for_each(|dataset| key.prove(of_dataset(dataset))).with_context(|| {
        match plan.keys.as_slice() {
            [first, _, ..] => format!(
                "where {} have not the same key: rescue umount, rescue unlock --rw {first}, then the others",
                plan.keys.join(" and ")
            ),
            _ => "what is loaded is forgotten when its pool is imported again".into(),
        }
    })
}

fn of_dataset(dataset: &str) -> Opening<'_> {
    Opening { device: dataset, format: Format::Dataset, header: None, write: true }
}

fn opening(one: &Opened, write: bool) -> Opening<'_> {
    Opening { device: &one.device, format: one.format, header: None, write }
}

/// Does it: what is open comes back, or it is said what did not.
pub(super) fn apply(plan: &Reopen, wish: &Wish, key: &mut Key) -> anyhow::Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    let load = |module: &str| drop(crate::modules::load(module));
    assemble::take_down(&plan.names()).context("taking down what is there read-only")?;
    let done = (|| {
        // Layer by layer: an array, what is encrypted on it, the group in that.
        let mut trouble = together(wish)?;
        for dataset in plan.keys.iter().filter(|_| trouble.is_empty()) {
            key.open(of_dataset(dataset), &load)?;
        }
        for one in &plan.opened {
            if !Path::new(&one.device).exists() {
                bail!("{} did not come back: {}", one.device, trouble.join("; "));
            }
            key.open(opening(one, true), &load)?;
            trouble = together(wish)?;
        }
        if !trouble.is_empty() {
            bail!("{}", trouble.join("; "));
        }
        Ok(())
    })();
    let Err(error) = done else { return Ok(()) };
    // As it was.
    let before = Wish { write: assemble::Write::Nothing, ..wish.clone() };
    let _ = together(&before);
    for dataset in &plan.keys {
        // What was loaded before this failed is, and what cannot be is said by `rescue disks`.
        let _ = key.open(of_dataset(dataset), &load);
    }
    for one in &plan.opened {
        let lacks = !crate::sys::dm::node(&one.mapped).exists() && Path::new(&one.device).exists();
        if lacks && key.open(opening(one, false), &load).is_ok() {
            let _ = together(&before);
        }
    }
    let locked: Vec<&str> = plan
        .opened
        .iter()
        .filter(|o| !crate::sys::dm::node(&o.mapped).exists())
        .map(|o| o.device.as_str())
        .collect();
    if locked.is_empty() {
        return Err(error);
    }
    let hint: Vec<String> = locked.iter().map(|device| format!("rescue unlock {device}")).collect();
    bail!("{error:#}; closed now: {}", hint.join(", "))
}

fn together(wish: &Wish) -> anyhow::Result<Vec<String>> {
    Ok(super::assemble::everything(wish, false, None)?.0.trouble)
}

/// Those of `targets` that refuse writes all the same, a sentence each.
pub(super) fn stubborn(targets: &[&str]) -> Vec<String> {
    let refuses = |path: &&&str| {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| Path::new(path).into());
        let number = std::fs::metadata(&real).map(|m| std::os::unix::fs::MetadataExt::rdev(&m)).unwrap_or(0);
        let folder = format!("/sys/dev/block/{}:{}/ro", rustix::fs::major(number), rustix::fs::minor(number));
        read_trimmed(Path::new(&folder)).as_deref() == Some("1") && !protection::is_ours(path)
    };
    let say = |path: &&str| {
        format!(
            "{path} refuses writes, and not because of this rescue: a switch, its hypervisor, or a mapping made by hand"
        )
    };
    targets.iter().filter(refuses).map(say).collect()
}

/// Layers that are there read-only and can be put together again without a key: on or below one of `only`, or all;
/// and, a sentence each, why others cannot.
pub(super) fn closed<'a>(disks: &'a [BlockReport], only: &[String]) -> (Vec<&'a str>, Vec<String>) {
    fn walk<'a>(
        block: &'a BlockReport,
        chosen: bool,
        only: &[String],
        out: &mut (Vec<&'a str>, Vec<String>),
    ) {
        let chosen = chosen || only.contains(&block.path) || only.contains(&format!("/dev/{}", block.name));
        let encrypted = |b: &BlockReport| b.kind == "crypt" && b.read_only;
        let layer = block.kind.starts_with("raid")
            || matches!(block.kind.as_str(), "linear" | "lvm" | "bcache" | "zpool");
        if chosen && encrypted(block) {
            // What is on it goes with it.
            return;
        }
        if chosen && layer && block.read_only && !protection::is_ours(&block.path) {
            let all = resolve::flat(std::slice::from_ref(block));
            if all.iter().any(|b| encrypted(b)) {
                let line = format!("{} holds what is unlocked read-only: rescue unlock --rw {0}", block.path);
                if !out.1.contains(&line) {
                    out.1.push(line);
                }
                return;
            }
            if !out.0.contains(&block.path.as_str()) {
                out.0.push(&block.path);
            }
        }
        block.children.iter().for_each(|c| walk(c, chosen, only, out));
    }
    let mut out = (Vec::new(), Vec::new());
    disks.iter().for_each(|disk| walk(disk, only.is_empty(), only, &mut out));
    out
}
