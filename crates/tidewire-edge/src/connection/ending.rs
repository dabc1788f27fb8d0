//! How a connection ends.

use futures_util::StreamExt;
use tidewire_model::{Disconnect, Event};
use tidewire_protocol::Protocol;
use tidewire_transport::Transport;
use tokio::time::timeout;

use super::{Connection, Ending, FRAME_BYTES, clock};
use crate::handshake::Rejected;
use crate::outcome::{self, Outcome};

/// Tells a client why it may not be here.
pub(super) async fn turn_away<T: Transport>(
    mut transport: T,
    protocol: &mut dyn Protocol,
    rejected: Rejected,
) {
    let Rejected { disconnect, mut events } = rejected;
    events.push(Event::Closing(disconnect));
    let mut frames = Vec::new();
    protocol.encode(&events, FRAME_BYTES, &mut frames);
    // The close below reports the same failure.
    drop(transport.queue(&frames));
    say_goodbye(&mut transport, disconnect).await;
}

async fn say_goodbye<T: Transport>(transport: &mut T, disconnect: Disconnect) {
    let goodbye = transport.close(disconnect.into(), disconnect.as_str(), clock::GOODBYE);
    if let Err(error) = goodbye.await {
        tracing::debug!(%error, "connection ended without a goodbye");
    }
}

impl<T: Transport> Connection<T> {
    /// Leaves every channel, says goodbye, and starts the session's resume window.
    pub(super) async fn end(mut self, ending: Ending) {
        self.shared.registry.remove(self.id);
        for (channel, join) in self.session.joins() {
            let channel = self.in_tenant(channel.clone());
            self.shared.node.leave(channel, self.id, join).await;
        }
        // Before the goodbye, so that a client that returns at once finds its session.
        self.release().await;
        self.metrics.ended(match ending {
            Ending::Disconnected(disconnect) => Some(disconnect),
            Ending::Left => None,
        });
        if let Ending::Disconnected(disconnect) = ending {
            self.answer_what_is_under_way().await;
            self.outputs.events.push(Event::Closing(disconnect));
            // The goodbye below reports the same failure.
            let _ = self.queue_events();
            say_goodbye(&mut self.transport, disconnect).await;
        } else {
            say_goodbye(&mut self.transport, Disconnect::Normal).await;
        }
        tracing::debug!(
            tenant = %self.owned.key.tenant,
            session = %self.owned.key.session,
            ?ending,
            "connection ended"
        );
    }

    /// Publications that were accepted are answered before the goodbye, as far as the log is quick.
    async fn answer_what_is_under_way(&mut self) {
        let answers = async {
            while let Some(outcome) = self.pending.next().await {
                if let Outcome::Published { request, verdict, .. } = outcome {
                    self.outputs.events.push(outcome::published(request, verdict));
                }
            }
        };
        // Whoever gets no answer publishes again with the same id.
        drop(timeout(clock::LAST_ANSWERS, answers).await);
    }

    async fn release(&mut self) {
        // A client that was not told comes back with the same claim; what is stored is what it was.
        if self.is_fenced || !self.is_told() {
            return;
        }
        let snapshot = self.session.snapshot();
        let released = self.shared.node.release_session(&self.owned, &snapshot).await;
        if let Err(error) = released {
            tracing::debug!(%error, "cannot release a session; it runs out by itself");
        }
    }
}
