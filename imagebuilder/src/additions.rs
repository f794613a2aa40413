//! What the command line adds to a family: packages, files of this machine, a tree laid over the image.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::elf::{self, Needs};
use crate::observe::interpreter;
use crate::spec::{Spec, Tool, Toolset, Word};

/// What was asked for beside a family.
#[derive(Debug, Clone, Default)]
pub(crate) struct Additions {
    /// `--add`: a package, or a path when there is a slash in it.
    pub(crate) add: Vec<String>,
    /// `--module`: globs.
    pub(crate) modules: Vec<String>,
    /// `--overlay`: folders, the later over the earlier.
    pub(crate) overlays: Vec<PathBuf>,
}

/// A file of this machine that goes into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostFile {
    /// Where it is, its permission bits, and what it needs if it is an ELF.
    Regular {
        from: PathBuf,
        mode: u32,
        needs: Option<Needs>,
        /// What it names in its first line, if it is a script.
        script: Option<String>,
    },
    Symlink(String),
    Directory {
        mode: u32,
    },
}

/// Files of this machine by their path in the image, without leading slash.
pub(crate) type HostFiles = BTreeMap<String, HostFile>;

/// Most entries of an overlay.
const MAX_OVERLAY: usize = 100_000;
/// Most bytes of what is added: an image is unpacked into memory.
const MAX_BYTES: u64 = 1 << 30;
/// Where the image keeps programs that were added by path.
pub(crate) const ADDED_PROGRAMS: &str = "usr/local/bin";
/// Where this machine keeps its libraries (ld.so(8)).
const LIBRARY_FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

impl Additions {
    /// Adds packages and modules to what a family wants.
    pub(crate) fn extend(&self, spec: &mut Spec) {
        spec.profile.modules.extend(self.modules.iter().map(|glob| Word::of_option("--module", glob)));
        let tool = |name: &String| Tool {
            name: Word::of_option("--add", name),
            programs: Vec::new(),
            files: Vec::new(),
            plain: false,
            every_program: true,
        };
        let packages: Vec<Tool> = self.add.iter().filter(|name| !name.contains('/')).map(tool).collect();
        if !packages.is_empty() {
            spec.toolsets.push(Toolset {
                name: "--add".into(),
                about: "added on the command line".into(),
                packages,
            });
        }
    }

    /// Files that are added by path: where they go in the image, and what their libraries are here.
    ///
    /// # Errors
    /// A file that cannot be read, or a library that this machine has not.
    pub(crate) fn programs(&self) -> Result<HostFiles> {
        let mut files = HostFiles::new();
        for text in self.add.iter().filter(|name| name.contains('/')) {
            let path = std::fs::canonicalize(text).with_context(|| format!("--add {text}"))?;
            let name = Path::new(text).file_name().and_then(|n| n.to_str());
            let name = name.with_context(|| format!("--add {text}: its name is not UTF-8"))?;
            let file = regular(&path).with_context(|| format!("--add {text}"))?;
            let HostFile::Regular { mode, needs, .. } = &file else { bail!("--add {text}: not a file") };
            ensure!(
                !name.ends_with(".deb"),
                "--add {text}: a package file; unpack it (dpkg-deb -x) into a folder and bring that by --overlay"
            );
            ensure!(mode & 0o111 != 0, "--add {text}: not a program; --overlay brings other files");
            let mut queue: Vec<String> = libraries(needs.as_ref());
            files.insert(format!("{ADDED_PROGRAMS}/{name}"), file);
            while let Some(wanted) = queue.pop() {
                let Some((at, from)) = on_this_machine(&wanted) else {
                    bail!("--add {text}: needs {wanted}, which this machine has not");
                };
                let inside = at.trim_start_matches('/').to_string();
                if files.contains_key(&inside) {
                    continue;
                }
                let file = regular(&from).with_context(|| format!("--add {text}: {at}"))?;
                if let HostFile::Regular { needs, .. } = &file {
                    queue.extend(libraries(needs.as_ref()));
                }
                files.insert(inside, file);
            }
        }
        Ok(files)
    }

    /// What is laid over the image.
    ///
    /// # Errors
    /// What cannot be read, or is neither file, folder nor link.
    pub(crate) fn overlay(&self) -> Result<HostFiles> {
        let (mut files, mut bytes) = (HostFiles::new(), 0);
        for folder in &self.overlays {
            let walked = walk(folder, "", &mut files, &mut bytes);
            walked.with_context(|| format!("--overlay {}", folder.display()))?;
        }
        Ok(files)
    }

    /// Whether the image can be put in this folder: below an overlay, the next image would hold this one.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn check_output(&self, output: &Path) -> Result<()> {
        // A folder that is not there yet lies in one that is.
        let output = std::path::absolute(output)?;
        let there = output.ancestors().find_map(|folder| std::fs::canonicalize(folder).ok());
        for overlay in &self.overlays {
            let inside = std::fs::canonicalize(overlay)
                .is_ok_and(|overlay| there.as_ref().is_some_and(|output| output.starts_with(overlay)));
            ensure!(
                !inside,
                "-o {}: lies in --overlay {}, so that the next image would hold this one; name a folder elsewhere",
                output.display(),
                overlay.display()
            );
        }
        Ok(())
    }
}

fn libraries(needs: Option<&Needs>) -> Vec<String> {
    needs.map(|n| n.loader.iter().chain(&n.libraries).cloned().collect()).unwrap_or_default()
}

/// Where a library (or, by its path, a loader) is: as it is named in the image, and its file here.
fn on_this_machine(name: &str) -> Option<(String, PathBuf)> {
    let places = match name.starts_with('/') {
        true => vec![name.to_string()],
        false => LIBRARY_FOLDERS.iter().map(|folder| format!("{folder}/{name}")).collect(),
    };
    places.into_iter().find_map(|at| Some((at.clone(), std::fs::canonicalize(&at).ok()?)))
}

fn regular(path: &Path) -> Result<HostFile> {
    let data = std::fs::metadata(path)?;
    ensure!(data.is_file(), "{}: not a file", path.display());
    too_large(path, data.len())?;
    let bytes = std::fs::read(path)?;
    let needs = elf::needs(&bytes).with_context(|| format!("{}", path.display()))?;
    // Nothing in the image needs setuid: all its logins are uid 0.
    let script = interpreter(&bytes);
    Ok(HostFile::Regular { from: path.into(), mode: data.permissions().mode() & 0o777, needs, script })
}

fn too_large(path: &Path, bytes: u64) -> Result<()> {
    let most = MAX_BYTES >> 20;
    ensure!(
        bytes <= MAX_BYTES,
        "{}: with it {} MiB are added, at most {most}: an image is unpacked into memory; leave it out",
        path.display(),
        bytes >> 20
    );
    Ok(())
}

fn walk(folder: &Path, below: &str, files: &mut HostFiles, bytes: &mut u64) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().into_string().ok();
        let name = name.with_context(|| format!("{}: its name is not UTF-8", path.display()))?;
        let inside = if below.is_empty() { name } else { format!("{below}/{name}") };
        let data = entry.metadata()?;
        let mode = data.permissions().mode() & 0o1777;
        ensure!(files.len() < MAX_OVERLAY, "over {MAX_OVERLAY} entries");
        ensure!(
            inside != "init" && inside != "etc/rescue/image.json",
            "{}: /{inside} is the rescue's own",
            path.display()
        );
        if data.is_dir() {
            files.insert(inside.clone(), HostFile::Directory { mode });
            walk(&path, &inside, files, bytes)?;
        } else if data.is_symlink() {
            let target = std::fs::read_link(&path)?.into_os_string().into_string().ok();
            let target = target.with_context(|| format!("{}: its target is not UTF-8", path.display()))?;
            files.insert(inside, HostFile::Symlink(target));
        } else if data.is_file() {
            *bytes = bytes.saturating_add(data.len());
            too_large(&path, *bytes)?;
            files.insert(
                inside,
                HostFile::Regular { from: path, mode: mode & 0o777, needs: None, script: None },
            );
        } else {
            bail!("{}: neither a file, a folder nor a symbolic link", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_files_folders_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("etc/cron.d")).unwrap();
        std::fs::write(at("etc/motd"), "x").unwrap();
        std::os::unix::fs::symlink("motd", at("etc/issue")).unwrap();
        let wish = Additions { overlays: vec![folder.path().into()], ..Additions::default() };
        let files = wish.overlay().unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["etc", "etc/cron.d", "etc/issue", "etc/motd"]);
        assert_eq!(files["etc/issue"], HostFile::Symlink("motd".into()));
        std::fs::write(at("init"), "x").unwrap();
        assert!(format!("{:#}", wish.overlay().unwrap_err()).contains("/init is the rescue's own"));
        std::fs::remove_file(at("init")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert!(format!("{:#}", wish.overlay().unwrap_err()).contains("neither a file"));
        std::fs::remove_file(at("socket")).unwrap();
        // Sparse: nothing of it is read.
        std::fs::File::create(at("huge")).unwrap().set_len(MAX_BYTES).unwrap();
        let error = format!("{:#}", wish.overlay().unwrap_err());
        assert!(error.contains("unpacked into memory"), "{error}");
        for inside in ["", ".", "etc", "out", "etc/../not/yet"] {
            let error = wish.check_output(&at(inside)).unwrap_err().to_string();
            assert!(error.contains("lies in --overlay"), "{inside}: {error}");
        }
        wish.check_output(&folder.path().with_extension("beside")).unwrap();
        let gone = Additions { overlays: vec![at("gone")], ..Additions::default() };
        assert!(format!("{:#}", gone.overlay().unwrap_err()).starts_with("--overlay "));
    }

    #[test]
    fn a_program_brings_its_libraries() {
        let wish = |text: &str| Additions { add: vec![text.into()], ..Additions::default() };
        let files = wish("/bin/ls").programs().unwrap();
        assert!(files.contains_key("usr/local/bin/ls"));
        assert!(files.keys().any(|path| path.ends_with("libc.so.6")), "{:?}", files.keys());
        assert!(files.keys().any(|path| path.contains("ld-linux")), "{:?}", files.keys());
        let text = tempfile::NamedTempFile::new().unwrap();
        let error = wish(text.path().to_str().unwrap()).programs().unwrap_err();
        assert!(format!("{error:#}").contains("not a program"));
        assert!(format!("{:#}", wish("./none").programs().unwrap_err()).starts_with("--add ./none: "));
    }
}
