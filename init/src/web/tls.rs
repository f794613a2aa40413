//! TLS, by rustls: for the program `rescue-https` alone.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::exchange::{Stream, Surroundings, Timed};
use super::url::Url;

/// Makes a connection one by TLS, to a host that an authority of the web vouches for, or one of the image's own;
/// or one of those that are pinned, and no other.
///
/// # Errors
/// When it cannot be set up. Whether the other side is trusted shows when it is first spoken to.
pub fn secure(around: &Surroundings, url: &Url, connection: Timed) -> Result<Box<dyn Stream>, String> {
    let mut roots = RootCertStore::empty();
    if !around.pinned {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&around.roots).flatten());
    if roots.is_empty() {
        return Err("no certificate of an authority is in what was given for it".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(url.host().to_string()).map_err(|error| error.to_string())?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    Ok(Box::new(StreamOwned::new(session, connection)))
}
