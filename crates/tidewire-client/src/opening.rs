use std::collections::HashSet;
use std::pin::Pin;

use tidewire_model::{Channel, Connected, Resume};

use crate::Options;
use crate::connection::{Connection, OpenError};

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
        let positions = resume.iter().flat_map(|resume| &resume.positions);
        let told = positions.map(|(channel, _)| channel.clone()).collect();
        let options = options.clone();
        let opening = async move { Connection::open(&options, attempt, resume).await };
        Self { attempt: Box::pin(opening), told, was_offered: false }
    }

    /// At an address that a node has named.
    pub(crate) fn start_at(url: String, options: &Options, resume: Option<Resume>) -> Self {
        let options = Options { urls: vec![url], ..options.clone() };
        Self { was_offered: true, ..Self::start(&options, 0, resume) }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

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
}
