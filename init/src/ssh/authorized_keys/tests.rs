use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ a comment";

fn options(text: &str) -> Options {
    parse(&format!("{text} {KEY}")).unwrap().unwrap().options
}

#[test]
fn a_plain_line_is_unrestricted() {
    let entry = parse(KEY).unwrap().unwrap();
    assert_eq!(entry.options, Options::default());
    assert_eq!(parse("  # a comment"), Ok(None));
    assert_eq!(parse(" \t "), Ok(None));
    assert_eq!(parse(&format!("  {KEY}\r\n")).unwrap().unwrap().key, entry.key);
}

#[test]
fn options_are_honoured() {
    let it = options(r#"restrict,pty,command="echo \"a b\", \\x""#);
    assert_eq!(it.command.as_deref(), Some(r#"echo "a b", \\x"#));
    assert!(it.pty && !it.port_forwarding && !it.agent_forwarding);
    let it =
        options(r#"restrict,port-forwarding,permitopen="DB:22",permitopen="[::1]:*",permitlisten="8080""#);
    assert!(it.may_open("db", 22) && it.may_open("::1", 9) && it.may_listen("localhost", 8080));
    assert!(!it.may_open("db", 23) && !it.may_open("db2", 22) && !it.may_listen("", 80));
    assert!(!it.may_open_unix() && !it.may_listen_unix() && !it.agent_forwarding);
    assert!(
        options("no-agent-forwarding").may_open_unix() && !options("no-port-forwarding").may_open("a", 1)
    );
    assert!(!options("NO-PTY").pty);
    let it = options(r#"expiry-time="20200101""#);
    assert_eq!(it.expires, Some(1_577_836_800));
    assert!(!it.admit("10.0.0.1".parse().unwrap(), 1_577_836_800));
    assert_eq!(options(r#"expiry-time="20240229123005Z""#).expires, Some(1_709_209_805));
    let it = options(r#"from="10.0.0.0/8,192.168.1.?,!10.9.0.0/16,2001:db8::/32""#);
    for (address, admitted) in [
        ("10.1.2.3", true),
        ("10.9.2.3", false),
        ("::ffff:10.1.2.3", true),
        ("192.168.1.7", true),
        ("192.168.1.77", false),
        ("2001:db8::1", true),
        ("2001:db9::1", false),
    ] {
        assert_eq!(it.admit(address.parse().unwrap(), 0), admitted, "{address}");
    }
    assert!(options(r#"from="0.0.0.0/0""#).admit("1.2.3.4".parse().unwrap(), 0));
    assert!(!options(r#"from="0.0.0.0/33""#).admit("1.2.3.4".parse().unwrap(), 0));
    assert!(!options(r#"from="host.example""#).admit("1.2.3.4".parse().unwrap(), 0));
}

#[test]
fn authorities_security_keys_and_what_both_sides_allow() {
    let entry = |text: &str| parse(&format!("{text} {KEY}")).unwrap().unwrap();
    assert_eq!(entry("cert-authority").authority, Some(vec![]));
    let names = entry(r#"cert-authority,principals="a, b",no-touch-required"#);
    assert_eq!(names.authority, Some(vec!["a".into(), "b".into()]));
    assert!(!names.options.touch && !names.options.verification);
    assert!(options("verify-required").verification && options("pty").touch);
    assert_eq!(options(r#"environment="LD_PRELOAD=x""#), Options::default());
    let one = options(r#"command="a",permitopen="x:1""#);
    assert_eq!(one.clone().and(Options { command: Some("b".into()), ..Options::default() }), None);
    let both = one.and(Options::nothing()).unwrap();
    assert!(!both.pty && !both.port_forwarding && both.command.as_deref() == Some("a"));
    assert_eq!(both.permit_open.len(), 1);
}

#[test]
fn what_is_not_implemented_is_refused() {
    for bad in [
        r#"permitopen="a""#,
        r#"permitopen="a:0""#,
        r#"permitopen="a:70000""#,
        r#"permitopen="::1:22""#,
        r#"permitopen=":22""#,
        r#"permitlisten="localhost""#,
        r#"principals="root""#,
        r#"cert-authority,principals="""#,
        "environment",
        r#"tunnel="1""#,
        "no-such-option",
        r#"restrict,command="a",command="b""#,
        r#"command="unterminated"#,
        "command=unquoted",
        r#"command="a"b"c""#,
        "command",
        "restrict=\"yes\"",
        ",",
        "restrict,,pty",
        "restrict,",
        r#"from="""#,
        r#"from="10.0.0.1,""#,
        r#"expiry-time="20201301""#,
        r#"expiry-time="soon""#,
        r#"expiry-time="2020010１""#,
        "=",
        "\"",
        "\\",
    ] {
        assert!(parse(&format!("{bad} {KEY}")).is_err(), "{bad}");
    }
}

#[test]
fn what_opens_nothing_is_numbered() {
    let cut = KEY.split_at(50).0.to_string();
    let lines = [KEY.into(), cut, "# a comment".into(), format!("colour=\"red\" {KEY}")];
    let numbers: Vec<usize> = refused(&lines).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [2, 4]);
}

#[test]
fn hostile_lines_are_errors_and_fast() {
    let long = "a".repeat(MAX_LINE + 1);
    let stars = format!(r#"from="{}x" {KEY}"#, "*a".repeat(2000));
    let start = std::time::Instant::now();
    for line in [
        long.as_str(),
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA/////w==",
        "ssh-ed25519\0 AAAA",
        "\u{feff}ssh-ed25519 AAAA",
        "é é é",
    ] {
        assert!(parse(line).is_err(), "{line:.40}");
    }
    let entry = parse(&stars).unwrap().unwrap();
    assert!(!entry.options.admit("255.255.255.255".parse().unwrap(), 0));
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn no_prefix_or_change_of_a_line_panics_or_loosens_it() {
    let line = format!(r#"restrict,command="a b\"c",from="10.0.0.0/8" {KEY}"#);
    for end in 0..line.len() {
        let _ = parse(&line[..end]);
    }
    for at in 0..r#"restrict,command="a b\"c",from="10.0.0.0/8""#.len() {
        for byte in [b' ', b',', b'"', b'\\', b'=', b'x', 0] {
            let mut bytes = line.clone().into_bytes();
            bytes[at] = byte;
            if let Ok(Some(entry)) = parse(std::str::from_utf8(&bytes).unwrap()) {
                assert_ne!(entry.options, Options::default(), "{at} {byte}");
            }
        }
    }
}
