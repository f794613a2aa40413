//! shadow(5): password hashes, or why no password opens an account.

use rescue_schema::Secret;

/// What stands in the second field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Password {
    /// A crypt(5) hash.
    Hash(Secret),
    /// `*`: no password opens the account; a key may.
    None,
    /// `!`: the account is locked, keys included, as OpenSSH reads it.
    Locked,
}

impl Password {
    fn parse(field: &str) -> Self {
        if field.starts_with('!') {
            Self::Locked
        } else if field.is_empty() || field.starts_with('*') {
            // An empty field lets everybody in where PAM's `nullok` is set. Never here.
            Self::None
        } else {
            Self::Hash(Secret::new(field))
        }
    }

    fn field(&self) -> &str {
        match self {
            Self::Hash(hash) if super::is_field(hash.expose_secret()) => hash.expose_secret(),
            Self::None => "*",
            Self::Hash(_) | Self::Locked => "!",
        }
    }
}

/// One line: name and password. Nothing ever ages in a rescue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) password: Password,
}

/// The password of `name`, from the first line that is one; locked when there is none.
pub(super) fn find(database: &[u8], name: &str) -> Password {
    let Ok(text) = std::str::from_utf8(database) else { return Password::Locked };
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    for line in fields.filter(|fields| fields.first() == Some(&name)) {
        // Nine fields (shadow(5)); a short line was cut off, and with it perhaps the hash.
        if let [_, password, _, _, _, _, _, _, _] = line.as_slice() {
            return Password::parse(password);
        }
    }
    Password::Locked
}

/// The database as it is written.
pub(super) fn render(rows: &[Row]) -> zeroize::Zeroizing<String> {
    let length = rows.iter().map(|row| row.name.len() + row.password.field().len() + 16).sum();
    // Sized once: growing would leave copies of the hashes behind.
    let mut text = zeroize::Zeroizing::new(String::with_capacity(length));
    for row in rows.iter().filter(|row| super::is_field(&row.name)) {
        for part in [&row.name, ":", row.password.field(), ":::::::\n"] {
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back() {
        let rows = [
            Row { name: "root".into(), password: Password::Hash(Secret::new("$6$a$b")) },
            Row { name: "admin".into(), password: Password::None },
            Row { name: "sshd".into(), password: Password::Locked },
        ];
        let text = render(&rows);
        assert_eq!(text.as_str(), "root:$6$a$b:::::::\nadmin:*:::::::\nsshd:!:::::::\n");
        for row in &rows {
            assert_eq!(find(text.as_bytes(), &row.name), row.password);
        }
    }

    #[test]
    fn whatever_is_damaged_is_locked_and_empty_opens_nothing() {
        for database in [
            &b""[..],
            b"root",
            b"root:$6$a$b",
            b"root:$6$a$b:1:2:3:4:5:6:7:8",
            b"\xffroot:x:::::::",
            b"toor:x:::::::",
        ] {
            assert_eq!(find(database, "root"), Password::Locked, "{database:?}");
        }
        assert_eq!(find(b"root::::::::", "root"), Password::None);
        assert_eq!(find(b"root:!$6$a$b:::::::", "root"), Password::Locked);
    }

    #[test]
    fn a_hash_that_would_break_its_line_locks() {
        let rows =
            [Row { name: "root".into(), password: Password::Hash(Secret::new("x:::::::\nadmin::::::::")) }];
        assert_eq!(render(&rows).as_str(), "root:!:::::::\n");
        assert!(!format!("{rows:?}").contains("admin"));
    }
}
