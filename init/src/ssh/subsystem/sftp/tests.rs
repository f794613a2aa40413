use super::*;

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.string(bytes);
    out.bytes
}

fn packet(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut packet = u32::try_from(body.len() + 1).unwrap().to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend(body);
    packet
}

const INIT: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];

/// The replies, without the greeting: kind and the rest of each.
fn replies(options: Options, requests: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
    let (input, mut output) = ([INIT.to_vec(), requests.concat()].concat(), Vec::new());
    serve(options, &input[..], &mut output).unwrap();
    let (mut rest, mut replies) = (&output[..], Vec::new());
    while let Some(packet) = next(rest).unwrap() {
        replies.push((packet[0], packet[1..].to_vec()));
        rest = &rest[packet.len() + 4..];
    }
    assert!(rest.is_empty());
    assert_eq!(replies.remove(0).0, kind::VERSION);
    replies
}

fn code(reply: &(u8, Vec<u8>)) -> u32 {
    assert_eq!(reply.0, kind::STATUS);
    u32::from_be_bytes(reply.1[4..8].try_into().unwrap())
}

#[test]
fn a_file_is_written_read_and_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("\u{fc}");
    let path = path.to_str().unwrap().as_bytes();
    // The first handle has a known name.
    let handle = string(&[0, 0, 0, 0, 0, 0, 0, 1]);
    let id = [0, 0, 0, 9];
    let got = replies(
        Options::default(),
        &[
            packet(kind::OPEN, &[&id, &string(path), &[0, 0, 0, 0x1b], &[0; 4]]),
            packet(kind::WRITE, &[&id, &handle, &[0, 0, 0, 0, 0, 0, 0, 2], &string(b"abc")]),
            packet(kind::READ, &[&id, &handle, &[0; 8], &[0xff; 4]]),
            packet(kind::READ, &[&id, &handle, &[0, 0, 0, 0, 0, 0, 0, 5], &[0, 0, 1, 0]]),
            packet(kind::READ, &[&id, &handle, &[0xff; 8], &[0, 0, 1, 0]]),
            packet(kind::CLOSE, &[&id, &handle]),
            packet(kind::CLOSE, &[&id, &handle]),
        ],
    );
    assert_eq!(got[0], (kind::HANDLE, [&id[..], &handle].concat()));
    assert_eq!(code(&got[1]), 0);
    assert_eq!(got[2], (kind::DATA, [&id[..], &string(b"\0\0abc")].concat()));
    assert_eq!(code(&got[3]), Code::Eof as u32);
    assert_eq!(code(&got[4]), Code::BadMessage as u32);
    assert_eq!((code(&got[5]), code(&got[6])), (0, Code::Failure as u32));
}

#[test]
fn read_only_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = string(folder.path().join("x").to_str().unwrap().as_bytes());
    let id = [0; 4];
    let options = || Options { read_only: true, ..Options::default() };
    let mut requests = vec![
        packet(kind::OPEN, &[&id, &path, &[0, 0, 0, 0x1a], &[0; 4]]),
        packet(kind::OPEN, &[&id, &path, &[0, 0, 0, 0x09], &[0; 4]]),
        packet(kind::MKDIR, &[&id, &path, &[0; 4]]),
        packet(kind::REMOVE, &[&id, &path]),
        packet(kind::RMDIR, &[&id, &path]),
        packet(kind::RENAME, &[&id, &path, &path]),
        packet(kind::SYMLINK, &[&id, &path, &path]),
        packet(kind::SETSTAT, &[&id, &path, &[0; 4]]),
        packet(kind::FSETSTAT, &[&id, &path, &[0; 4]]),
    ];
    for name in ["posix-rename@openssh.com", "hardlink@openssh.com", "lsetstat@openssh.com", "copy-data"] {
        requests.push(packet(kind::EXTENDED, &[&id, &string(name.as_bytes()), &path, &path]));
    }
    for reply in replies(options(), &requests) {
        assert_eq!(code(&reply), Code::PermissionDenied as u32);
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn what_is_no_request_is_answered_or_ends_it() {
    let id = [0; 4];
    for (request, expected) in [
        (packet(99, &[&id]), Code::Unsupported),
        (packet(kind::OPEN, &[&id, &[0xff; 4]]), Code::BadMessage),
        (packet(kind::STAT, &[&id, &string(b"a\0b")]), Code::BadMessage),
        (packet(kind::STAT, &[&id, &string(b"")]), Code::NoSuchFile),
        (packet(kind::EXTENDED, &[&id, &string(b"no-such@x")]), Code::Unsupported),
        (packet(kind::READDIR, &[&id, &string(&[0; 8])]), Code::Failure),
    ] {
        assert_eq!(code(&replies(Options::default(), &[request])[0]), expected as u32);
    }
    for end in [&[0u8; 4][..], &[0xff; 8], &[0, 4, 0, 1], &[0, 0, 0, 1, 3], INIT] {
        let input = [INIT, end].concat();
        assert!(serve(Options::default(), &input[..], Vec::new()).is_err(), "{end:?}");
    }
    let first = packet(kind::STAT, &[&id, &string(b"/")]);
    assert!(serve(Options::default(), &first[..], Vec::new()).is_err());
}

#[test]
fn handles_are_bounded() {
    let open = || packet(kind::OPEN, &[&[0; 4], &string(b"/dev/null"), &[0, 0, 0, 1], &[0; 4]]);
    let requests: Vec<_> = (0..1100).map(|_| open()).collect();
    let got = replies(Options::default(), &requests);
    assert_eq!((got[0].0, got[1099].0), (kind::HANDLE, kind::STATUS));
}

#[test]
fn changed_requests_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), b"abc").unwrap();
    let path = string(folder.path().to_str().unwrap().as_bytes());
    let id = [0, 0, 0, 1];
    let handle = string(&[0, 0, 0, 0, 0, 0, 0, 1]);
    let stream = [
        INIT.to_vec(),
        packet(kind::OPENDIR, &[&id, &path]),
        packet(kind::READDIR, &[&id, &handle]),
        packet(kind::EXTENDED, &[&id, &string(b"statvfs@openssh.com"), &path]),
        packet(
            kind::EXTENDED,
            &[&id, &string(b"users-groups-by-id@openssh.com"), &string(&id), &string(&id)],
        ),
        packet(kind::LSTAT, &[&id, &path]),
    ]
    .concat();
    for at in 0..stream.len() {
        for bit in [1, 0x80, 0xff] {
            let mut changed = stream.clone();
            changed[at] ^= bit;
            let _ = serve(Options { read_only: true, ..Options::default() }, &changed[..], Vec::new());
            let _ = serve(Options { read_only: true, ..Options::default() }, &stream[..at], Vec::new());
        }
    }
}
