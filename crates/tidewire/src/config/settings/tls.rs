//! What a node shows of itself to clients.

use std::sync::Arc;

use rustls::ServerConfig;
use tidewire_transport::tls::{TlsError, server_config};

use crate::config::document;
use crate::config::draft::Draft;
use crate::config::problem::Origin;

/// Nothing if clients are talked to in plain text, or if what was written makes no sense, which has
/// then been reported.
pub(super) fn check(tls: &document::Tls, draft: &mut Draft) -> Option<Arc<ServerConfig>> {
    // A file that has been read is no longer named; one that could not be has been reported.
    if tls.certificate_file.is_some() || tls.key_file.is_some() {
        return None;
    }
    match (&tls.certificate, &tls.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let config = server_config(certificate.as_bytes(), key.expose().as_bytes());
            config.map_err(|error| report(&error, draft)).ok()
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
