//! Puts a certificate whose files are replaced into effect while the node runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use aws_lc_rs::digest::{Context, SHA256};
use metrics::{Counter, Gauge, counter, gauge};
use tidewire_transport::tls::{Certificate, Certificates};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Tls, TlsFiles, read_secret};

/// How often the files are looked at. What a look finds to be broken it is only said to be by the
/// next one.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks at the files of `tls` every two seconds, and at once on SIGHUP, for as long as it is polled.
/// A certificate that is not from files stays what it is.
///
/// # Errors
///
/// When the system does not let it listen for the signal. Without files too, SIGHUP then no longer
/// ends the process: who sends it to everything that might read its files anew means no harm.
pub(crate) fn keep_up(tls: Option<Tls>) -> anyhow::Result<impl Future<Output = ()>> {
    let asked = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    Ok(async move {
        match tls.and_then(|tls| Some((Keeper::new(tls.certificates), tls.files?))) {
            Some((keeper, files)) => keeper.follow(&files, asked).await,
            None => ignore(asked).await,
        }
    })
}

async fn ignore(mut asked: Signal) {
    while asked.recv().await.is_some() {
        tracing::info!("SIGHUP: there are no files of a certificate to read anew");
    }
}

/// What the files hold, or why they cannot be read.
type Found = Result<Pem, String>;

#[derive(Clone)]
struct Pem {
    chain: String,
    key: String,
}

/// What a look at the files has come to.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    Unchanged,
    Replaced,
    Refused(String),
}

/// Decides whether what the files hold is put into effect.
struct Keeper {
    certificates: Arc<Certificates>,
    /// Of what the files held at the last look: no second copy of a key is kept.
    seen: Option<[u8; 32]>,
    /// Why that was not taken, if nobody has been told.
    doubt: Option<String>,
    series: Series,
}

struct Series {
    replaced: Counter,
    refused: Counter,
    expires_at: Gauge,
}

impl Keeper {
    fn new(certificates: Arc<Certificates>) -> Self {
        let reloads = |result| counter!("tidewire_tls_reloads_total", "result" => result);
        let series = Series {
            replaced: reloads("replaced"),
            refused: reloads("refused"),
            expires_at: gauge!("tidewire_tls_certificate_expiry_timestamp_seconds"),
        };
        Self { certificates, seen: None, doubt: None, series }
    }

    async fn follow(mut self, files: &TlsFiles, mut asked: Signal) {
        self.warn_if_expired();
        let mut clock = interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.show_expiry();
            tokio::select! {
                _ = asked.recv() => clock.reset(),
                _ = clock.tick() => {}
            }
            let files = files.clone();
            // A file system may take its time, and everything else here goes on meanwhile.
            let Ok(found) = tokio::task::spawn_blocking(move || read(&files)).await else { return };
            match self.look(&found, unix_seconds()) {
                Outcome::Unchanged => {}
                Outcome::Replaced => {
                    self.series.replaced.increment(1);
                    let expires_at = self.certificates.current().expires_at();
                    tracing::info!(expires_at, "certificate replaced");
                }
                Outcome::Refused(why) => {
                    self.series.refused.increment(1);
                    tracing::error!("certificate not replaced, the one before stays: {why}");
                }
            }
        }
    }

    /// Takes what was found, if it is new and good. If it is not good a second look has to find the
    /// same before that is said, because the first may have fallen between the replacement of the one
    /// file and that of the other; once said, it is not repeated.
    fn look(&mut self, found: &Found, now: u64) -> Outcome {
        let seen = Some(digest(found));
        if self.seen == seen {
            return self.doubt.take().map_or(Outcome::Unchanged, Outcome::Refused);
        }
        (self.seen, self.doubt) = (seen, None);
        match self.take(found, now) {
            Ok(outcome) => outcome,
            Err(why) => {
                self.doubt = Some(why);
                Outcome::Unchanged
            }
        }
    }

    fn take(&self, found: &Found, now: u64) -> Result<Outcome, String> {
        let Pem { chain, key } = found.as_ref().map_err(Clone::clone)?;
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes());
        let certificate = certificate.map_err(|error| error.to_string())?;
        if certificate.is_same(&self.certificates.current()) {
            return Ok(Outcome::Unchanged);
        }
        if has_expired(&certificate, now) {
            return Err("certificate has expired".into());
        }
        self.certificates.replace(certificate);
        Ok(Outcome::Replaced)
    }

    fn warn_if_expired(&self) {
        if has_expired(&self.certificates.current(), unix_seconds()) {
            tracing::warn!("certificate has expired: clients will refuse it");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
    fn show_expiry(&self) {
        if let Some(expires_at) = self.certificates.current().expires_at() {
            self.series.expires_at.set(expires_at as f64);
        }
    }
}

fn has_expired(certificate: &Certificate, now: u64) -> bool {
    certificate.expires_at().is_some_and(|expires_at| expires_at <= now)
}

fn read(files: &TlsFiles) -> Found {
    let text = |file| read_secret(file).map_err(|why| format!("{} {why}", file.display()));
    Ok(Pem { chain: text(&files.certificate)?, key: text(&files.key)? })
}

fn digest(found: &Found) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    match found {
        Ok(Pem { chain, key }) => {
            context.update(chain.as_bytes());
            // In no text.
            context.update(&[0xff]);
            context.update(key.as_bytes());
        }
        Err(why) => context.update(why.as_bytes()),
    }
    context.finish().as_ref().try_into().expect("32 bytes")
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const CHAIN: &str = include_str!("../../../tidewire-transport/tests/tls/certificate.pem");
    const KEY: &str = include_str!("../../../tidewire-transport/tests/tls/key.pem");
    const OTHER_CHAIN: &str =
        include_str!("../../../tidewire-transport/tests/tls/other-certificate.pem");
    const EXPIRED_CHAIN: &str =
        include_str!("../../../tidewire-transport/tests/tls/expired-certificate.pem");
    const OTHER_KEY: &str = include_str!("../../../tidewire-transport/tests/tls/other-key.pem");

    #[test]
    fn a_pair_that_belongs_together_is_put_into_effect_once() {
        let mut keeper = keeper();

        assert_eq!(keeper.look(&Ok(pem(CHAIN, KEY)), NOW), Outcome::Unchanged);
        assert_eq!(keeper.look(&Ok(pem(OTHER_CHAIN, OTHER_KEY)), NOW), Outcome::Replaced);
        assert_eq!(keeper.look(&Ok(pem(OTHER_CHAIN, OTHER_KEY)), NOW), Outcome::Unchanged);

        assert!(keeper.certificates.current().is_same(&certificate(OTHER_CHAIN, OTHER_KEY)));
    }

    #[test]
    fn a_look_between_the_two_files_says_nothing() {
        let mut keeper = keeper();

        assert_eq!(keeper.look(&Ok(pem(OTHER_CHAIN, KEY)), NOW), Outcome::Unchanged);
        assert_eq!(keeper.look(&Ok(pem(OTHER_CHAIN, OTHER_KEY)), NOW), Outcome::Replaced);
    }

    #[test]
    fn what_is_broken_is_said_once_and_the_one_before_stays() {
        let missing = || Err("tls.crt cannot be read: it is not there".to_owned());
        let mut keeper = keeper();
        let broken: [(Found, &str); 4] = [
            (Ok(pem(OTHER_CHAIN, KEY)), "key does not belong to the certificate"),
            (Ok(pem("rubbish", KEY)), "certificate has no certificate in PEM"),
            (Ok(pem(EXPIRED_CHAIN, OTHER_KEY)), "certificate has expired"),
            (missing(), "tls.crt cannot be read: it is not there"),
        ];
        for (found, why) in broken {
            assert_eq!(keeper.look(&found, NOW), Outcome::Unchanged);
            assert_eq!(keeper.look(&found, NOW), Outcome::Refused(why.into()));
            assert_eq!(keeper.look(&found, NOW), Outcome::Unchanged);
            assert!(keeper.certificates.current().is_same(&certificate(CHAIN, KEY)));
        }

        assert_eq!(keeper.look(&Ok(pem(CHAIN, KEY)), NOW), Outcome::Unchanged);
        assert_eq!(keeper.look(&Ok(pem(OTHER_CHAIN, OTHER_KEY)), NOW), Outcome::Replaced);
    }

    fn keeper() -> Keeper {
        Keeper::new(Arc::new(Certificates::new(certificate(CHAIN, KEY))))
    }

    fn certificate(chain: &str, key: &str) -> Certificate {
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).expect("a pair")
    }

    fn pem(chain: &str, key: &str) -> Pem {
        Pem { chain: chain.to_owned(), key: key.to_owned() }
    }
}
