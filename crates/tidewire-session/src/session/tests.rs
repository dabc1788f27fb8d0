use bytes::Bytes;
use tidewire_model::{
    DeltaFormat, Disconnect, Filter, Gap, GapReason, HistoryQuery, Incarnation, Payload,
    Permissions, Position, Publication, Recovery, Tenant, TenantChannel, UserId,
};

use super::*;
use crate::{Meeting, SavedPresence, SavedSubscription, Snapshot};

mod grants;
mod meeting;
mod presence;
mod replay;
mod small;
mod strict;

const NOW: u64 = 1_000;

#[test]
fn subscribing_joins_and_answers_with_the_position_it_begins_at() {
    let mut client = Client::new();

    client.send(subscribe(1, "a", Since::Now));
    let join = client.only_join("a", Since::Now);
    client.joined(join, at(7, &[], true));

    assert!(matches!(
        client.events(),
        [Event::Subscribed(Subscribed { request: Some(RequestId(1)), position, .. })]
            if *position == position_of(7)
    ));
}

#[test]
fn publications_come_in_order_once_and_gathered_into_one_event() {
    let mut client = Client::live("a", 7);

    for offset in [6, 7, 8, 9, 9, 8, 10] {
        client.deliver(offset);
    }

    assert_eq!(client.publications(), [vec![8, 9, 10]]);
}

#[test]
fn a_hole_is_filled_from_the_log_before_anything_after_it() {
    let mut client = Client::live("a", 7);

    client.deliver(8);
    client.deliver(10);
    let join = client.only_join("a", Since::Position(position_of(8)));
    client.deliver(11);
    client.joined(join, at(8, &[9, 10, 11], true));

    assert_eq!(client.publications(), [vec![8, 9, 10, 11]]);
}

#[test]
fn a_lagging_subscription_catches_up_page_by_page_and_the_client_hears_of_no_gap() {
    let mut client = Client::live("a", 7);

    client.lag();
    let join = client.only_join("a", Since::Position(position_of(7)));
    client.joined(join, at(7, &[8, 9], false));
    let join = client.only_join("a", Since::Position(position_of(9)));
    client.joined(join, at(9, &[10], true));
    client.join = join;
    client.deliver(11);

    assert_eq!(client.publications(), [vec![8, 9, 10, 11]]);
    assert_eq!(client.events().len(), 1);
}

#[test]
fn a_lagging_subscription_that_fell_out_of_the_window_hears_of_the_gap() {
    let mut client = Client::live("a", 7);

    client.lag();
    let join = client.only_join("a", Since::Position(position_of(7)));
    let recovery = Recovery::Failed(GapReason::Window);
    client.joined(join, Joined { recovery, lost: Some(12), ..at(19, &[20], true) });

    let gap = Gap { reason: GapReason::Window, position: position_of(19), missed: Some(12) };
    assert!(matches!(
        client.events(),
        [Event::Gap { gap: heard, .. }, Event::Publications { .. }] if *heard == gap
    ));
}

#[test]
fn deliveries_of_an_earlier_join_are_dropped() {
    let mut client = Client::live("a", 7);
    let old = client.join;

    client.send(unsubscribe(2, "a"));
    client.send(subscribe(3, "a", Since::Now));
    client.session.deliver(old, envelope(8), &mut client.out);
    client.session.gap(
        old,
        Gap { reason: GapReason::Reset, position: position_of(0), missed: None },
        &mut client.out,
    );
    client.session.joined(old, Ok(at(7, &[8], true)), &mut client.out);

    assert!(matches!(client.events(), [Event::Unsubscribed { .. }]));
}

#[test]
fn a_rewind_is_told_only_to_a_client_that_saw_the_lost_tail() {
    let rewind = Gap { reason: GapReason::Rewind, position: position_of(7), missed: None };
    let mut behind = Client::live("a", 7);
    let mut ahead = Client::live("a", 7);
    ahead.deliver(8);

    behind.session.gap(behind.join, rewind, &mut behind.out);
    ahead.session.gap(ahead.join, rewind, &mut ahead.out);
    behind.deliver(8);
    ahead.deliver(8);

    assert_eq!(behind.publications(), [vec![8]]);
    assert_eq!(ahead.publications(), [vec![8], vec![8]]);
}

#[test]
fn what_the_token_does_not_grant_is_refused() {
    let mut client = Client::granted(Permissions::default());

    client.send(subscribe(1, "a", Since::Now));
    client.send(publish(2, "a", 1));
    client.send(history(3, "a"));

    assert_eq!(client.refusals(), vec![ErrorCode::PermissionDenied; 3]);
    assert!(client.effects().is_empty());
}

#[test]
fn the_newest_publications_take_the_right_to_read_history() {
    let filter = Filter::parse("a").expect("filter");
    let mut client = Client::granted(Permissions::default().grant(filter, [Action::Subscribe]));

    client.send(subscribe(1, "a", Since::Last(10)));

    assert_eq!(client.refusals(), [ErrorCode::PermissionDenied]);
}

#[test]
fn each_command_that_cannot_be_is_refused_with_its_code() {
    let mut client = Client::live("a", 0);

    client.send(subscribe(1, "a", Since::Now));
    client.send(unsubscribe(2, "b"));
    client.send(publish(3, "a", 64 * 1_024 + 1));
    client.send(Request {
        id: RequestId(4),
        command: Command::Connect(tidewire_model::Connect::default()),
    });
    Arc::make_mut(&mut client.session.limits).subscriptions = 1;
    client.send(subscribe(5, "b", Since::Now));

    assert_eq!(
        client.refusals(),
        [
            ErrorCode::AlreadySubscribed,
            ErrorCode::NotSubscribed,
            ErrorCode::PayloadTooLarge,
            ErrorCode::AlreadyConnected,
            ErrorCode::LimitExceeded,
        ]
    );
}

#[test]
fn an_expired_token_still_pings_and_refreshes_and_does_nothing_else() {
    let mut client = Client::new();
    client.session.identity.expires_at = Some(NOW);

    client.send(publish(1, "a", 1));
    client.send(Request { id: RequestId(2), command: Command::Ping });
    let refresh = Command::Refresh { token: "new".into(), channel: None };
    client.send(Request { id: RequestId(3), command: refresh });

    assert_eq!(client.refusals(), [ErrorCode::TokenExpired]);
    assert!(matches!(client.effects()[..], [Effect::Refresh { .. }]));
}

#[test]
fn a_history_page_is_cut_to_the_limit() {
    let mut client = Client::new();

    client.send(history(1, "a"));

    assert!(matches!(
        client.effects()[..],
        [Effect::History { query: HistoryQuery { limit: 1_000, .. }, .. }]
    ));
}

#[test]
fn a_new_token_of_another_user_ends_the_connection() {
    let mut client = Client::new();
    let other = Identity { user: UserId::parse("eve").expect("user"), ..identity() };

    client.session.refreshed(RequestId(1), Ok(other), &mut client.out);

    assert_eq!(client.effects(), [Effect::Disconnect(Disconnect::BadToken)]);
}

#[test]
fn a_new_token_ends_the_subscriptions_it_does_not_allow() {
    let mut client = Client::live("a", 0);
    let narrower = Identity { permissions: Permissions::default(), ..identity() };

    client.session.refreshed(RequestId(1), Ok(narrower), &mut client.out);

    assert!(matches!(
        client.events(),
        [Event::Refreshed { .. }, Event::Unsubscribed { request: None, failure: Some(_), .. }]
    ));
    assert!(matches!(client.effects()[..], [Effect::Leave { .. }, Effect::Save]));
}

#[test]
fn a_resumed_session_joins_a_few_channels_at_a_time_from_the_clients_positions() {
    let names: Vec<_> = (0..6).map(|n| format!("c{n}")).collect();
    let start = Some(position_of(1));
    let subscriptions = names
        .iter()
        .map(|name| SavedSubscription { channel: channel(name), start, delta: None })
        .collect();
    let snapshot = Snapshot {
        identity: identity(),
        subscriptions,
        presence: SavedPresence::default(),
        grants: Vec::new(),
    };
    let mut out = Outputs::default();

    let positions = vec![(channel("c0"), position_of(9))];
    let mut session = Session::resume(snapshot.clone(), positions, Limits::default(), &mut out);

    let joins = joins_of(&out.effects);
    assert_eq!(joins.len(), 4);
    assert_eq!(joins[0].1, Since::Position(position_of(9)));
    assert_eq!(joins[1].1, Since::Position(position_of(1)));
    assert_eq!(session.snapshot(), snapshot);

    session.joined(joins[0].0, Ok(at(9, &[], true)), &mut out);
    assert_eq!(joins_of(&out.effects).len(), 5);
}

#[test]
fn a_resumed_session_takes_up_what_only_the_client_remembers() {
    let snapshot = Snapshot {
        identity: identity(),
        subscriptions: Vec::new(),
        presence: SavedPresence::default(),
        grants: Vec::new(),
    };
    let mut out = Outputs::default();

    let positions = vec![(channel("late"), position_of(9)), (channel("late"), position_of(9))];
    let session = Session::resume(snapshot, positions, Limits::default(), &mut out);

    let joins = joins_of(&out.effects);
    assert_eq!(joins.len(), 1);
    assert_eq!(joins[0].1, Since::Position(position_of(9)));
    assert_eq!(session.snapshot().subscriptions[0].channel, channel("late"));
}

#[test]
fn what_only_the_client_remembers_is_new_and_ends_if_the_tenant_has_as_many_channels_as_it_may() {
    let known = SavedSubscription { channel: channel("known"), start: None, delta: None };
    let watched = vec![channel("watched")];
    let snapshot = Snapshot {
        identity: identity(),
        subscriptions: vec![known],
        presence: SavedPresence { watched, entered: Vec::new() },
        grants: Vec::new(),
    };
    let mut out = Outputs::default();
    let positions = vec![(channel("named"), position_of(9))];
    let mut session = Session::resume(snapshot, positions, Limits::default(), &mut out);
    let joins: Vec<_> = out
        .effects
        .drain(..)
        .filter_map(|effect| match effect {
            Effect::Join { channel, join, is_new, .. } => Some((channel, join, is_new)),
            _ => None,
        })
        .collect();
    let is_new: Vec<_> = joins.iter().map(|(_, _, is_new)| *is_new).collect();
    assert_eq!(is_new, [false, true, false], "{joins:?}");

    let failure = Failure::new(ErrorCode::QuotaExceeded, "as many as it may");
    session.joined(joins[1].1, Err(failure.clone()), &mut out);

    let is_told = matches!(
        &out.events[..],
        [Event::Unsubscribed { request: None, channel: one, failure: Some(told) }]
            if *one == channel("named") && *told == failure
    );
    assert!(is_told, "{:?}", out.events);
    assert_eq!(out.effects, [Effect::Save]);
    assert!(session.joins().all(|(one, _)| *one != channel("named")));
}

#[test]
fn a_resumed_session_keeps_to_its_permissions_and_its_limit() {
    let open = Filter::parse("open/*").expect("filter");
    let permissions = Permissions::default().grant(open, [Action::Subscribe]);
    let subscriptions = ["open/1", "shut"]
        .map(|name| SavedSubscription { channel: channel(name), start: None, delta: None })
        .to_vec();
    let snapshot = Snapshot {
        identity: Identity { permissions, ..identity() },
        subscriptions,
        presence: SavedPresence::default(),
        grants: Vec::new(),
    };
    let limits = Limits { subscriptions: 1, ..Limits::default() };
    let mut out = Outputs::default();

    let positions = vec![(channel("open/2"), position_of(9))];
    let session = Session::resume(snapshot, positions, limits, &mut out);

    let ended = out.events.iter().map(|event| match event {
        Event::Unsubscribed { request: None, channel, failure: Some(failure) } => {
            (channel.as_str(), failure.code)
        }
        other => unreachable!("{other:?}"),
    });
    assert_eq!(
        ended.collect::<Vec<_>>(),
        [("shut", ErrorCode::PermissionDenied), ("open/2", ErrorCode::LimitExceeded)]
    );
    assert_eq!(
        session.joins().map(|(channel, _)| channel.as_str()).collect::<Vec<_>>(),
        ["open/1"]
    );
}

#[test]
fn a_first_join_that_fails_is_refused_and_one_of_a_resumed_session_is_tried_again() {
    let failure = Failure::new(ErrorCode::Unavailable, "log is unavailable");
    let mut first = Client::new();
    first.send(subscribe(1, "a", Since::Now));
    let join = first.only_join("a", Since::Now);

    first.session.joined(join, Err(failure.clone()), &mut first.out);

    assert_eq!(first.refusals(), [ErrorCode::Unavailable]);
    assert!(first.session.snapshot().subscriptions.is_empty());
    assert!(first.effects().contains(&Effect::Save));

    let mut lagging = Client::live("a", 7);
    lagging.lag();
    let join = lagging.only_join("a", Since::Position(position_of(7)));

    lagging.session.joined(join, Err(failure), &mut lagging.out);

    lagging.only_join("a", Since::Position(position_of(7)));
    assert!(lagging.events().is_empty());
}

#[test]
fn unsubscribing_while_joining_gives_the_turn_to_the_next() {
    let mut client = Client::new();
    Arc::make_mut(&mut client.session.limits).joins_in_flight = 1;
    client.send(subscribe(1, "a", Since::Now));
    client.send(subscribe(2, "b", Since::Now));
    client.only_join("a", Since::Now);

    client.send(unsubscribe(3, "a"));

    client.only_join("b", Since::Now);
}

/// A session with what it has put out since the last look.
struct Client {
    session: Session,
    out: Outputs,
    join: JoinId,
}

impl Client {
    fn new() -> Self {
        Self::granted(Permissions::all())
    }

    fn granted(permissions: Permissions) -> Self {
        let session = Session::new(Identity { permissions, ..identity() }, Limits::default());
        Self { session, out: Outputs::default(), join: JoinId::default() }
    }

    /// One that has seen `offset` in `name` and waits for the next.
    fn live(name: &str, offset: u64) -> Self {
        let mut client = Self::new();
        client.send(subscribe(99, name, Since::Now));
        client.join = client.only_join(name, Since::Now);
        client.joined(client.join, at(offset, &[], true));
        client.out = Outputs::default();
        client
    }

    /// As [`live`](Self::live) in "a", of a client that asked for deltas.
    fn live_with_deltas(offset: u64) -> Self {
        let mut client = Self::new();
        let (channel, delta) = (channel("a"), Some(DeltaFormat::Fossil));
        let command = Command::Subscribe { channel, since: Since::Now, delta, token: None };
        client.send(request(99, command));
        client.join = client.only_join("a", Since::Now);
        client.joined(client.join, at(offset, &[], true));
        client.out = Outputs::default();
        client
    }

    /// Answers every join, and those that follow, at offset 7; forgets what was put out.
    fn answer_all(&mut self) {
        loop {
            let joins = joins_of(&std::mem::take(&mut self.out).effects);
            if joins.is_empty() {
                return;
            }
            for (join, _) in joins {
                self.joined(join, at(7, &[], true));
            }
        }
    }

    /// Lags at `offset` and has its join answered with `joined`.
    fn catch_up_from(&mut self, offset: u64, joined: Joined) {
        self.lag();
        self.join = self.only_join("a", Since::Position(position_of(offset)));
        self.joined(self.join, joined);
    }

    fn meet(&mut self, run: std::ops::RangeInclusive<u64>) -> Meeting {
        self.session.meet(self.join, position_of(*run.start()), position_of(*run.end()))
    }

    fn send(&mut self, request: Request) {
        self.session.handle(request, NOW, &mut self.out);
    }

    fn joined(&mut self, join: JoinId, joined: Joined) {
        self.session.joined(join, Ok(joined), &mut self.out);
    }

    fn deliver(&mut self, offset: u64) {
        self.session.deliver(self.join, envelope(offset), &mut self.out);
    }

    fn skip(&mut self, offset: u64) -> bool {
        self.session.skip(self.join, position_of(offset), &mut self.out)
    }

    fn sample(&mut self, offset: u64) -> bool {
        self.session.sample(self.join, position_of(offset), &mut self.out)
    }

    fn lag(&mut self) {
        self.session.lagged(self.join, &mut self.out);
    }

    /// The join among the effects so far, of which there must be one; forgets the effects.
    fn only_join(&mut self, name: &str, since: Since) -> JoinId {
        self.only_join_at(&channel(name), since)
    }

    fn only_join_of(&mut self, channel: &Channel) -> JoinId {
        self.only_join_at(channel, Since::Now)
    }

    fn only_join_at(&mut self, channel: &Channel, since: Since) -> JoinId {
        let joins: Vec<_> = self
            .out
            .effects
            .drain(..)
            .filter_map(|effect| match effect {
                Effect::Join { channel, since, join, .. } => Some((channel, since, join)),
                _ => None,
            })
            .collect();
        assert_eq!(joins.len(), 1, "{joins:?}");
        assert_eq!((&joins[0].0, joins[0].1), (channel, since));
        joins[0].2
    }

    fn effects(&self) -> &[Effect] {
        &self.out.effects
    }

    fn events(&self) -> &[Event] {
        &self.out.events
    }

    fn refusals(&self) -> Vec<ErrorCode> {
        let code = |event: &Event| match event {
            Event::Failed { failure, .. } => Some(failure.code),
            _ => None,
        };
        self.out.events.iter().filter_map(code).collect()
    }

    /// The offsets of each publications event.
    fn publications(&self) -> Vec<Vec<u64>> {
        let offsets = |event: &Event| match event {
            Event::Publications { publications, .. } => {
                Some(publications.iter().map(|envelope| envelope.position.offset).collect())
            }
            _ => None,
        };
        self.out.events.iter().filter_map(offsets).collect()
    }
}

fn joins_of(effects: &[Effect]) -> Vec<(JoinId, Since)> {
    let join = |effect: &Effect| match effect {
        Effect::Join { since, join, .. } => Some((*join, *since)),
        _ => None,
    };
    effects.iter().filter_map(join).collect()
}

fn identity() -> Identity {
    Identity {
        tenant: Tenant::parse("acme").expect("tenant"),
        user: UserId::parse("ann").expect("user"),
        permissions: Permissions::all(),
        expires_at: Some(NOW + 60),
        provenance: None,
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("channel")
}

fn position_of(offset: u64) -> Position {
    Position::new(Incarnation::ZERO.epoch(1), offset)
}

fn envelope(offset: u64) -> Arc<Envelope> {
    Arc::new(Envelope::new(Publication {
        channel: TenantChannel::new(identity().tenant, channel("a")),
        position: position_of(offset),
        id: None,
        time_ms: 0,
        publisher: None,
        payload: Payload::binary(Bytes::from_static(b"x")),
    }))
}

fn at(offset: u64, missed: &[u64], live: bool) -> Joined {
    Joined {
        recovery: Recovery::Recovered,
        lost: None,
        position: position_of(offset),
        missed: missed.iter().map(|&offset| envelope(offset)).collect(),
        live,
        is_sampled: false,
    }
}

fn request(id: u32, command: Command) -> Request {
    Request { id: RequestId(id), command }
}

fn subscribe(id: u32, name: &str, since: Since) -> Request {
    request(id, Command::Subscribe { channel: channel(name), since, delta: None, token: None })
}

fn unsubscribe(id: u32, name: &str) -> Request {
    request(id, Command::Unsubscribe { channel: channel(name) })
}

fn publish(id: u32, name: &str, bytes: usize) -> Request {
    let payload = Payload::binary(Bytes::from(vec![0; bytes]));
    request(id, Command::Publish(Publish { channel: channel(name), id: None, payload }))
}

fn history(id: u32, name: &str) -> Request {
    let query = HistoryQuery {
        direction: tidewire_model::Direction::Backward,
        from: None,
        limit: u32::MAX,
    };
    request(id, Command::History { channel: channel(name), query })
}
