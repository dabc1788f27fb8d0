//! The names of everything in Redis.

use tidewire_model::{Tenant, TenantChannel};
use tidewire_store::{Life, SessionKey, TicketName};

use crate::partition::Partition;

/// Makes keys that begin with the configured prefix.
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// The fence of all partitions, where one server holds them all.
    pub(crate) fn shared_fence(&self) -> String {
        format!("{}:f", self.prefix)
    }

    pub(crate) fn fence(&self, partition: Partition) -> String {
        format!("{}:{{{}}}:f", self.prefix, partition.tag())
    }

    /// The numbering of a channel.
    pub(crate) fn meta(&self, partition: Partition, channel: &TenantChannel) -> String {
        self.of_channel(partition, 'm', channel)
    }

    /// The publications of a channel.
    pub(crate) fn log(&self, partition: Partition, channel: &TenantChannel) -> String {
        self.of_channel(partition, 'l', channel)
    }

    fn of_channel(&self, partition: Partition, kind: char, channel: &TenantChannel) -> String {
        let TenantChannel { tenant, channel } = channel;
        format!("{}:{{{}}}:{kind}:{tenant}:{channel}", self.prefix, partition.tag())
    }

    /// Who is in a channel.
    pub(crate) fn members(&self, partition: Partition, channel: &TenantChannel) -> String {
        self.of_channel(partition, 'p', channel)
    }

    /// Who leaves when, of a partition or of all together.
    pub(crate) fn away(&self, partition: Option<Partition>) -> String {
        self.of_part(partition, "a")
    }

    /// Which channels a life has members in, of a partition or of all together. Its end is the life.
    pub(crate) fn channels_of(&self, partition: Option<Partition>, life: &Life) -> String {
        self.of_part(partition, &format!("h:{life}"))
    }

    fn of_part(&self, partition: Option<Partition>, rest: &str) -> String {
        match partition {
            Some(partition) => format!("{}:{{{}}}:{rest}", self.prefix, partition.tag()),
            None => format!("{}:{rest}", self.prefix),
        }
    }

    /// What tenants keep, in a partition or in all together: bytes of each, of each of their channels, and
    /// when those run out.
    pub(crate) fn kept(&self, partition: Option<Partition>) -> [String; 3] {
        ["b:t", "b:c", "b:x"].map(|kind| self.of_part(partition, kind))
    }

    /// There never is one of this name.
    pub(crate) fn presence_guard(&self, partition: Partition) -> String {
        format!("{}:{{{}}}:z", self.prefix, partition.tag())
    }

    /// The lives that may have members anywhere.
    pub(crate) fn lives(&self) -> String {
        format!("{}:{{nodes}}:v", self.prefix)
    }

    /// What the functions make the names of the dedupe buckets of.
    pub(crate) fn dedupe(&self, partition: Partition) -> String {
        format!("{}:{{{}}}:d:", self.prefix, partition.tag())
    }

    /// A session is alone in its calls, and its random name spreads over a cluster by itself.
    pub(crate) fn session(&self, key: &SessionKey) -> String {
        format!("{}:s:{}:{{{}}}", self.prefix, key.tenant, key.session)
    }

    /// What a ticket stands for; its name spreads over a cluster by itself.
    pub(crate) fn ticket(&self, name: &TicketName) -> String {
        format!("{}:t:{{{name}}}", self.prefix)
    }

    /// What is written to be waited for.
    pub(crate) fn mark(&self) -> String {
        format!("{}:{{nodes}}:w", self.prefix)
    }

    /// What is kept of tenants: state, documents, versions, owners of marks, marks.
    pub(crate) fn tenants(&self) -> [String; 5] {
        ["v", "d", "c", "u", "m"].map(|kind| format!("{}:{{tenants}}:{kind}", self.prefix))
    }

    /// What is kept of revocations: themselves, versions, when they run out, how many tenants have,
    /// state.
    pub(crate) fn revocations(&self) -> [String; 5] {
        ["r", "rc", "rx", "rn", "rv"].map(|kind| format!("{}:{{tenants}}:{kind}", self.prefix))
    }

    /// What nodes have of a tenant's quotas. Tenants spread over a cluster.
    pub(crate) fn quotas(&self, tenant: &Tenant) -> String {
        format!("{}:q:{{{tenant}}}", self.prefix)
    }

    /// The leases of nodes, and when they run out.
    pub(crate) fn leases(&self) -> [String; 2] {
        ["l", "x"].map(|kind| format!("{}:{{nodes}}:{kind}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use tidewire_model::{Channel, NodeId, SessionId};

    use super::*;

    /// Of few letters, among them all that are between the parts of a key, so that different names are
    /// often nearly alike.
    fn names() -> impl Strategy<Value = (TenantChannel, SessionKey, Life)> {
        let name = ("[mp]{1,2}|m-p", "[mp:.{}]{1,5}|[mp]/p:m", 0..3_u8, "[mp]{1,2}", 0..12_u64);
        name.prop_map(|(tenant, channel, session, node, started_at_ms)| {
            let tenant = Tenant::parse(&tenant).expect("valid");
            let channel = Channel::parse(&channel).expect("valid");
            let session = SessionId::from_bytes([session; 16]);
            let node = NodeId::parse(&node).expect("valid");
            (
                TenantChannel::new(tenant.clone(), channel),
                SessionKey { tenant, session },
                Life { node, started_at_ms },
            )
        })
    }

    /// Every key that is about something named, and what it is about.
    fn keys((channel, session, life): &(TenantChannel, SessionKey, Life)) -> Vec<(String, String)> {
        let (keys, partition) = (Keys::new("tw".into()), Partition::of(channel));
        vec![
            (keys.meta(partition, channel), format!("numbering {channel:?}")),
            (keys.log(partition, channel), format!("log {channel:?}")),
            (keys.members(partition, channel), format!("members {channel:?}")),
            (keys.session(session), format!("session {session:?}")),
            (keys.quotas(&channel.tenant), format!("quotas {:?}", channel.tenant)),
            (keys.channels_of(None, life), format!("channels of {life:?}")),
            (keys.shared_fence(), "fence".into()),
            (keys.away(None), "away".into()),
            (keys.kept(None).concat(), "kept".into()),
        ]
    }

    proptest! {
        #[test]
        fn no_two_things_have_one_key(one in names(), other in names()) {
            let mut about = HashMap::new();
            for (key, thing) in keys(&one).into_iter().chain(keys(&other)) {
                let known = about.entry(key).or_insert_with(|| thing.clone());

                prop_assert_eq!(&*known, &thing);
            }
        }
    }
}
