//! What is on a medium that carries a session: which files, and what each is translated by.

use rescue_schema::credentials::{Document, Login};

use super::{Kind, Medium, Volume};
use crate::creds::command_line;
use crate::creds::part::{NetworkDocument, NetworkFormat, Part};
use crate::creds::translate::{cloud_config, ibm, openstack};
use crate::sys::cmdline::Cmdline;

/// Versions of OpenStack's metadata, the preferred one first; every one has what is asked for here.
const VERSIONS: [&str; 10] = [
    "latest",
    "2020-10-14",
    "2018-08-27",
    "2017-02-22",
    "2016-10-06",
    "2016-06-30",
    "2015-10-15",
    "2013-10-17",
    "2013-04-04",
    "2012-08-10",
];
/// The serial number of IBM classic's drives (cloud-init, `DataSourceIBMCloud.py`).
const IBM: &str = "9796-932E";

/// Reads what a medium of this kind says.
///
/// # Errors
/// One that says nothing, or something malformed: the file, and never what it holds.
pub fn read<M: Medium>(volume: &mut Volume<M>, kind: Kind) -> Result<Part, String> {
    match kind {
        Kind::ConfigDrive | Kind::Metadata => config_drive(volume, kind),
        Kind::NoCloud => no_cloud(volume),
        Kind::Ironic => ironic(volume),
    }
}

fn file<M: Medium>(volume: &mut Volume<M>, path: &str) -> Result<Option<Vec<u8>>, String> {
    volume.file(path).map_err(|error| format!("reading {path}: {error}"))
}

fn config_drive<M: Medium>(volume: &mut Volume<M>, kind: Kind) -> Result<Part, String> {
    let mut found = None;
    for version in VERSIONS {
        let folder = format!("openstack/{version}");
        if let Some(bytes) = file(volume, &format!("{folder}/meta_data.json"))? {
            found = Some((folder, bytes));
            break;
        }
    }
    let (folder, meta_data) = found.ok_or("no openstack/latest/meta_data.json")?;
    let mut part = openstack::meta_data(&meta_data).map_err(|why| format!("meta_data.json: {why}"))?;
    match file(volume, &format!("{folder}/network_data.json"))? {
        Some(bytes) => {
            part.network.push(NetworkDocument::one(NetworkFormat::OpenStack, "network_data.json", &bytes));
        }
        None => {
            if let Some(bytes) = file(volume, "openstack/content/interfaces")? {
                part.network.push(NetworkDocument::one(NetworkFormat::Ifupdown, "interfaces", &bytes));
            }
        }
    }
    if let Some(bytes) = file(volume, &format!("{folder}/user_data"))? {
        let said = cloud_config::user_data(&bytes).map_err(|why| format!("user_data: {why}"))?;
        part = join(said, part);
    }
    if let Some(bytes) = file(volume, &format!("{folder}/vendor_data.json"))? {
        if volume.uuid() == Some(IBM) || kind == Kind::Metadata {
            let said = ibm::vendor_data(&bytes).map_err(|why| format!("vendor_data.json: {why}"))?;
            part = join(part, said);
        } else {
            part.remarks.push("vendor_data.json: not used, this is no drive of IBM's".into());
        }
    }
    Ok(part)
}

fn no_cloud<M: Medium>(volume: &mut Volume<M>) -> Result<Part, String> {
    let (meta, user) = (file(volume, "meta-data")?, file(volume, "user-data")?);
    if meta.is_none() && user.is_none() {
        return Err("neither meta-data nor user-data".into());
    }
    let mut part = Part::default();
    if let Some(bytes) = meta {
        part = cloud_config::meta_data(&bytes).map_err(|why| format!("meta-data: {why}"))?;
    }
    if let Some(bytes) = user {
        let said = cloud_config::user_data(&bytes).map_err(|why| format!("user-data: {why}"))?;
        part = join(said, part);
    }
    if let Some(bytes) = file(volume, "network-config")? {
        part.network.insert(0, NetworkDocument::one(NetworkFormat::CloudInit, "network-config", &bytes));
    }
    if file(volume, "vendor-data")?.is_some_and(|bytes| !bytes.is_empty()) {
        part.remarks.push("vendor-data: not used, user-data says who may enter".into());
    }
    Ok(part)
}

/// Parameters for the kernel command line, which is how Ironic tells its agent.
fn ironic<M: Medium>(volume: &mut Volume<M>) -> Result<Part, String> {
    let bytes = file(volume, "parameters.txt")?.ok_or("no parameters.txt")?;
    Ok(command_line::read(&Cmdline::parse(&bytes)))
}

/// `high`, and of `low` what that does not say. Both are of one source, so that the keys of both let in.
#[must_use]
pub fn join(mut high: Part, low: Part) -> Part {
    for login in low.document.logins {
        let Login { name, password_hash, authorized_keys } = login;
        let logins = &mut high.document.logins;
        let Some(own) = logins.iter_mut().find(|own| own.name == name) else {
            logins.push(Login { name, password_hash, authorized_keys });
            continue;
        };
        own.password_hash = own.password_hash.take().or(password_hash);
        for key in authorized_keys {
            if !own.authorized_keys.contains(&key) {
                own.authorized_keys.push(key);
            }
        }
    }
    let Document { device, session, ssh, network, .. } = low.document;
    let (own, none) = (&mut high.document, Document::default());
    own.device.id = own.device.id.take().or(device.id);
    own.device.hostname = own.device.hostname.take().or(device.hostname);
    own.device.family = own.device.family.take().or(device.family);
    own.session.id = own.session.id.take().or(session.id);
    if own.ssh == none.ssh {
        own.ssh = ssh;
    }
    if own.network == none.network {
        own.network = network;
    }
    high.network.extend(low.network);
    high.remarks.extend(low.remarks);
    high
}
