//! What a server shows of itself, which may be replaced while it runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::expiry::expires_at;

/// A chain of certificates, and the private key of the first.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    expires_at: Option<u64>,
}

impl Certificate {
    /// Reads both from PEM, the server's own certificate first, and proves that the key belongs to it.
    ///
    /// # Errors
    ///
    /// Which of the two is to blame, and why. Nothing of `key` is in it.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| TlsError::Certificate("is not PEM".into()))?;
        let Some(own) = chain.first() else {
            return Err(TlsError::Certificate("has no certificate in PEM".into()));
        };
        let expires_at = expires_at(own);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
        let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(TlsError::of)?;
        Ok(Self { key: Arc::new(key), expires_at })
    }

    /// Until when the server's own is valid, in seconds since the Unix epoch; `None` where it cannot
    /// be read, which is no reason not to show it.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Whether both are the same chain, and so have the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

/// The certificate in effect: whoever shakes hands is shown the one that is there at that moment.
/// Whoever has shaken hands has no more to do with it, and a client that comes back with a ticket of
/// the session is shown none, as ever.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Certificate>);

impl Certificates {
    pub fn new(certificate: Certificate) -> Self {
        Self(ArcSwap::from_pointee(certificate))
    }

    /// The one in effect.
    pub fn current(&self) -> Arc<Certificate> {
        self.0.load_full()
    }

    /// Puts another into effect, for every handshake from now on. From any thread.
    pub fn replace(&self, certificate: Certificate) {
        self.0.store(Arc::new(certificate));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}
