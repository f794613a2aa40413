//! `imagebuilder build`: applies a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use rescue_schema::manifest::{Artifact, File, Manifest};
use sha2::{Digest, Sha256};

use crate::additions::Additions;
use crate::cpio::{Kind, Writer};
use crate::kmod::{self, Packing};
use crate::observe::{Content, Facts, KernelSource, Packs, observe};
use crate::output::Output;
use crate::packages::{Cache, hex};
use crate::packed::Kept;
use crate::plan::{Entry, Node, Plan, plan};
use crate::{compress, progress, spec};

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) family: String,
    pub(crate) profile: String,
    pub(crate) kernel: KernelSource,
    pub(crate) additions: Additions,
    /// Where this machine keeps its firmware.
    pub(crate) firmware: PathBuf,
    pub(crate) init: PathBuf,
    pub(crate) output: PathBuf,
}

/// Builds an image and says what it is.
///
/// # Errors
/// Whatever is missing or wrong; no artifact has then changed.
pub(crate) fn build(wish: Wish) -> Result<()> {
    let started = Instant::now();
    let mut spec = spec::find(&wish.family, &wish.profile)?;
    wish.additions.extend(&mut spec);
    let (facts, packs) = observe(&spec, &wish.kernel, &wish.additions, &wish.firmware, wish.init)?;
    let plan = plan(&spec, &facts)?;
    let (kernel, image) = apply(&plan, &facts, &packs, &wish.output)?;
    println!("{plan}");
    for remark in &plan.remarks {
        println!("  {remark}");
    }
    for artifact in [kernel, image] {
        println!(
            "{}: {:.1} MiB",
            wish.output.join(&artifact.name).display(),
            artifact.bytes as f64 / 1_048_576.0
        );
    }
    println!("built in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn apply(plan: &Plan, facts: &Facts, packs: &Packs, folder: &Path) -> Result<(Artifact, Artifact)> {
    // The contents are at hand before the first byte is written, so that nothing that is missing
    // is found out halfway.
    let mut contents: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (path, entry) in &plan.entries {
        if let Node::File(content) = &entry.node {
            contents.insert(path, read(content, packs).with_context(|| format!("/{path}"))?);
        }
    }
    pack(plan, packs, &mut contents)?;
    let vmlinuz = read(&plan.vmlinuz, packs).context("kernel")?;
    let total: u64 = contents.values().map(|c| c.len() as u64).sum();
    let mut output = Output::new(folder, total / 2 + vmlinuz.len() as u64)?;
    output.file("vmlinuz", 0o644, |file| Ok(file.write_all(&vmlinuz)?))?;
    let kernel = Artifact {
        name: "vmlinuz".into(),
        bytes: vmlinuz.len() as u64,
        sha256: hex(&Sha256::digest(&vmlinuz)),
    };
    let name = format!("rescue-{}.img", plan.info.family);
    let bar = progress::bytes("compressing", total);
    let (digest, bytes, unpacked) = output.file(&name, 0o644, |file| {
        let sink = Digesting { out: BufWriter::new(file), digest: Sha256::new(), bytes: 0 };
        let mut archive = Writer::new(compress::encoder(sink)?);
        for (path, entry) in &plan.entries {
            let content = contents.get(path.as_str()).map(Vec::as_slice).unwrap_or_default();
            archive.entry(path, entry.mode, kind(entry, content))?;
            bar.inc(content.len() as u64);
        }
        let (encoder, unpacked) = archive.finish()?;
        let mut sink = encoder.finish()?;
        // The kernel looks for the next archive (device.cpio) at a multiple of four and skips the
        // NULs before it.
        let over = (sink.bytes % 4) as usize;
        if over != 0 {
            sink.write_all(&[0; 4][over..])?;
        }
        sink.flush()?;
        Ok((sink.digest.finalize(), sink.bytes, unpacked))
    })?;
    bar.finish_and_clear();
    let image = Artifact { name, bytes, sha256: hex(&digest) };
    let origins: BTreeSet<&str> =
        plan.entries.values().map(|e| e.origin.split('=').next().unwrap_or_default()).collect();
    let manifest = Manifest {
        version: 1,
        image: plan.info.clone(),
        kernel: kernel.clone(),
        initramfs: image.clone(),
        unpacked_bytes: unpacked,
        packages: facts
            .resolved
            .values()
            .filter(|p| {
                origins.contains(p.name.as_str())
                    || facts.kernel.origin == format!("{}={}", p.name, p.version)
            })
            .map(|p| rescue_schema::manifest::Package {
                name: p.name.clone(),
                version: p.version.clone(),
                sha256: p.sha256.clone(),
            })
            .collect(),
        files: plan
            .entries
            .iter()
            .map(|(path, entry)| row(path, entry, contents.get(path.as_str())))
            .collect(),
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    output.file("manifest.json", 0o644, |file| Ok(file.write_all(&text)?))?;
    output.commit()?;
    Ok((kernel, image))
}

/// Packs what is packed in the image and not kept from another build, on every core.
fn pack<'a>(plan: &'a Plan, packs: &Packs, contents: &mut BTreeMap<&'a str, Vec<u8>>) -> Result<()> {
    let files: Vec<(&str, &Content)> = (plan.entries.iter())
        .filter_map(|(path, entry)| match &entry.node {
            Node::Zstd(content) => Some((path.as_str(), content)),
            _ => None,
        })
        .collect();
    let kept = kept(plan)?;
    let bar = progress::files("packing", files.len() as u64);
    let files = std::sync::Mutex::new(files.into_iter());
    let next = || files.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let work = || -> Result<Vec<(&str, Vec<u8>)>> {
        let mut made = Vec::new();
        while let Some((path, content)) = next() {
            made.push((path, kept.packed(content, packs).with_context(|| format!("/{path}"))?));
            bar.inc(1);
        }
        Ok(made)
    };
    let made = std::thread::scope(|scope| -> Result<Vec<_>> {
        let workers: Vec<_> = (0..compress::workers()).map(|_| scope.spawn(work)).collect();
        let made = workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("packing failed"))?);
        made.collect()
    })?;
    bar.finish_and_clear();
    contents.extend(made.into_iter().flatten());
    Ok(())
}

/// Bytes of a content.
///
/// # Errors
/// When it is not there.
pub(crate) fn read(content: &Content, packs: &Packs) -> Result<Vec<u8>> {
    match content {
        Content::Inline(bytes) => Ok(bytes.clone()),
        Content::Host(path, packing) => {
            let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            kmod::unpack(*packing, bytes).with_context(|| format!("unpacking {}", path.display()))
        }
        Content::Packed { package, path } => {
            packs.get(package).with_context(|| format!("package {package}"))?.read(path)
        }
    }
}

/// Bytes of a content that goes in as it is.
///
/// # Errors
/// When it is not there.
pub(crate) fn size(content: &Content, packs: &Packs) -> Result<u64> {
    Ok(match content {
        Content::Inline(bytes) => bytes.len() as u64,
        Content::Host(path, Packing::Plain) => std::fs::metadata(path)?.len(),
        Content::Host(..) => read(content, packs)?.len() as u64,
        Content::Packed { package, path } => {
            packs.get(package).with_context(|| format!("package {package}"))?.size(path)?
        }
    })
}

/// Bytes of a content that is packed in the image.
///
/// # Errors
/// As [`size`].
pub(crate) fn packed_size(content: &Content, packs: &Packs, kept: &Kept) -> Result<u64> {
    Ok(kept.packed(content, packs)?.len() as u64)
}

fn kind<'a>(entry: &'a Entry, content: &'a [u8]) -> Kind<'a> {
    match &entry.node {
        Node::Directory => Kind::Directory,
        Node::File(_) | Node::Zstd(_) => Kind::File(content),
        Node::Symlink(target) => Kind::Symlink(target),
        Node::CharDevice(major, minor) => Kind::CharDevice(*major, *minor),
    }
}

/// Where what is packed is kept from build to build.
///
/// # Errors
/// Those of the cache.
pub(crate) fn kept(plan: &Plan) -> Result<Kept> {
    Ok(Kept::new(Cache::open()?.folder("packed")?, plan.pack_level))
}

fn row(path: &str, entry: &Entry, content: Option<&Vec<u8>>) -> File {
    let type_bits = match entry.node {
        Node::Directory => 0o040_000,
        Node::File(_) | Node::Zstd(_) => 0o100_000,
        Node::Symlink(_) => 0o120_000,
        Node::CharDevice(..) => 0o020_000,
    };
    File {
        path: format!("/{path}"),
        mode: format!("{:06o}", type_bits | entry.mode),
        bytes: content.map_or(0, |c| c.len() as u64),
        sha256: content.map(|c| hex(&Sha256::digest(c))),
        target: match &entry.node {
            Node::Symlink(target) => Some(target.clone()),
            _ => None,
        },
        origin: entry.origin.clone(),
    }
}

struct Digesting<W> {
    out: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
