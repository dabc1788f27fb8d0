//! What tenants may have and ask.

use tidewire_model::{Pace, Quotas, TenantLimits};

use crate::config::document::Document;
use crate::config::draft::Draft;

/// The limits of tenants that have none of their own; nothing if they mean nothing, which has then
/// been reported.
pub(super) fn check(document: &Document, draft: &mut Draft) -> Option<TenantLimits> {
    let limits = &document.limits;
    let most_payload = document.server.max_message_bytes / 2;
    let payload_bytes = limits.payload_bytes.unwrap_or(most_payload);
    if payload_bytes > most_payload {
        let message = format!(
            "a payload may have half of `server.max_message_bytes` at the most: {most_payload}"
        );
        draft.problem("limits.payload_bytes", &message, None);
        return None;
    }
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let pace = |per_second, burst| Pace { per_second, burst };
    let (bytes, payload_bytes) = (limits.connection_publish_bytes, size(payload_bytes));
    Some(TenantLimits {
        connection_publish: pace(limits.connection_publish_rate, limits.connection_publish_burst),
        connection_publish_bytes: TenantLimits::bytes_pace(bytes, payload_bytes),
        connection_commands: pace(limits.connection_command_rate, limits.connection_command_burst),
        connection_subscriptions: size(limits.connection_subscriptions),
        payload_bytes,
        unsent_bytes: size(limits.unsent_bytes),
        quotas: Quotas {
            connections: limits.tenant_connections,
            rates: [limits.tenant_publish_rate, limits.tenant_bytes_in, limits.tenant_bytes_out]
                .into(),
        },
    })
}
