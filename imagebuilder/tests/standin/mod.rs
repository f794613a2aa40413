//! What stands for the rescue and for the programs that are built beside it, where this package alone is
//! tested: any static program may, and the builder is one.

/// The path of what stands for the rescue.
pub(crate) fn standin() -> String {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("standin");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["rescue", "rescue-https"] {
        let (link, builder) = (folder.join(name), std::path::Path::new(env!("CARGO_BIN_EXE_imagebuilder")));
        // A folder that was copied from elsewhere has links that lead there.
        if std::fs::read_link(&link).is_ok_and(|target| target != builder) {
            let _ = std::fs::remove_file(&link);
        }
        // Another test was first.
        let _ = std::os::unix::fs::symlink(builder, link);
    }
    folder.join("rescue").to_str().unwrap().to_string()
}
