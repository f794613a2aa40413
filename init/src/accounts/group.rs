//! group(5): the groups that device nodes and tools know by name.

/// Name, id and member, as Debian numbers them; `sshd` as Fedora does.
const GROUPS: &[(&str, u32)] = &[
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("kmem", 15),
    ("dialout", 20),
    ("cdrom", 24),
    ("floppy", 25),
    ("tape", 26),
    ("sudo", 27),
    ("audio", 29),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("staff", 50),
    ("sshd", 74),
    ("users", 100),
    ("input", 104),
    ("kvm", 105),
    ("render", 106),
    ("nogroup", 65534),
];

/// The database as it is written. Nobody is a member: both logins have uid 0.
pub(super) fn render() -> String {
    GROUPS.iter().map(|(name, gid)| format!("{name}:x:{gid}:\n")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_is_there_once() {
        let text = super::render();
        assert!(text.starts_with("root:x:0:\ndaemon:x:1:\n") && text.ends_with("nogroup:x:65534:\n"));
        let mut ids: Vec<_> = super::GROUPS.iter().map(|g| g.1).collect();
        ids.dedup();
        assert_eq!(ids.len(), super::GROUPS.len());
    }
}
