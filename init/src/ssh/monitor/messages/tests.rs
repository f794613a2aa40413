use super::*;

fn start() -> Request {
    Request::Start {
        what: What::Command(b"echo \xff".to_vec()),
        terminal: Some(Terminal {
            name: "xterm".into(),
            size: pty::Size { columns: 80, rows: 24, width: 0, height: 0 },
            modes: vec![(1, 3), (53, 1)],
        }),
        agent: true,
        environment: List(vec![("LANG".into(), "C".into())]),
    }
}

#[test]
fn what_is_written_is_read_and_nothing_else_is() {
    let whole = start().encode();
    reread(&whole);
    assert!(matches!(Request::decode(&whole), Some(Request::Start { environment, .. })
        if environment.0 == [("LANG".to_string(), "C".to_string())]));
    for end in 0..whole.len() {
        assert!(Request::decode(&whole[..end]).is_none(), "{end}");
    }
    assert!(Request::decode(&[&whole[..], &[0]].concat()).is_none());
    assert!(Request::decode(&[0]).is_none() && Request::decode(&[200]).is_none());
}

#[test]
fn sockets_are_asked_for_in_one_way() {
    let address: SocketAddr = "[fe80::1%3]:22".parse().unwrap();
    for what in [
        Open::Connect { host: "a".into(), address },
        Open::ConnectUnix("/a".into()),
        Open::Ask("192.0.2.1:53".parse().unwrap()),
        Open::Listen { host: String::new(), address: "[::]:0".parse().unwrap() },
        Open::ListenUnix("/b".into()),
        Open::Agent,
    ] {
        let bytes = Request::Open { what: what.clone() }.encode();
        reread(&bytes);
        assert!(matches!(Request::decode(&bytes), Some(Request::Open { what: read }) if read == what));
    }
    let mut odd = vec![10, 2, 0, 0, 0, 14];
    odd.extend(b"192.0.2.001:53");
    assert!(Request::decode(&odd).is_none());
}

#[test]
fn who_has_come_is_told() {
    for to in [None, Some("127.0.0.1:8080".to_string())] {
        let from = to.is_some().then(|| "[::1]:5".parse().unwrap());
        let bytes = Request::Came { to: to.clone(), from }.encode();
        reread(&bytes);
        assert!(matches!(Request::decode(&bytes),
            Some(Request::Came { to: name, from: whom }) if name == to && whom == from));
    }
}

#[test]
fn the_seeds_of_the_fuzzer_are_messages_of_today() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/monitor");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        let request = Request::decode(&bytes).map(|request| request.name());
        let reply = Reply::decode(&bytes).map(|reply| reply.name());
        names.extend([request, reply].into_iter().flatten());
        assert!(request.is_some() || reply.is_some(), "{}", entry.path().display());
    }
    for expected in ["Sign", "PublicKey", "Password", "Start", "Open", "Came", "Started"] {
        assert!(names.contains(&expected), "{expected}: {names:?}");
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    // A name of 4 GiB; a list of 4 billion; a message over the limit.
    assert!(Request::decode(&[2, 255, 255, 255, 255, 1]).is_none());
    assert!(Reply::decode(&[1, 255, 255, 255, 255]).is_none());
    let request = Request::Password { user: String::new(), password: vec![0; MAX_MESSAGE].into() };
    assert!(Request::decode(&request.encode()).is_none());
}

#[test]
fn an_end_is_told() {
    for end in [Ended::Exit(42), Ended::Signal(15, true)] {
        let mut bytes = Vec::new();
        end.put(&mut bytes);
        assert_eq!(Ended::decode(&bytes), Some(end));
    }
    assert_eq!(Ended::decode(&[]), None);
}
