//! What says who may enter, in the words of others. Whatever is taken is valid, and nothing that is said about
//! it could move a terminal.

use std::io;

use init::creds::media::{self, Kind, Medium, drive};
use init::creds::merge::merge;
use init::creds::metadata::hints::Routes;
use init::creds::metadata::talk::{LONG_PAGE, Seen, Stop};
use init::creds::metadata::{DIALECTS, WELL_KNOWN};
use init::creds::part::Part;
use init::creds::systemd::{Credentials, translate};
use init::creds::translate::{
    azure, cloud_config as config, digitalocean, equinix, gce, hetzner, ibm, openstack, oracle, scaleway,
    softlayer,
};
use init::creds::{SMBIOS, Said, command_line, device_url, guestinfo, smbios as table};
use init::disk::source::Source;
use init::sys::cmdline::Cmdline;
use init::web::http::{Answer, Reader, date};
use init::web::url::Url;
use rescue_schema::report::CredentialState;

use super::sparse::Sparse;

/// A part goes the way of all parts.
fn check(part: Part) {
    let said = Said::found(SMBIOS, "somewhere", part.document, part.remarks);
    assert!(said.remarks.iter().chain([&said.text]).all(|line| !line.contains(char::is_control)));
    let again = said.clone().checked();
    assert_eq!(again, said);
    let session = merge(&[said]);
    session.document.validate_translated().expect("merged, then not valid");
    assert_eq!(session.closed().is_none(), !session.document.logins.is_empty());
}

pub(crate) fn smbios(data: &[u8]) {
    let found = table::parse(data);
    assert!(found.oem.iter().map(Vec::len).sum::<usize>() <= data.len());
    let mut credentials = Credentials::default();
    if found.oem.iter().all(|string| credentials.add_string(string).is_ok())
        && let Ok(part) = translate(&credentials)
    {
        check(part);
    }
}

/// A string a line; the same bytes as a command line.
pub(crate) fn credentials(data: &[u8]) {
    let mut credentials = Credentials::default();
    for line in data.split(|b| *b == b'\n') {
        let _ = credentials.add_string(line);
    }
    if let Ok(part) = translate(&credentials) {
        check(part);
    }
    check(command_line::read(&Cmdline::parse(data)));
}

pub(crate) fn openstack_meta(data: &[u8]) {
    if let Ok(part) = openstack::meta_data(data) {
        check(part);
    }
}

/// As user-data and as meta-data.
pub(crate) fn cloud_config(data: &[u8]) {
    for part in [config::user_data(data), config::meta_data(data)].into_iter().flatten() {
        check(part);
    }
}

pub(crate) fn ibm_vendor(data: &[u8]) {
    if let Ok(part) = ibm::vendor_data(data) {
        check(part);
    }
}

/// The documents of clouds that have one alone, whichever it is.
pub(crate) fn cloud(data: &[u8]) {
    let translators = [
        |data: &[u8]| gce::document(data, 1_717_200_000),
        azure::instance,
        oracle::instance,
        digitalocean::droplet,
        hetzner::metadata,
        |bytes: &[u8]| softlayer::metadata(&[b"1".to_vec(), bytes.to_vec(), Vec::new(), bytes.to_vec()]),
        scaleway::conf,
        equinix::metadata,
    ];
    translators.into_iter().filter_map(|translate| translate(data).ok()).for_each(check);
}

/// An answer as it comes from the wire, whole and in pieces; then the same body as the answer to every question.
pub(crate) fn metadata(data: &[u8]) {
    let read = |size: usize| {
        let mut reader = Reader::new(LONG_PAGE);
        for piece in data.chunks(size) {
            match reader.add(piece) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(why) => return Err(why),
            }
        }
        reader.end()
    };
    let (whole, pieces) = (read(usize::MAX), read(7));
    if let (Ok(one), Ok(two)) = (&whole, &pieces) {
        assert_eq!((one.status, &one.body), (two.status, &two.body));
    }
    assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} {pieces:?}");
    let Ok(answer) = whole else { return };
    assert!(answer.body.len() <= data.len());
    let _ = answer.header("Date").and_then(date);
    let _ = Routes::parse(&answer.body).lead_to(WELL_KNOWN);
    for dialect in DIALECTS {
        let mut seen = Seen::default();
        loop {
            match (dialect.step)(&seen) {
                Ok(part) => break check(part),
                Err(Stop::Ask(request)) => {
                    assert!(
                        seen.count() < 30 && request.path.bytes().all(|b| b.is_ascii_graphic()),
                        "{request:?}"
                    );
                    assert!(request.headers.iter().all(|(_, value)| !value.contains(char::is_control)));
                    let again =
                        [("Metadata-Flavor", "Google"), ("Date", answer.header("Date").unwrap_or_default())];
                    seen.add(&request, Answer::new(answer.status, &again, &answer.body));
                }
                Err(_) => break,
            }
        }
    }
}

struct Image<'a>(Sparse<'a>);

impl Medium for Image<'_> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.0.size());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0.read_at(offset, buffer)
    }
}

pub(crate) fn medium(data: &[u8]) {
    let image = || Sparse::parse(data).map(Image);
    let Some(mut first) = image() else { return };
    let _ = media::label(&mut first);
    for kind in [Kind::ConfigDrive, Kind::NoCloud, Kind::Metadata, Kind::Ironic] {
        if let Some(Ok(Some(mut volume))) = image().map(media::open)
            && let Ok(part) = drive::read(&mut volume, kind)
        {
            check(part);
        }
    }
}

/// What another process hands PID 1.
pub(crate) fn said(data: &[u8]) {
    let Ok(said) = serde_json::from_slice::<Vec<Said>>(data) else { return };
    let said: Vec<Said> = said.into_iter().map(Said::checked).collect();
    assert!(said.iter().all(|s| s.document.is_some() == (s.state == CredentialState::Found)));
    let session = merge(&said);
    session.document.validate_translated().expect("merged, then not valid");
}

/// The address of a page, and a command line that names one.
pub(crate) fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(url) = Url::parse(&text) {
        assert!(url.path().bytes().chain(url.authority().bytes()).all(|b| b.is_ascii_graphic()), "{url}");
        assert_eq!(Url::parse(&url.to_string()).as_ref(), Ok(&url));
    }
    if let Ok(wish) = device_url::wish(&Cmdline::parse(data)) {
        assert_ne!(wish.read(data).state, CredentialState::Found, "its own digest");
    }
}

/// What a host of VMware's says: an encoding, a NUL and a value; and whatever it answers to a call, a word each.
pub(crate) fn guestinfo(data: &[u8]) {
    let (encoding, value) = data.split_at(data.iter().position(|b| *b == 0).unwrap_or(0));
    let value = value.strip_prefix(b"\0").unwrap_or(value);
    for wanted in ["guestinfo.metadata", "guestinfo.userdata"] {
        let said = guestinfo::read(&mut |name| {
            Ok(match name.strip_prefix(wanted) {
                Some("") => Some(value.to_vec()),
                Some(_) => Some(encoding.to_vec()),
                None => None,
            })
        });
        if let Ok(Some(part)) = said {
            check(part);
        }
    }
    let mut words =
        data.chunks_exact(4).map(|word| word.try_into().map(u32::from_le_bytes).unwrap_or_default());
    let mut next = || words.next().unwrap_or_default();
    let _ = guestinfo::variable(
        &mut |registers| {
            (registers.ebx, registers.ecx, registers.edx) = (next(), next() | 3 << 16, next());
        },
        "guestinfo.metadata",
    );
}
