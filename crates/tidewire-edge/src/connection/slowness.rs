//! What operators are told of a client that is behind with reading.

use std::collections::BTreeSet;

use super::{Connection, State};
use crate::ops::SlowClient;
use crate::worker::Context;

/// Rules that are named for one client.
const MOST_RULES: usize = 3;

impl Connection {
    /// How far it is behind with reading, if it is.
    pub(crate) fn slowness(&self, cx: &Context) -> Option<SlowClient> {
        let State::Serving(serving) = &self.state else { return None };
        let waiting = serving.waiting.as_deref();
        let is_slow = waiting.is_some_and(|waiting| waiting.slow.is_some());
        let behind = self.line.alarms.stalled_for(is_slow, cx.now, &cx.shared.config)?;
        let tenant = &serving.owned.key.tenant;
        let is_kept_back =
            |join| waiting.is_some_and(|one| one.lagged.contains(&join) || one.held.has(join));
        let kept_back = serving.session.joins().filter(|(_, join)| is_kept_back(*join));
        let rules: BTreeSet<_> = cx.shared.tenants.rules().read(|rules| {
            let rule = |channel| Some(rules.rule(tenant, channel)?.filter.to_string());
            kept_back.map(|(channel, _)| rule(channel)).collect()
        });
        Some(SlowClient {
            connection: self.line.id,
            tenant: tenant.clone(),
            session: serving.owned.key.session,
            unsent_bytes: self.line.link.unsent(),
            behind_ms: u64::try_from(behind.as_millis()).unwrap_or(u64::MAX),
            is_slow,
            rules: rules.into_iter().take(MOST_RULES).collect(),
        })
    }
}
