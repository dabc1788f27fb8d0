//! What a node shows of itself to clients.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use tidewire_transport::tls::{Certificate, Certificates, TlsError, replaceable};

use crate::config::document;
use crate::config::draft::Draft;
use crate::config::problem::Origin;
use crate::config::secret_file;

/// How clients are talked to in TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    pub server: Arc<ServerConfig>,
    /// What `server` shows.
    pub certificates: Arc<Certificates>,
    /// Where it is from, if both the certificate and its key are in files, which may be replaced.
    pub files: Option<TlsFiles>,
}

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Nothing if clients are talked to in plain text, or if what was written makes no sense, which has
/// then been reported.
pub(super) fn check(tls: &document::Tls, draft: &mut Draft) -> Option<Tls> {
    // A file that has been read is no longer named; one that could not be has been reported.
    if tls.certificate_file.is_some() || tls.key_file.is_some() {
        return None;
    }
    match (&tls.certificate, &tls.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let tls = load(certificate.as_bytes(), key.expose().as_bytes());
            let tls = tls.map_err(|error| report(&error, draft)).ok()?;
            Some(Tls { files: files(draft), ..tls })
        }
        (Some(_), None) => {
            draft.problem(&path("certificate", draft), "needs `tls.key` too", None);
            None
        }
        (None, Some(_)) => {
            draft.problem(&path("key", draft), "needs `tls.certificate` too", None);
            None
        }
    }
}

fn load(certificate: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
    let certificates = Arc::new(Certificates::new(Certificate::from_pem(certificate, key)?));
    let server = replaceable(Arc::clone(&certificates))?;
    Ok(Tls { server, certificates, files: None })
}

fn files(draft: &Draft) -> Option<TlsFiles> {
    let named = |key: &str| {
        let file = draft.table.get("tls")?.get(key)?.as_str()?;
        Some(secret_file::located(draft, &format!("tls.{key}"), file))
    };
    Some(TlsFiles { certificate: named("certificate_file")?, key: named("key_file")? })
}

fn report(error: &TlsError, draft: &mut Draft) {
    let key = if matches!(error, TlsError::Certificate(_)) { "certificate" } else { "key" };
    draft.problem(&path(key, draft), &error.to_string(), None);
}

/// Where the value of `key` was written, or its file named.
fn path(key: &str, draft: &Draft) -> String {
    let file = format!("tls.{key}_file");
    match draft.origin(&file) {
        Origin::Default => format!("tls.{key}"),
        _ => file,
    }
}
