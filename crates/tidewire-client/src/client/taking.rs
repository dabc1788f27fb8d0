//! What a client makes of what it is sent.

use tidewire_model::{Channel, ErrorCode, Gap, RequestId};
use tidewire_protocol_native::client::{Content, Received, Refusal, ServerEvent};
use tidewire_protocol_native::fossil::BadDelta;
use tokio::time::Instant;

use super::{Client, sending};
use crate::behind::Side;
use crate::happening::Happening;
use crate::unacknowledged::Refused;

impl Client {
    /// Takes what came over the connection at hand.
    pub(super) fn take(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Publications { channel, publications } => {
                let publications = publications.into_iter().map(Received::written);
                self.restore(&channel, publications, Side::Newer);
            }
            ServerEvent::Deltas { channel, publications } => {
                self.restore(&channel, publications, Side::Newer);
            }
            ServerEvent::Gap { channel, gap } => self.skip(channel, gap, Side::Newer),
            ServerEvent::Subscribed(subscribed) => {
                if self.following.subscribed(&subscribed, Instant::now()) {
                    let send = sending(&mut self.connection);
                    return self.following.ask_anew(&subscribed.channel, send);
                }
                self.happenings.push_back(Happening::Subscribed(subscribed));
            }
            ServerEvent::Published { request, position, duplicate } => {
                let send = sending(&mut self.connection);
                let id = self.unacknowledged.acknowledge(request, send);
                let published = |id| Happening::Published { id, position, duplicate };
                self.happenings.extend(id.map(published));
            }
            ServerEvent::Reconnect { after, window, token, endpoints } => {
                self.offer(endpoints);
                self.asked_to_move((after, window), token);
            }
            ServerEvent::Unsubscribed { channel, refusal: Some(refusal), .. } => {
                let is_denied = refusal.error_code() == Some(ErrorCode::PermissionDenied);
                if !(is_denied && self.asks_with_token(&channel)) {
                    self.refuse_channel(channel, refusal);
                }
            }
            ServerEvent::Expiring { at, closes_at } => self.expires(at, closes_at),
            ServerEvent::Refreshed { request, expires_at } => self.refreshed(request, expires_at),
            ServerEvent::Failed { request, refusal } => self.fail(request, refusal),
            other => self.take_presence(other),
        }
    }

    /// Takes what came over the connection that is being left: publications and their absence. The
    /// numbers of its answers are those of other requests here, which are made again anyway.
    pub(super) fn take_from_older(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Publications { channel, publications } => {
                let publications = publications.into_iter().map(Received::written);
                self.restore(&channel, publications, Side::Older);
            }
            ServerEvent::Deltas { channel, publications } => {
                self.restore(&channel, publications, Side::Older);
            }
            ServerEvent::Gap { channel, gap } => self.skip(channel, gap, Side::Older),
            _ => {}
        }
    }

    /// Receives publications of a channel, each made whole.
    fn restore(
        &mut self,
        channel: &Channel,
        publications: impl IntoIterator<Item = Received<Content>>,
        side: Side,
    ) {
        for publication in publications {
            match self.following.restore(channel, publication, side) {
                Ok(Some(whole)) => self.receive(channel, whole, side),
                Ok(None) => {}
                Err(BadDelta) => {
                    return self.following.ask_in_full(channel, sending(&mut self.connection));
                }
            }
        }
    }

    /// Passes a publication on, unless it was passed on before.
    fn receive(&mut self, channel: &Channel, publication: Received, side: Side) {
        let is_new = self.following.read(channel, &publication, side, Instant::now());
        let Some(is_new) = is_new else { return };
        let channel = channel.clone();
        if is_new {
            self.happenings.push_back(Happening::Publication { channel, publication });
            return;
        }
        self.repeats.push(self.happenings.len(), channel, publication.position);
    }

    fn skip(&mut self, channel: Channel, gap: Gap, side: Side) {
        if self.following.gap(&channel, &gap, side, Instant::now()) {
            self.happenings.push_back(Happening::Gap { channel, gap });
        }
    }

    fn fail(&mut self, request: Option<RequestId>, mut refusal: Refusal) {
        if self.refuses_token(request, &mut refusal) {
            return;
        }
        if let Some(channel) = request.and_then(|request| self.following.shown_by(request)) {
            let reason = format!("{channel}: {refusal}");
            return self.happenings.push_back(Happening::NotRenewed { reason });
        }
        let Some(request) = request else {
            return self.happenings.push_back(Happening::Refused { channel: None, refusal });
        };
        if let Some(channel) = self.following.asked_by(request) {
            return self.refuse_channel(channel, refusal);
        }
        if self.refuses_presence(request, &refusal) {
            return;
        }
        let send = sending(&mut self.connection);
        let refused = self.unacknowledged.refuse(request, &refusal, Instant::now(), send);
        if let Some(Refused::ForGood(id)) = refused {
            self.happenings.push_back(Happening::Rejected { id, refusal });
        }
    }

    fn asks_with_token(&mut self, channel: &Channel) -> bool {
        self.following.ask_with_token(channel, sending(&mut self.connection))
    }

    fn refuse_channel(&mut self, channel: Channel, refusal: Refusal) {
        if refusal.error_code() == Some(ErrorCode::AlreadySubscribed) {
            // Asked again after a loss, and the first command had arrived after all.
            return self.following.keep(&channel);
        }
        if self.following.refuse(&channel, &refusal, Instant::now()) {
            let channel = Some(channel);
            self.happenings.push_back(Happening::Refused { channel, refusal });
        }
    }
}
