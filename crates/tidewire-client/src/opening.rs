use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use tidewire_model::{Channel, Connected, Resume};

use tokio::time::timeout;

use crate::Options;
use crate::connection::{Connection, OpenError};

/// Of three addresses that lead nowhere, a client that was asked to move is through within the time
/// that the node serves it for.
const OFFERED_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection being opened. Whoever waits for it may stop and wait again: an application that
/// wakes its client often must not make it begin anew each time.
pub(crate) struct Opening {
    attempt: Pin<Box<dyn Future<Output = Opened> + Send>>,
    told: HashSet<Channel>,
    was_offered: bool,
}

pub(crate) type Opened = Result<(Connection, Connected), OpenError>;

impl Opening {
    pub(crate) fn start(options: &Options, attempt: usize, resume: Option<Resume>) -> Self {
        let (told, options) = (told(resume.as_ref()), options.clone());
        let opening = async move { Connection::open(&options, attempt, resume).await };
        Self { attempt: Box::pin(opening), told, was_offered: false }
    }

    /// At an address that a node has named.
    pub(crate) fn start_at(url: String, options: &Options, resume: Option<Resume>) -> Self {
        let options = Options { urls: vec![url], ..options.clone() };
        let told = told(resume.as_ref());
        let opening = async move {
            let opening = Connection::open(&options, 0, resume);
            timeout(OFFERED_TIMEOUT, opening).await.unwrap_or(Err(OpenError::Timeout))
        };
        Self { attempt: Box::pin(opening), told, was_offered: true }
    }

    /// Whether the address is one that a node has named.
    pub(crate) fn was_offered(&self) -> bool {
        self.was_offered
    }

    /// Waits for the connection; not to be asked again after that. Cancel-safe.
    pub(crate) async fn finish(&mut self) -> Opened {
        self.attempt.as_mut().await
    }

    /// The channels whose position the server was told.
    pub(crate) fn told(self) -> HashSet<Channel> {
        self.told
    }
}

fn told(resume: Option<&Resume>) -> HashSet<Channel> {
    let positions = resume.into_iter().flat_map(|resume| &resume.positions);
    positions.map(|(channel, _)| channel.clone()).collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn waiting_again_goes_on_where_it_was() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let options = Options::new(format!("ws://{address}"), "token");
        let mut opening = Opening::start(&options, 0, None);

        let mut accepted = Vec::new();
        for _ in 0..20 {
            tokio::select! {
                biased;
                client = listener.accept() => accepted.push(client.expect("a connection")),
                waited = timeout(Duration::from_millis(1), opening.finish()) => {
                    assert!(waited.is_err(), "the server has not answered");
                }
            }
        }

        assert_eq!(accepted.len(), 1);
    }

    /// As those of nodes behind a firewall that drops what it does not know.
    #[tokio::test(start_paused = true)]
    async fn three_offered_addresses_that_never_answer_are_given_up_before_a_window_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let silent = format!("ws://{}", listener.local_addr().expect("it is bound"));
        let begun = tokio::time::Instant::now();

        for _ in 0..3 {
            let options = Options::new("ws://127.0.0.1:1", "token");
            let opened = Opening::start_at(silent.clone(), &options, None).finish().await;

            assert!(matches!(opened, Err(OpenError::Timeout)), "{:?}", opened.err());
        }

        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}
