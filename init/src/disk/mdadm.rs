//! mdadm.conf(5), as bytes from a disk that is not to be trusted: by which nodes a system calls its arrays. Here they
//! have the numbers that were free.

/// Most lines that are read.
const LINES: usize = 1024;

/// A line of an array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Array {
    /// Its node as [`plainly`] writes it; empty where the line gives none.
    pub node: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its name in the superblocks.
    pub name: Option<String>,
}

/// The arrays that it names.
pub fn parse(config: &[u8]) -> Vec<Array> {
    let text = String::from_utf8_lossy(config);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().take(LINES) {
        let bare = line.split('#').next().unwrap_or_default();
        match lines.last_mut() {
            // What begins with a space goes on with the line before.
            Some(last) if line.starts_with([' ', '\t']) => last.push_str(bare),
            _ => lines.push(bare.into()),
        }
    }
    let of = |line: &String| {
        let mut words = line.split_ascii_whitespace();
        if !words.next()?.eq_ignore_ascii_case("array") {
            return None;
        }
        let mut array = Array::default();
        for word in words {
            match word.split_once('=') {
                None => array.node = plainly(word),
                Some((key, value)) if key.eq_ignore_ascii_case("uuid") => array.uuid = Some(value.into()),
                Some((key, value)) if key.eq_ignore_ascii_case("name") => {
                    array.name = Some(value.replace('"', ""));
                }
                Some(_) => {}
            }
        }
        Some(array)
    };
    lines.iter().filter_map(of).collect()
}

/// A node of an array without its folder: `/dev/md0` and `/dev/md/0` are `0`, `/dev/md/root` is `root`.
pub fn plainly(node: &str) -> String {
    let name = node.strip_prefix("/dev/").unwrap_or(node);
    let name = name.strip_prefix("md/").unwrap_or(name);
    let number = name.strip_prefix("md_d").or(name.strip_prefix("md")).unwrap_or(name);
    if number.parse::<u32>().is_ok() { number.into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_named_by_what_their_lines_say() {
        let text =
            b"# ARRAY /dev/md9 UUID=x\nMAILADDR root\nARRAY /dev/md/0 metadata=1.2 UUID=aa:bb name=db7:0\n\
            array /dev/md127\n  uuid=cc:dd # its own\nARRAY <ignore> UUID=ee\nARRAY name=db7:home\n";
        let found = parse(text);
        let shown: Vec<_> =
            found.iter().map(|a| (a.node.as_str(), a.uuid.as_deref(), a.name.as_deref())).collect();
        assert_eq!(
            shown,
            [
                ("0", Some("aa:bb"), Some("db7:0")),
                ("127", Some("cc:dd"), None),
                ("<ignore>", Some("ee"), None),
                ("", None, Some("db7:home")),
            ]
        );
        assert!(parse(&b"ARRAY /dev/md0\n".repeat(9999)).len() <= LINES);
        assert!(parse(b"\xff ARRAY\n\n#\n ARRAY_\tx=\n").is_empty());
    }
}
