//! Subscribers and publishers, each a task with a client of its own.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tidewire_client::{Channel, Client, Codec, Happening, Options, Payload, Since};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{NodeProcess, TENANTS, options};
use crate::ledger::{Heard, Saying, Verdict, judge};

/// How large a crowd is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) subscribers: usize,
    pub(crate) channels: usize,
    /// Publications in all. Each channel has a publisher at each node.
    pub(crate) publications: u64,
    /// How long each publisher rests after a publication, so that a fault finds it at work.
    pub(crate) rest: Duration,
}

/// Unacknowledged publications a publisher has under way.
const WINDOW: usize = 16;
/// After everything has been published and every fault is over.
const QUIESCENCE: Duration = Duration::from_mins(1);

/// Everything that came of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) deliveries: usize,
    /// Connections that took their session up again.
    pub(crate) resumed: usize,
    /// Connections that had to begin a new session.
    pub(crate) begun_anew: usize,
}

/// A crowd at work.
pub(crate) struct Crowd {
    size: Size,
    subscribers: JoinSet<(usize, Heard, Counts)>,
    publishers: JoinSet<Counts>,
    /// Publications acknowledged so far.
    progress: watch::Receiver<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    resumed: usize,
    begun_anew: usize,
}

impl Counts {
    fn count(&mut self, happening: &Happening) {
        match happening {
            Happening::Connected { resumed: true, .. } => self.resumed += 1,
            Happening::Connected { resumed: false, .. } => self.begun_anew += 1,
            _ => {}
        }
    }
}

impl Crowd {
    /// Connects the subscribers, waits until all of them have subscribed, and starts publishing
    /// through both nodes. Half of everybody is at each node and knows of the other.
    pub(crate) async fn gather(size: Size, a: &NodeProcess, b: &NodeProcess) -> Self {
        Self::gather_at(size, &[a, b]).await
    }

    /// As [`Crowd::gather`], at any number of nodes, of which everybody knows all. Publishers are at
    /// the first two.
    pub(crate) async fn gather_at(size: Size, nodes: &[&NodeProcess]) -> Self {
        let per_publisher = size.publications / (2 * size.channels as u64);
        let (arrived, mut arrivals) = watch::channel(0);
        let mut subscribers = JoinSet::new();
        for index in 0..size.subscribers {
            let channel = index % size.channels;
            let options = at_node(index / size.channels, channel, &format!("s{index}"), nodes);
            let arrived = arrived.clone();
            subscribers.spawn(async move {
                let (heard, counts) = listen(options, channel, 2 * per_publisher, arrived).await;
                (channel, heard, counts)
            });
        }
        tokio::select! {
            all = arrivals.wait_for(|arrived| *arrived == size.subscribers) => {
                all.expect("they are counted here");
            }
            Some(ended) = subscribers.join_next() => unreachable!("one has gone already: {ended:?}"),
        }

        let (acknowledged, progress) = watch::channel(0);
        let mut publishers = JoinSet::new();
        for index in 0..2 * size.channels {
            let (node, channel) = (index / size.channels, index % size.channels);
            let name = publisher_name(node, channel);
            let options = at_node(node, channel, &name, nodes);
            let acknowledged = acknowledged.clone();
            let work = Work { channel, name, count: per_publisher, rest: size.rest };
            publishers.spawn(publish(options, work, acknowledged));
        }
        Self { size, subscribers, publishers, progress }
    }

    /// Waits until this share of all publications has been acknowledged.
    pub(crate) async fn progress(&mut self, share: f64) {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of some thousands"
        )]
        let wanted = (self.size.publications as f64 * share) as u64;
        self.progress.wait_for(|done| *done >= wanted).await.expect("publishers go on");
    }

    /// Waits until everything is published and heard, and judges it.
    pub(crate) async fn disperse(mut self) -> Report {
        let mut counts = Vec::new();
        while let Some(publisher) = self.publishers.join_next().await {
            counts.push(publisher.expect("no publisher panics"));
        }
        let mut channels: HashMap<usize, Vec<Heard>> = HashMap::new();
        while let Some(subscriber) = self.subscribers.join_next().await {
            let (channel, heard, count) = subscriber.expect("no subscriber panics");
            channels.entry(channel).or_default().push(heard);
            counts.push(count);
        }
        let per_publisher = self.size.publications / (2 * self.size.channels as u64);
        let mut report = Report {
            verdict: Verdict::default(),
            deliveries: channels.values().flatten().map(|heard| heard.sayings.len()).sum(),
            resumed: counts.iter().map(|counts| counts.resumed).sum(),
            begun_anew: counts.iter().map(|counts| counts.begun_anew).sum(),
        };
        for (channel, subscribers) in channels {
            let published = (0..2)
                .map(|side| (publisher_name(side, channel), per_publisher))
                .collect::<HashMap<_, _>>();
            let Verdict { lost, duplicated, reordered, disagreements, gaps } =
                judge(&published, &subscribers);
            report.verdict.lost += lost;
            report.verdict.duplicated += duplicated;
            report.verdict.reordered += reordered;
            report.verdict.disagreements += disagreements;
            report.verdict.gaps += gaps;
        }
        report
    }
}

/// Alternates nodes and protocols, so that everything meets everything.
fn at_node(side: usize, channel: usize, user: &str, nodes: &[&NodeProcess]) -> Options {
    let mut nodes = nodes.to_vec();
    let count = nodes.len();
    nodes.rotate_left(side % count);
    let mut options = options(TENANTS[channel % TENANTS.len()], user, nodes);
    options.codec = if (side / count).is_multiple_of(2) { Codec::Json } else { Codec::Protobuf };
    options
}

/// The same name in every tenant, so that a mix-up of tenants would show.
fn channel_name(channel: usize) -> Channel {
    Channel::parse(&format!("room:{}", channel / TENANTS.len())).expect("a valid name")
}

fn publisher_name(side: usize, channel: usize) -> String {
    format!("p{side}-{channel}")
}

async fn listen(
    options: Options,
    channel: usize,
    expected: u64,
    arrived: watch::Sender<usize>,
) -> (Heard, Counts) {
    let mut client = Client::connect(options).await.expect("the client connects");
    client.subscribe(channel_name(channel), Since::Now);
    let mut heard = Heard::default();
    let mut counts = Counts::default();
    let mut has_arrived = false;
    while (heard.sayings.len() as u64) < expected {
        let Ok(happening) = timeout(QUIESCENCE, client.next()).await else { break };
        let happening = happening.expect("the client may go on");
        counts.count(&happening);
        match happening {
            Happening::Subscribed(_) if !has_arrived => {
                has_arrived = true;
                arrived.send_modify(|arrived| *arrived += 1);
            }
            Happening::Publication { publication, .. } => {
                let offset = publication.position.offset;
                heard.sayings.push((offset, saying(&publication.payload)));
            }
            Happening::Gap { .. } => heard.gaps += 1,
            _ => {}
        }
    }
    // Anything that is still on its way would be a duplicate: a moment more shows it.
    while let Ok(Ok(happening)) = timeout(Duration::from_millis(300), client.next()).await {
        if let Happening::Publication { publication, .. } = happening {
            heard.sayings.push((publication.position.offset, saying(&publication.payload)));
        }
    }
    client.close().await;
    (heard, counts)
}

/// What one publisher has to do.
struct Work {
    channel: usize,
    name: String,
    count: u64,
    rest: Duration,
}

async fn publish(options: Options, work: Work, acknowledged: watch::Sender<u64>) -> Counts {
    let Work { channel, name, count, rest } = work;
    let mut client = Client::connect(options).await.expect("the publisher connects");
    let mut counts = Counts::default();
    let (mut sent, mut done) = (0, 0);
    while done < count {
        while sent < count && client.unacknowledged() < WINDOW {
            sent += 1;
            let text = json!({ "from": name, "number": sent }).to_string();
            let payload = Payload::json(text.into()).expect("valid JSON");
            client.publish(channel_name(channel), payload).expect("the window is smaller");
            tokio::time::sleep(rest).await;
        }
        let happening = client.next().await.expect("the publisher may go on");
        counts.count(&happening);
        match happening {
            Happening::Published { .. } => {
                done += 1;
                acknowledged.send_modify(|acknowledged| *acknowledged += 1);
            }
            Happening::Rejected { refusal, .. } => unreachable!("publication refused: {refusal}"),
            _ => {}
        }
    }
    client.close().await;
    counts
}

fn saying(payload: &Payload) -> Saying {
    let value: serde_json::Value =
        serde_json::from_slice(payload.bytes()).expect("what was published");
    let from = value["from"].as_str().expect("a name").to_owned();
    (from, value["number"].as_u64().expect("a number"))
}
