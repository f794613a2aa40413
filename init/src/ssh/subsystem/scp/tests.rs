use super::*;

#[test]
fn names_that_climb_and_sizes_that_are_none_are_refused() {
    assert_eq!(Thing::parse(b"0644 3 a b").unwrap().name, "a b");
    for bad in [
        &b"0644 3 .."[..],
        b"0644 3 .",
        b"0644 3 a/b",
        b"0644 3 /etc/passwd",
        b"0644 3 ",
        b"0644 3",
        b"0644 -1 a",
        b"0644 99999999999999999999 a",
        b"0644 18446744073709551615 a",
        b"10644 3 a",
        b"09 3 a",
        b"",
    ] {
        assert_eq!(Thing::parse(bad), None, "{}", String::from_utf8_lossy(bad));
    }
    assert_eq!(Times::parse(b"7 0 9 0"), Some(Times { changed: 7, accessed: 9 }));
    for bad in [&b"7 0 9"[..], b"7 0 9 0 0", b"-7 0 9 0", b"18446744073709551615 0 9 0"] {
        assert_eq!(Times::parse(bad), None);
    }
}

fn feed(options: Options, target: &Path, input: &[u8]) -> (io::Result<bool>, Vec<u8>) {
    let mut output = Vec::new();
    (receive(options, target, input, &mut output), output)
}

#[test]
fn a_hostile_sender_writes_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("in");
    std::fs::create_dir(&inside).unwrap();
    let all = Options { recursive: true, preserve: true, folder: false };
    for input in [
        &b"C0644 1 ../x\nx\0"[..],
        b"D0755 0 ..\nC0644 1 x\nx\0E\n",
        b"D0755 0 a/../..\nE\n",
        b"E\n",
        b"C0644 5 x\nx",
        b"X\n",
        b"T1\n",
    ] {
        let (result, _) = feed(all.clone(), &inside, input);
        assert!(result.is_err(), "{}", String::from_utf8_lossy(input));
    }
    assert!(feed(Options::default(), &inside, b"D0755 0 a\nE\n").0.is_err());
    assert!(feed(all.clone(), &inside, &[b'C'; 5000]).0.is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let deep = "D0755 0 a\n".repeat(MAX_DEPTH + 1);
    assert!(feed(all, &inside, deep.as_bytes()).0.is_err());
}

#[test]
fn a_file_that_cannot_be_written_is_said_and_the_next_one_comes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    let (result, said) = feed(Options::default(), folder.path(), b"C0644 1 a\nC0600 2 b\nyz\0");
    assert!(!result.unwrap());
    assert!(String::from_utf8_lossy(&said).contains("a: Is a directory\n"));
    assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"yz");
}
