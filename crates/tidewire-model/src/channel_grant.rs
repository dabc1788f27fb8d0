use serde::{Deserialize, Serialize};

use crate::{Action, Actions, Channel, Provenance};

/// What a token of one channel says its bearer may do there, beside what the token of its connection
/// says, and until when.
///
/// It is good for the subscription that it was shown for, and what the other token denies it does not
/// allow.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ChannelGrant {
    pub channel: Channel,
    pub actions: Actions,
    /// Seconds since the Unix epoch after which it is void.
    pub expires_at: u64,
    /// What of the token can be revoked.
    pub provenance: Provenance,
}

impl ChannelGrant {
    pub fn allows(&self, action: Action, channel: &Channel) -> bool {
        self.actions.contains(action) && self.channel == *channel
    }

    pub fn is_expired(&self, unix_seconds: u64) -> bool {
        unix_seconds >= self.expires_at
    }
}
