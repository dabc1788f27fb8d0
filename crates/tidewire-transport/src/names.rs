//! Looking up names of hosts, a bounded number at a time.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Looks names up. A cheap handle: its clones look up as many at once as it would alone.
///
/// The system's look-up takes a thread, and cannot be told that nobody waits for it any more: where a
/// name's servers do not answer that is half a minute. So who gives up leaves a place taken behind, and
/// the next one waits when all of them are.
#[derive(Clone, Debug)]
pub(crate) struct Names(Arc<Semaphore>);

/// Look-ups at once, those that nobody waits for any more among them.
const MOST: usize = 16;

impl Names {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }

    /// The addresses of `host`, which may be one itself. Waits without a bound of its own. Cancel-safe.
    pub(crate) async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let host = host.to_owned();
        self.begin(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
    }

    async fn begin(
        &self,
        look_up: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let looking = tokio::task::spawn_blocking(move || {
            let found = look_up();
            drop(place);
            found
        });
        looking.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
impl Names {
    /// All places, as look-ups that hang have them.
    pub(crate) async fn take_all(&self) -> tokio::sync::OwnedSemaphorePermit {
        let most = u32::try_from(MOST).expect("few");
        Arc::clone(&self.0).acquire_many_owned(most).await.expect("it is open")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn look_ups_that_nobody_waits_for_any_more_keep_their_places_until_they_end() {
        let names = Names::new();
        let under_way = Arc::new(AtomicUsize::new(0));
        let mut ends = Vec::new();
        for _ in 0..=MOST {
            let (end, ended) = mpsc::channel::<()>();
            let under_way = Arc::clone(&under_way);
            ends.push(end);
            let look_up = names.begin(move || {
                under_way.fetch_add(1, Ordering::SeqCst);
                // Ends when the test drops the other half.
                let _ = ended.recv();
                Ok(Vec::new())
            });
            // Begun, and given up.
            assert!(look_up.now_or_never().is_none());
        }
        while under_way.load(Ordering::SeqCst) < MOST {
            tokio::task::yield_now().await;
        }

        let next = names.begin(|| Ok(vec![SocketAddr::from(([192, 0, 2, 1], 443))]));
        tokio::pin!(next);
        assert!(next.as_mut().now_or_never().is_none());

        assert_eq!(names.0.available_permits(), 0);
        assert_eq!(under_way.load(Ordering::SeqCst), MOST);
        drop(ends.swap_remove(0));
        let found = timeout(Duration::from_secs(20), next).await.expect("there is a place");
        assert_eq!(found.expect("an address").len(), 1);
    }

    #[tokio::test]
    async fn an_address_takes_no_place() {
        let names = Names(Arc::new(Semaphore::new(0)));

        for address in ["192.0.2.1", "2001:db8::1"] {
            let found = names.look_up(address, 443).now_or_never();
            let found = found.expect("at once").expect("an address");
            assert_eq!(found, [SocketAddr::new(address.parse().expect("one"), 443)]);
        }
    }
}
