//! The functions inside Redis.

use std::sync::LazyLock;

use redis::Cmd;
use xxhash_rust::xxh3::xxh3_64;

const SOURCE: &str =
    concat!(include_str!("functions.lua"), include_str!("presence.lua"), include_str!("quota.lua"));

/// Tells the libraries of two releases apart: a node loads its own beside others' and never
/// replaces one that another node may be using.
static VERSION: LazyLock<String> = LazyLock::new(|| format!("{:016x}", xxh3_64(SOURCE.as_bytes())));

static VERSIONED_SOURCE: LazyLock<String> = LazyLock::new(|| SOURCE.replace("VERSION", &VERSION));

/// What is done in one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Function {
    Append,
    KeptBytes,
    Read,
    Page,
    Heads,
    Mark,
    SessionSave,
    SessionClaim,
    LeaseRenew,
    LeaseMembers,
    LeaseWithdraw,
    TenantWrite,
    TenantChanges,
    Revoke,
    RevokedSince,
    PresenceApply,
    PresenceTally,
    PresencePage,
    PresenceCounts,
    PresenceExpire,
    PresenceChannels,
    PresenceOrphan,
    PresenceLives,
    QuotaSettle,
    QuotaWithdraw,
}

impl Function {
    pub(crate) const ALL: [Self; 25] = [
        Self::Append,
        Self::KeptBytes,
        Self::Read,
        Self::Page,
        Self::Heads,
        Self::Mark,
        Self::SessionSave,
        Self::SessionClaim,
        Self::LeaseRenew,
        Self::LeaseMembers,
        Self::LeaseWithdraw,
        Self::TenantWrite,
        Self::TenantChanges,
        Self::Revoke,
        Self::RevokedSince,
        Self::PresenceApply,
        Self::PresenceTally,
        Self::PresencePage,
        Self::PresenceCounts,
        Self::PresenceExpire,
        Self::PresenceChannels,
        Self::PresenceOrphan,
        Self::PresenceLives,
        Self::QuotaSettle,
        Self::QuotaWithdraw,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::KeptBytes => "kept_bytes",
            Self::Read => "read",
            Self::Page => "page",
            Self::Heads => "heads",
            Self::Mark => "mark",
            Self::SessionSave => "session_save",
            Self::SessionClaim => "session_claim",
            Self::LeaseRenew => "lease_renew",
            Self::LeaseMembers => "lease_members",
            Self::LeaseWithdraw => "lease_withdraw",
            Self::TenantWrite => "tenant_write",
            Self::TenantChanges => "tenant_changes",
            Self::Revoke => "revoke",
            Self::RevokedSince => "revoked_since",
            Self::PresenceApply => "presence_apply",
            Self::PresenceTally => "presence_tally",
            Self::PresencePage => "presence_page",
            Self::PresenceCounts => "presence_counts",
            Self::PresenceExpire => "presence_expire",
            Self::PresenceChannels => "presence_channels",
            Self::PresenceOrphan => "presence_orphan",
            Self::PresenceLives => "presence_lives",
            Self::QuotaSettle => "quota_settle",
            Self::QuotaWithdraw => "quota_withdraw",
        }
    }

    /// A call of this function, to which the arguments are still to be added.
    pub(crate) fn call(self, keys: &[impl AsRef<str>]) -> Cmd {
        let mut call = redis::cmd("FCALL");
        call.arg(format!("tidewire_{}_{}", *VERSION, self.name())).arg(keys.len());
        for key in keys {
            call.arg(key.as_ref());
        }
        call
    }
}

/// Loads the functions; an error that [`is_loaded_already`] is none.
pub(crate) fn load() -> Cmd {
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg(VERSIONED_SOURCE.as_str());
    load
}

/// Whether another node has been faster.
pub(crate) fn is_loaded_already(error: &redis::RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("already exists"))
}

/// Whether the server knows no functions at all.
pub(crate) fn is_unsupported(error: &redis::RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("unknown command"))
}

/// Whether a call found no function: nobody has loaded it, or somebody has flushed it.
pub(crate) fn is_missing(error: &redis::RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}
