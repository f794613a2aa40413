//! Two images made of the same inputs have the same bytes.
use crate::image::digest_of_files;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let binaries = lab.bench.binaries()?;
    let (one, two) = (lab.path("one"), lab.path("two"));
    for out in [&one, &two] {
        process::check(&mut binaries.image_command("debian", "minimal", out), limit(120))?;
    }
    for name in ["vmlinuz", "rescue-debian.img", "manifest.json"] {
        let (one, two) = (digest_of_files(&[&one.join(name)])?, digest_of_files(&[&two.join(name)])?);
        assert_eq!(one, two, "{name}");
    }
    for out in [one, two] {
        std::fs::remove_dir_all(out)?;
    }
    Ok(())
}
