//! The keys that issuers publish: fetched, kept for a while, and fetched again when a token names one
//! that is not among them.
//!
//! Start from [`Jwks::ask`], which whoever judges a token waits for, and `keeper.rs`, which fetches.

mod keeper;

pub(crate) use keeper::Keeper;
pub use keeper::{JwksPace, Standing};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::counter;
use parking_lot::Mutex;
use tidewire_auth::MAX_SET_BYTES;
use tidewire_model::Tenant;
use tidewire_transport::https::Fetcher;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Duration, timeout};

/// Reads the document at a URL, of at most [`MAX_SET_BYTES`]; or says
/// why not, without what it holds. In a few seconds at most.
///
/// Those of issuers that have not answered last time do not hold up those of issuers that have.
pub type Fetch = Box<
    dyn Fn(&str, Standing) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync + 'static,
>;

/// Fetches over HTTPS.
pub fn over_https(fetcher: Fetcher) -> Fetch {
    let for_sound = fetcher.apart();
    Box::new(move |url, standing| {
        let fetcher = match standing {
            Standing::Sound => &for_sound,
            Standing::New | Standing::Failing => &fetcher,
        };
        let (fetcher, url) = (fetcher.clone(), url.to_owned());
        let answer = async move { fetcher.get(&url, MAX_SET_BYTES).await };
        answer.map(|answer| answer.map_err(|error| causes(&error))).boxed()
    })
}

/// An error and what has caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Where whoever needs an issuer's key asks for it.
pub(crate) struct Jwks {
    asking: mpsc::Sender<Asked>,
    /// For the one who keeps the keys.
    asked: Mutex<Option<mpsc::Receiver<Asked>>>,
    /// One permit per client that may wait.
    room: Semaphore,
}

/// Somebody who waits for the keys of a tenant's issuer. Told whether they were fetched.
struct Asked {
    tenant: Tenant,
    fetched: oneshot::Sender<bool>,
}

/// Questions that wait to be looked at. Beyond, the token is refused as it stands.
const MOST_ASKED: usize = 256;
/// Clients that wait at once: a part of those that a worker lets connect at once.
const MOST_WAITING: usize = 64;
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(3);

impl Default for Jwks {
    fn default() -> Self {
        let (asking, asked) = mpsc::channel(MOST_ASKED);
        Self { asking, asked: Mutex::new(Some(asked)), room: Semaphore::new(MOST_WAITING) }
    }
}

impl Jwks {
    /// Waits, for three seconds at most, until the keys of `tenant`'s issuer have been fetched, if they
    /// were not within the last half minute. Says whether they have been, and the token is to be judged
    /// again. Cancel-safe.
    pub(crate) async fn ask(&self, tenant: Tenant) -> bool {
        let is_fetched = self.wait(tenant).await;
        let result = if is_fetched { "fetched" } else { "limited" };
        counter!("tidewire_jwks_unknown_kid_total", "result" => result).increment(1);
        is_fetched
    }

    async fn wait(&self, tenant: Tenant) -> bool {
        let Ok(_room) = self.room.try_acquire() else { return false };
        let (fetched, outcome) = oneshot::channel();
        if self.asking.try_send(Asked { tenant, fetched }).is_err() {
            return false;
        }
        matches!(timeout(PATIENCE, outcome).await, Ok(Ok(true)))
    }
}
