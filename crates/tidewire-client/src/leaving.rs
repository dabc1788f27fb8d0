use std::pin::Pin;

use tidewire_protocol_native::client::ServerEvent;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;

/// A connection that is being left: it is read until the one at hand is in step, and nothing is sent
/// over it any more.
pub(crate) struct Leaving {
    stage: Stage,
    /// Until when its node said it would serve it.
    until: Instant,
}

enum Stage {
    Reading(Box<Connection>),
    Closing(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Leaving {
    pub(crate) fn reading(connection: Connection, until: Instant) -> Self {
        Self { stage: Stage::Reading(Box::new(connection)), until }
    }

    pub(crate) fn closing(connection: Connection) -> Self {
        Self { stage: Stage::Closing(Box::pin(connection.close())), until: Instant::now() }
    }

    /// Says goodbye, if that has not been done.
    pub(crate) fn close(self) -> Self {
        match self.stage {
            Stage::Reading(connection) => Self::closing(*connection),
            Stage::Closing(_) => self,
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.stage, Stage::Reading(_))
    }

    /// The next event; `None` when it is over, and then it is not to be asked again. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<ServerEvent> {
        match &mut self.stage {
            Stage::Reading(connection) => tokio::select! {
                biased;
                event = connection.next() => event.ok(),
                () = sleep_until(self.until) => None,
            },
            Stage::Closing(goodbye) => {
                goodbye.as_mut().await;
                None
            }
        }
    }
}
