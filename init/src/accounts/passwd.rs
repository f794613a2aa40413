//! passwd(5): name, ids, home and shell.

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) about: String,
    pub(super) home: String,
    pub(super) shell: String,
}

impl Row {
    pub(super) fn new(name: &str, (uid, gid): (u32, u32), about: &str, home: &str, shell: &str) -> Self {
        let [name, about, home, shell] = [name, about, home, shell].map(String::from);
        Self { name, uid, gid, about, home, shell }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _in_shadow = fields.next()?;
        let ids = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let row = Self::new(name, ids, fields.next()?, fields.next()?, fields.next()?);
        fields.next().is_none().then_some(row)
    }

    /// Absent when a field would break the line.
    fn render(&self) -> Option<String> {
        let fields = [&self.name, &self.about, &self.home, &self.shell];
        fields.iter().all(|field| super::is_field(field)).then(|| {
            format!("{}:x:{}:{}:{}:{}:{}\n", self.name, self.uid, self.gid, self.about, self.home, self.shell)
        })
    }
}

/// Finds `name`: the first line that is one, as getpwnam(3) does.
pub(super) fn find(database: &[u8], name: &str) -> Option<Row> {
    String::from_utf8_lossy(database).lines().filter_map(Row::parse).find(|row| row.name == name)
}

/// The database as it is written.
pub(super) fn render(rows: &[Row]) -> String {
    rows.iter().filter_map(Row::render).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back() {
        let row = Row::new("admin", (0, 0), "Rescue", "/home/admin", "/bin/sh");
        assert_eq!(render(std::slice::from_ref(&row)), "admin:x:0:0:Rescue:/home/admin:/bin/sh\n");
        assert_eq!(find(render(std::slice::from_ref(&row)).as_bytes(), "admin"), Some(row));
    }

    #[test]
    fn garbage_is_nobody() {
        let database = b"\xff\xfe:::\nroot\nroot:x:0\nroot:x:zero:0::/root:/bin/sh\nroot:x:0:0:a:b:c:d\n\
            :x:0:0::/:/bin/sh\nroot:x:0:99999999999::/:/bin/sh\n";
        assert_eq!(find(database, "root"), None);
        assert_eq!(find(database, ""), None);
        assert_eq!(find(b"root:x:0:0::/a:/b\nroot:x:0:0::/c:/d", "root").unwrap().home, "/a");
    }

    #[test]
    fn no_field_breaks_its_line() {
        for bad in ["a:b", "a\nroot", "a\r", "a\0"] {
            assert_eq!(render(&[Row::new(bad, (0, 0), "", "/", "/bin/sh")]), "");
            assert_eq!(render(&[Row::new("x", (0, 0), "", "/", bad)]), "");
        }
    }
}
