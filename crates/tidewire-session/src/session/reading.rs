//! Pages that a client asks for.

use tidewire_model::{Action, Channel, HistoryQuery, PageMark, RequestId};

use super::Session;
use crate::{Effect, Outputs};

/// The most members of a page that a client may ask for.
const MOST_OF_PAGE: u32 = 500;

impl Session {
    pub(super) fn handle_history(
        &mut self,
        request: RequestId,
        channel: Channel,
        query: HistoryQuery,
        out: &mut Outputs,
    ) {
        if self.may(Action::History, &channel, request, out) {
            let query = HistoryQuery { limit: query.limit.clamp(1, self.limits.page), ..query };
            out.effects.push(Effect::History { request, channel, query });
        }
    }

    pub(super) fn handle_members(
        &mut self,
        request: RequestId,
        channel: Channel,
        (from, limit): (Option<PageMark>, u32),
        out: &mut Outputs,
    ) {
        if self.may(Action::Presence, &channel, request, out) {
            let limit = limit.clamp(1, MOST_OF_PAGE);
            out.effects.push(Effect::Members { request, channel, from, limit });
        }
    }
}
