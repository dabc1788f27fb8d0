use crate::Pace;

/// What the channels of one tenant may have and take, for whoever owns them: no bound where nothing is
/// said. Plain values, as [`TenantLimits`](crate::TenantLimits).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ChannelLimits {
    /// Publications of one channel, on one node, whoever publishes them; its rule may say otherwise.
    pub publish: Option<Pace>,
    /// Channels that are followed at once, on one node.
    pub followed: Option<u32>,
    /// Bytes that the log keeps of all of them together, each publication being 128 more than its
    /// payload.
    pub kept_bytes: Option<u64>,
}
