use async_trait::async_trait;
use tidewire_model::{
    Channel, Generation, NodeId, Position, Publication, SessionId, Tenant, TenantChannel,
};
use tokio::sync::mpsc;

/// Carries publications and notices between nodes, at most once each.
///
/// Every method may be called from any task.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Hands a publication to every *other* node that is interested in its partition.
    ///
    /// Never waits: what the bounded buffer towards the network cannot take is dropped and counted,
    /// and the receivers repair the hole from the log. Publications handed over by one task for one
    /// channel are sent in that order.
    fn publish(&self, publication: &Publication);

    /// Tells every other node that is interested how far a channel has got, so that one which missed
    /// the newest publications notices. As unreliable as [`Broker::publish`], and as quick.
    fn announce(&self, channel: &TenantChannel, position: Position);

    /// Sends a notice to one node, as unreliably as a publication.
    fn notify(&self, node: &NodeId, notice: &Notice);

    /// Tells every other node that there is something to read, as unreliably as a publication: who
    /// follows it also looks by itself from time to time.
    fn notify_all(&self, news: News);

    /// Tells every other node that this one can be heard: [`BrokerEvent::Heard`]. It goes the way
    /// publications go, so that who hears nobody's beats hears nobody's publications either. As
    /// unreliable as [`Broker::publish`], and as quick.
    fn beat(&self);

    /// Begins to receive a partition. Returns when the network is known to have heard of it, or
    /// when that could not be learned in time: what was published before may have been missed, so
    /// read the log *after* this.
    ///
    /// Not counted: a second call for a partition changes nothing. Cancelling may leave the
    /// interest in place.
    async fn subscribe(&self, partition: &Partition) -> Result<(), BrokerError>;

    /// Ceases to receive a partition. A few more publications of it may still arrive.
    fn unsubscribe(&self, partition: &Partition);

    /// Takes the receiving end: everything that arrives for this node, in the order it arrived.
    ///
    /// The queue is bounded; when it is full, what arrives is dropped, counted, and announced by a
    /// [`BrokerEvent::Suspect`] as soon as there is room.
    ///
    /// # Panics
    ///
    /// If it was taken before.
    fn events(&self) -> mpsc::Receiver<BrokerEvent>;

    /// Whether the network can be reached now, and if not, what is wrong.
    fn health(&self) -> Result<(), BrokerError>;

    /// Sends what is buffered and takes leave of the network. Waits at most a few seconds.
    async fn close(&self);
}

/// What arrives at a node.
#[derive(Clone, Debug, PartialEq)]
pub enum BrokerEvent {
    Publication(Publication),
    /// The channel has got as far as this.
    Announcement {
        channel: TenantChannel,
        position: Position,
    },
    Notice(Notice),
    /// Another node's beat arrived.
    Heard(NodeId),
    /// Publications may have been lost: a reconnect, a full queue. Compare positions with the log.
    Suspect,
}

/// What one node tells another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// A session has been claimed elsewhere under `generation`: let go of it.
    SessionMoved { tenant: Tenant, session: SessionId, generation: Generation },
    /// Somebody wants the node to leave: it is to drain.
    Drain,
    /// There is something to read.
    News(News),
}

/// What has changed in the store, for every node to read. What is told says nothing else, so it may
/// come twice, late or in any order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    Tenants,
    Revocations,
}

/// A share of a tenant's channels, by hash: the unit of interest.
///
/// A node receives whole partitions and finds the channels in them itself, so the number of
/// subscriptions in the network does not grow with the number of channels.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Partition {
    pub tenant: Tenant,
    pub index: u8,
}

impl Partition {
    /// The partition of a channel: the low byte of XXH3-64 of its name, or of the name that it is named
    /// after if it is reserved; the same in every version.
    pub fn of(channel: &TenantChannel) -> Self {
        Self { tenant: channel.tenant.clone(), index: Self::index_of(&channel.channel) }
    }

    fn index_of(channel: &Channel) -> u8 {
        xxhash_rust::xxh3::xxh3_64(channel.stem().as_bytes()).to_le_bytes()[0]
    }
}

/// Why the broker could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    #[error("broker at {address} is unavailable: {reason}")]
    Unavailable { address: String, reason: String },
}
