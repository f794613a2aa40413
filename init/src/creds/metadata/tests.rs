//! Every dialect against answers that lie in memory.

use super::talk::{Request, Seen, Stop};
use super::{DIALECTS, Dialect};
use crate::creds::part::Part;
use crate::web::http::Answer;

fn dialect(name: &str) -> &'static Dialect {
    DIALECTS.iter().find(|d| d.name == name).unwrap()
}

/// A whole conversation with a service that answers like this.
fn talk(name: &str, mut answer: impl FnMut(&Request) -> Answer) -> Result<Part, Stop> {
    let mut seen = Seen::default();
    for _ in 0..40 {
        match (dialect(name).step)(&seen) {
            Err(Stop::Ask(request)) => {
                let answer = answer(&request);
                seen.add(&request, answer);
            }
            end => return end,
        }
    }
    panic!("{name} never comes to an end");
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request
        .headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn page(body: &[u8]) -> Answer {
    Answer::new(200, &[], body)
}

fn none() -> Answer {
    Answer::new(404, &[], b"<html><title>404</title></html>")
}

/// Its name, what is asked for, a header that it wants, and its answer.
type Whole = (&'static str, &'static str, Option<(&'static str, &'static str)>, &'static [u8]);

/// What each answers as a whole, and what it wants to hear for it.
const WHOLE: [Whole; 8] = [
    (
        "gce",
        "/computeMetadata/v1/?recursive=true&alt=json",
        Some(("Metadata-Flavor", "Google")),
        include_bytes!("../translate/testdata/gce.json"),
    ),
    (
        "azure",
        "/metadata/instance?api-version=2021-08-01",
        Some(("Metadata", "true")),
        include_bytes!("../translate/testdata/azure.json"),
    ),
    (
        "oracle",
        "/opc/v2/instance/",
        Some(("Authorization", "Bearer Oracle")),
        include_bytes!("../translate/testdata/oracle.json"),
    ),
    ("digitalocean", "/metadata/v1.json", None, include_bytes!("../translate/testdata/digitalocean.json")),
    ("hetzner", "/hetzner/v1/metadata", None, include_bytes!("../translate/testdata/hetzner.yaml")),
    ("scaleway", "/conf?format=json", None, include_bytes!("../translate/testdata/scaleway.json")),
    (
        "openstack",
        "/openstack/latest/meta_data.json",
        None,
        br#"{"uuid":"u","hostname":"db7","public_keys":{"a":"ssh-rsa A a"}}"#,
    ),
    ("equinix", "/metadata", None, include_bytes!("../translate/testdata/equinix.json")),
];

#[test]
fn each_lets_its_keys_in_and_gives_the_name() {
    for (name, path, wants, document) in WHOLE {
        let part = talk(name, |request| match request.path == path {
            true if wants.is_some_and(|(key, value)| header(request, key) != Some(value)) => {
                Answer::new(403, &[], b"")
            }
            true => Answer::new(
                200,
                &[("Metadata-Flavor", "Google"), ("Date", "Sat, 01 Jun 2024 00:00:00 GMT")],
                document,
            ),
            false => none(),
        });
        let document = part.unwrap_or_else(|stop| panic!("{name}: {stop:?}")).document;
        assert!(!document.logins[0].authorized_keys.is_empty(), "{name}");
        assert!(document.device.hostname.unwrap().starts_with("db7"), "{name}");
    }
}

#[test]
fn none_there_is_absent_and_nonsense_is_refused() {
    for dialect in DIALECTS {
        let absent = talk(dialect.name, |_| none());
        assert!(matches!(absent, Err(Stop::Absent(_))), "{}: {absent:?}", dialect.name);
        for body in [
            &b"<!DOCTYPE html><html><body>Log in to the wireless network</body></html>"[..],
            b"{\"hunter2\":",
            b"\xff\xfe\0",
        ] {
            let refused = talk(dialect.name, |_| Answer::new(200, &[("Metadata-Flavor", "Google")], body));
            let Err(Stop::Refused(why)) = refused else { panic!("{}: {refused:?}", dialect.name) };
            assert!(!why.contains("hunter2") && why.len() < 150, "{why}");
        }
        let forbidden = talk(dialect.name, |_| Answer::new(403, &[], b""));
        assert!(
            matches!(forbidden, Err(Stop::Refused(_) | Stop::Absent(_))),
            "{}: {forbidden:?}",
            dialect.name
        );
    }
}

#[test]
fn google_answers_with_its_flavour_or_not_at_all() {
    let plain = talk("gce", |_| page(WHOLE[0].3));
    assert!(matches!(plain, Err(Stop::Refused(_))), "{plain:?}");
    // By their clock a key has expired, whatever this machine's says.
    let date = [("Metadata-Flavor", "Google"), ("Date", "Fri, 01 Jan 2100 00:00:00 GMT")];
    let part = talk("gce", |_| Answer::new(200, &date, WHOLE[0].3)).unwrap();
    assert_eq!(part.document.logins[0].authorized_keys.len(), 2);
}

fn ec2(request: &Request) -> Answer {
    match request.path.as_str() {
        "/latest/meta-data/instance-id" => page(b"i-0abc"),
        "/latest/meta-data/local-hostname" => page(b"db7.internal"),
        "/latest/meta-data/public-keys/" => page(b"0=mine\n1=yours"),
        "/latest/meta-data/public-keys/0/openssh-key" => page(b"ssh-rsa A mine\n"),
        "/latest/meta-data/public-keys/1/openssh-key" => page(b"ssh-rsa B yours\n"),
        _ => none(),
    }
}

#[test]
fn ec2_is_asked_with_a_token_where_there_are_any() {
    let part = talk("ec2", |request| match (request.method, header(request, "X-aws-ec2-metadata-token")) {
        ("PUT", _) if header(request, "X-aws-ec2-metadata-token-ttl-seconds").is_some() => page(b"AQAEAL=="),
        ("GET", Some("AQAEAL==")) => ec2(request),
        _ => Answer::new(401, &[], b""),
    });
    assert_eq!(part.unwrap().document.logins[0].authorized_keys, ["ssh-rsa A mine", "ssh-rsa B yours"]);
    // OpenStack's imitation.
    let part = talk("ec2", |request| if request.method == "PUT" { none() } else { ec2(request) });
    assert_eq!(part.unwrap().document.device.id.as_deref(), Some("i-0abc"));
    let split =
        talk("ec2", |request| if request.method == "PUT" { page(b"a\r\nX: y") } else { ec2(request) });
    assert!(matches!(split, Err(Stop::Refused(_))), "{split:?}");
}

#[test]
fn openstack_brings_its_network_and_its_user_data() {
    let part = talk("openstack", |request| match request.path.as_str() {
        "/openstack/latest/meta_data.json" => page(WHOLE[6].3),
        "/openstack/latest/network_data.json" => page(b"{\"links\":[]}"),
        "/openstack/latest/user_data" => page(b"#cloud-config\nssh_authorized_keys: [ssh-rsa B b]\n"),
        _ => none(),
    });
    let part = part.unwrap();
    assert_eq!((part.network.len(), part.document.logins[0].authorized_keys.len()), (1, 2));
    let bad = talk("openstack", |request| match request.path.as_str() {
        "/openstack/latest/meta_data.json" => page(WHOLE[6].3),
        "/openstack/latest/user_data" => page(b"#cloud-config\nssh_authorized_keys: [\n"),
        _ => none(),
    });
    assert!(matches!(bad, Err(Stop::Refused(_))), "{bad:?}");
}
