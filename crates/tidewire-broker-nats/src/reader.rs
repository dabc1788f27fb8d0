use std::sync::Arc;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, AbortRegistration};
use futures_util::stream::{Abortable, BoxStream, SelectAll};
use tidewire_broker::{BrokerEvent, EventQueue, Notice, Partition};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::envelope::{self, Content, Misread};
use crate::link::Link;
use crate::metrics::{Metrics, Trouble};

/// One subscription's messages, each with the subscription they came by.
pub(crate) type Feed = BoxStream<'static, (Source, Message)>;

/// What a subscription is for.
#[derive(Clone)]
pub(crate) enum Source {
    Partition(Arc<Partition>),
    Node,
    All,
    Beats,
}

/// Makes a feed that ends, and with it the subscription, when the handle is aborted.
pub(crate) fn feed(source: Source, subscriber: Subscriber) -> (Feed, AbortHandle) {
    let (handle, registration): (_, AbortRegistration) = AbortHandle::new_pair();
    let messages = Abortable::new(subscriber, registration);
    (messages.map(move |message| (source.clone(), message)).boxed(), handle)
}

/// Decodes everything that arrives and hands it to the node.
///
/// All subscriptions share one task: a node has up to 256 of them per tenant, most of them quiet. It
/// never waits on anything but the network, or messages would pile up in the client library, which
/// drops them without saying how many.
pub(crate) struct Reader {
    pub(crate) feeds: SelectAll<Feed>,
    pub(crate) new_feeds: Receiver<Feed>,
    pub(crate) queue: EventQueue,
    /// Notified when publications may have been lost.
    pub(crate) suspect: Arc<Notify>,
    pub(crate) link: Arc<Link>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Reader {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.suspect.notified() => self.queue.suspect(),
                Some(feed) = self.new_feeds.recv() => self.feeds.push(feed),
                Some((source, message)) = self.feeds.next() => self.receive(&source, message),
            }
        }
    }

    fn receive(&mut self, source: &Source, message: Message) {
        self.metrics.incoming.count(message.payload.len());
        let content = match envelope::decode(message.payload) {
            Ok(content) => content,
            Err(misread) => return self.metrics.note(misread.into()),
        };
        match (source, content) {
            (Source::Node, Content::Notice(notice)) => self.push(BrokerEvent::Notice(notice)),
            (Source::Node, Content::Probe(ticket)) => self.link.confirm(ticket),
            (Source::All, Content::Notice(notice @ Notice::News(_))) => {
                self.push(BrokerEvent::Notice(notice));
            }
            (Source::Beats, Content::Beat(node)) => self.push(BrokerEvent::Heard(node)),
            (Source::Partition(own), Content::Publication(publication))
                if Partition::of(&publication.channel) == **own =>
            {
                self.push(BrokerEvent::Publication(publication));
            }
            (Source::Partition(own), Content::Announcement { channel, position })
                if Partition::of(&channel) == **own =>
            {
                self.push(BrokerEvent::Announcement { channel, position });
            }
            _ => self.metrics.note(Trouble::Misdirected),
        }
    }

    fn push(&mut self, event: BrokerEvent) {
        if !self.queue.push(event) {
            self.metrics.note(Trouble::EventQueueFull);
        }
    }
}

impl From<Misread> for Trouble {
    fn from(misread: Misread) -> Self {
        match misread {
            Misread::Version => Self::Version,
            Misread::Kind => Self::Kind,
            Misread::Malformed => Self::Malformed,
        }
    }
}
