//! What tenants may have and ask.

use tidewire_model::TenantLimits;

use crate::config::document::Document;
use crate::config::draft::Draft;

/// The limits of tenants that have none of their own; nothing if they mean nothing, which has then
/// been reported.
pub(super) fn check(document: &Document, draft: &mut Draft) -> Option<TenantLimits> {
    let limits = document.limits.0;
    let most_payload = document.server.max_message_bytes / 2;
    if limits.payload_bytes.is_some_and(|bytes| bytes > most_payload) {
        let message = format!(
            "a payload may have half of `server.max_message_bytes` at the most: {most_payload}"
        );
        draft.problem("limits.payload_bytes", &message, None);
        return None;
    }
    let payload_bytes = usize::try_from(most_payload).unwrap_or(usize::MAX);
    Some(limits.over(TenantLimits { payload_bytes, ..TenantLimits::GENEROUS }))
}
