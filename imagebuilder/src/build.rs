//! `imagebuilder build`: applies a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use rescue_schema::manifest::{Artifact, File, Manifest};
use sha2::{Digest, Sha256};

use crate::additions::Additions;
use crate::cpio::{Kind, Writer, padding};
use crate::image::{Entry, Node};
use crate::kmod::{self, Packing};
use crate::observe::{Content, Facts, KernelSource, Packs, observe};
use crate::output::{KERNEL, Output};
use crate::packages::{Cache, hex};
use crate::packed::Kept;
use crate::plan::{Plan, plan};
use crate::segments::{Segment, segments};
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
    wish.additions.check_output(&wish.output)?;
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
    // All is at hand before the first byte is written, so that nothing that is missing is found out
    // halfway.
    let kept = kept(plan)?;
    let contents = contents(plan, packs, &kept)?;
    let bytes_of = |path: &str| contents.get(path).map_or(0, |content| content.len() as u64);
    let segments = segments(plan, bytes_of);
    let bar = progress::files("compressing", segments.len() as u64);
    let mut made = compress::on_every_core(segments.iter().enumerate(), |(number, segment)| {
        let archive = archive(plan, segment, &contents)?;
        let unpacked = archive.len() as u64;
        let stored = if segment.compressed { kept.packed_bytes(archive)? } else { archive };
        let rows = segment.entries.iter().map(|(path, entry)| row(path, entry, contents.get(path)));
        let rows: Vec<File> = rows.collect();
        bar.inc(1);
        Ok((number, stored, unpacked, rows))
    })?;
    bar.finish_and_clear();
    kept.forget_old();
    made.sort_by_key(|(number, ..)| *number);
    let vmlinuz = read(&plan.vmlinuz, packs).context("kernel")?;
    let total: usize = made.iter().map(|(_, stored, ..)| stored.len()).sum();
    let mut output = Output::new(folder, (total + vmlinuz.len()) as u64)?;
    let name = format!("rescue-{}.img", plan.info.family);
    output.check_neighbours(&name, &vmlinuz)?;
    output.file(KERNEL, 0o644, |file| Ok(file.write_all(&vmlinuz)?))?;
    let kernel =
        Artifact { name: KERNEL.into(), bytes: vmlinuz.len() as u64, sha256: hex(&Sha256::digest(&vmlinuz)) };
    let image = output.file(&name, 0o644, |file| {
        let mut sink = Digesting { out: BufWriter::new(file), digest: Sha256::new(), bytes: 0 };
        for (segment, (_, stored, ..)) in segments.iter().zip(&made) {
            if !segment.compressed {
                sink.pad()?;
            }
            sink.write_all(stored)?;
        }
        sink.pad()?;
        sink.flush()?;
        Ok(Artifact { name: name.clone(), bytes: sink.bytes, sha256: hex(&sink.digest.finalize()) })
    })?;
    let unpacked_bytes = made.iter().map(|(_, _, unpacked, _)| unpacked).sum();
    let mut files: Vec<File> = made.into_iter().flat_map(|(_, _, _, rows)| rows).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let origins: BTreeSet<&str> =
        plan.entries.values().map(|e| e.origin.split('=').next().unwrap_or_default()).collect();
    let manifest = Manifest {
        version: 1,
        image: plan.info.clone(),
        kernel: kernel.clone(),
        initramfs: image.clone(),
        unpacked_bytes,
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
        files,
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    output.file("manifest.json", 0o644, |file| Ok(file.write_all(&text)?))?;
    output.commit()?;
    Ok((kernel, image))
}

/// What each file of the image holds there: packed, if it is packed in it.
fn contents<'a>(plan: &'a Plan, packs: &Packs, kept: &Kept) -> Result<BTreeMap<&'a str, Vec<u8>>> {
    let packed = plan.entries.values().filter(|entry| matches!(entry.node, Node::Zstd(_))).count();
    let bar = progress::files("packing", packed as u64);
    let found = compress::on_every_core(&plan.entries, |(path, entry)| {
        let content = match &entry.node {
            Node::File(content) => read(content, packs),
            Node::Zstd(content) => kept.packed(content, packs).inspect(|_| bar.inc(1)),
            Node::Directory | Node::Symlink(_) | Node::CharDevice(..) => return Ok(None),
        };
        Ok(Some((path.as_str(), content.with_context(|| format!("/{path}"))?)))
    })?;
    bar.finish_and_clear();
    Ok(found.into_iter().flatten().collect())
}

/// A segment as an archive, uncompressed.
fn archive(plan: &Plan, segment: &Segment<'_>, contents: &BTreeMap<&str, Vec<u8>>) -> Result<Vec<u8>> {
    let directories = plan.entries.iter().filter(|(_, entry)| entry.node == Node::Directory);
    let directories = directories.map(|(path, _)| path.clone()).collect();
    let mut writer = Writer::behind(Vec::new(), directories);
    for (path, entry) in &segment.entries {
        let content = contents.get(path).map(Vec::as_slice).unwrap_or_default();
        writer.entry(path, entry.mode, kind(entry, content))?;
    }
    Ok(writer.finish()?.0)
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

impl<W: Write> Digesting<W> {
    /// The kernel looks for an archive that is not compressed (`device.cpio` is one) at a multiple of four, and
    /// skips the NULs before it.
    fn pad(&mut self) -> std::io::Result<()> {
        self.write_all(padding(self.bytes))
    }
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
