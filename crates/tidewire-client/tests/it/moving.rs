//! Two connections for a moment, because a node leaves.

use serde_json::{Value, json};
use tidewire_client::{Came, Client, Happening, Options, Payload, Since};

use crate::peer::{EPOCH, Peer, Served, await_happening, channel, meanwhile};

const CHANNEL: &str = "room:42";

/// Two nodes, and a client of the first that has read 5 in its channel, asked to move to the other.
async fn asked_to_move(overlap: bool) -> (Client, Served, Peer) {
    let (from, to) = (Peer::listen().await, Peer::listen().await);
    let urls = vec![from.url(), to.url()];
    let options = Options { urls, overlap, ..Options::new("", "token") };
    let (mut client, mut old) = from.welcome_to(options).await;
    client.subscribe(channel(CHANNEL), Since::Now);
    let serve = async {
        old.subscribe(4).await;
        old.publication(5).await;
        old.say(json!({ "reconnect": { "after_ms": 0, "window_ms": 15_000, "token": "hint" } }))
            .await;
    };
    let ((), happenings) = meanwhile(&mut client, serve).await;
    let is_asked = |happening: &Happening| matches!(happening, Happening::Asked { .. });
    await_happening(&mut client, happenings, is_asked).await;
    (client, old, to)
}

/// A client that only knows one node, which has asked it to move to one of `endpoints`.
async fn asked_to_move_to(endpoints: &[String]) -> (Client, Served, Peer) {
    let from = Peer::listen().await;
    let (mut client, mut old) = from.welcome().await;
    let hint =
        json!({ "after_ms": 0, "window_ms": 15_000, "token": "hint", "endpoints": endpoints });
    let serve = old.say(json!({ "reconnect": hint }));
    let ((), happenings) = meanwhile(&mut client, serve).await;
    let is_asked = |happening: &Happening| matches!(happening, Happening::Asked { .. });
    await_happening(&mut client, happenings, is_asked).await;
    (client, old, from)
}

#[tokio::test]
async fn a_client_goes_first_where_it_is_told_to() {
    let to = Peer::listen().await;
    let (mut client, mut old, _from) = asked_to_move_to(&[to.url()]).await;

    let serve = async {
        let mut new = to.accept().await;
        let connect = new.connect(true).await;
        assert_eq!(old.closed().await, Some(1000));
        (new, connect)
    };
    let ((_new, connect), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(connect["resume"]["token"], "hint");
    assert_eq!(came(&happenings), [Came::Over]);
}

#[tokio::test]
async fn where_nobody_answers_or_a_stranger_does_gives_way_to_the_clients_own_address() {
    let nobody = Peer::listen().await.url();
    let stranger = Peer::listen().await;
    let (mut client, _old, from) = asked_to_move_to(&[nobody, stranger.url()]).await;

    let serve = async {
        stranger.turn_away().await;
        let mut new = from.accept().await;
        new.connect(true).await;
        new
    };
    let (_new, happenings) = meanwhile(&mut client, serve).await;

    let is_connected = |happening: &Happening| matches!(happening, Happening::Connected { .. });
    let happenings = await_happening(&mut client, happenings, is_connected).await;
    assert_eq!(came(&happenings), [Came::Over]);
}

#[tokio::test]
async fn an_address_with_another_scheme_is_not_tried() {
    let to = Peer::listen().await;
    let safer = to.url().replacen("ws://", "wss://", 1);
    let (mut client, _old, from) = asked_to_move_to(&[safer]).await;

    let serve = async {
        tokio::select! {
            biased;
            () = to.is_called() => unreachable!("it talks to who is named in another scheme"),
            mut new = from.accept() => {
                new.connect(true).await;
                new
            }
        }
    };
    let (_new, happenings) = meanwhile(&mut client, serve).await;

    assert!(!happenings.iter().any(|one| matches!(one, Happening::Lost { .. })), "{happenings:?}");
}

#[tokio::test]
async fn while_a_second_connection_opens_the_first_is_read() {
    let (mut client, mut old, to) = asked_to_move(true).await;

    let serve = async {
        let mut opening = to.accept().await;
        let claim = opening.command().await;
        old.publication(6).await;
        (opening, claim)
    };
    let ((_opening, claim), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(claim["connect"]["resume"]["positions"][0]["offset"], 5);
    let happenings = await_happening(&mut client, happenings, is_publication).await;
    assert_eq!(offsets(&happenings), [6]);
}

#[tokio::test]
async fn the_old_connection_is_closed_when_the_new_one_is_in_step() {
    let (mut client, mut old, to) = asked_to_move(true).await;

    let serve = async {
        let mut new = to.accept().await;
        new.connect(true).await;
        for offset in [6, 7] {
            old.publication(offset).await;
        }
        new.confirm(5).await;
        new.publication(6).await;
        old.publication(8).await;
        for offset in [7, 8] {
            new.publication(offset).await;
        }
        assert_eq!(old.closed().await, Some(1000));
        new.publication(9).await;
        new
    };
    let (_new, happenings) = meanwhile(&mut client, serve).await;

    let is_last = |happening: &Happening| offsets(std::slice::from_ref(happening)) == [9];
    let happenings = await_happening(&mut client, happenings, is_last).await;
    assert_eq!(offsets(&happenings), [6, 7, 8, 9]);
    assert_eq!(came(&happenings), [Came::Over]);
    assert_eq!(happenings.iter().filter(|one| matches!(one, Happening::Left)).count(), 1);
    assert_eq!(client.next_repeat(), None, "what both bring is no repeat");
}

#[tokio::test]
async fn what_the_old_one_acknowledges_after_the_move_is_not_mistaken_for_an_answer_of_the_new() {
    let (mut client, mut old, to) = asked_to_move(true).await;
    let data = || Payload::json("1".into()).expect("it is JSON");
    client.publish(channel(CHANNEL), data()).expect("there is room");

    let serve = async {
        let in_flight = old.command().await;
        let mut new = to.accept().await;
        new.connect(true).await;
        let again = new.command().await;
        // Any number that the new connection might use.
        for id in 1..=8 {
            old.store(&json!({ "id": id }), 99).await;
        }
        old.publication(6).await;
        new.confirm(6).await;
        assert_eq!(old.closed().await, Some(1000));
        new.store(&again, 6).await;
        (in_flight, again, new)
    };
    let ((in_flight, again, _new), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(in_flight["publish"], again["publish"]);
    let is_published = |happening: &Happening| matches!(happening, Happening::Published { .. });
    let happenings = await_happening(&mut client, happenings, is_published).await;
    let Some(Happening::Published { position, .. }) =
        happenings.iter().find(|one| is_published(one))
    else {
        unreachable!("it was awaited")
    };
    assert_eq!(position.offset, 6);
    assert_eq!(client.unacknowledged(), 0);
}

#[tokio::test]
async fn an_old_connection_that_dies_first_costs_nothing() {
    let (mut client, mut old, to) = asked_to_move(true).await;

    let serve = async {
        let mut new = to.accept().await;
        let connect = new.command().await;
        old.publication(6).await;
        old.close(4408).await;
        new.welcome(&connect, true).await;
        new.confirm(5).await;
        for offset in [6, 7] {
            new.publication(offset).await;
        }
        new
    };
    let (_new, happenings) = meanwhile(&mut client, serve).await;

    let is_last = |happening: &Happening| offsets(std::slice::from_ref(happening)) == [7];
    let happenings = await_happening(&mut client, happenings, is_last).await;
    assert_eq!(offsets(&happenings), [6, 7]);
    assert!(!happenings.iter().any(|one| matches!(one, Happening::Lost { .. })), "{happenings:?}");
}

#[tokio::test]
async fn a_client_that_may_hold_one_connection_closes_it_before_it_opens_another() {
    let (mut client, mut old, to) = asked_to_move(false).await;

    let serve = async {
        assert_eq!(old.closed().await, Some(1000));
        let mut new = to.accept().await;
        new.connect(true).await;
        new.confirm(5).await;
        new.publication(6).await;
        new
    };
    let (_new, happenings) = meanwhile(&mut client, serve).await;

    let happenings = await_happening(&mut client, happenings, is_publication).await;
    assert_eq!(offsets(&happenings), [6]);
    assert_eq!(came(&happenings), [Came::Back]);
    assert!(matches!(happenings[0], Happening::Left), "{happenings:?}");
}

#[tokio::test]
async fn an_older_connection_that_ends_early_leaves_the_new_one_to_catch_up() {
    let (mut client, mut old, to) = asked_to_move(true).await;

    let serve = async {
        let mut new = to.accept().await;
        new.connect(true).await;
        new.confirm(5).await;
        old.publication(6).await;
        old.close(4408).await;
        for offset in [6, 7] {
            new.publication(offset).await;
        }
        new
    };
    let (_new, happenings) = meanwhile(&mut client, serve).await;

    let is_last = |happening: &Happening| offsets(std::slice::from_ref(happening)) == [7];
    let happenings = await_happening(&mut client, happenings, is_last).await;
    assert_eq!(offsets(&happenings), [6, 7]);
    assert!(happenings.contains(&Happening::Left));
}

impl Served {
    /// Sends the publication of this offset.
    async fn publication(&mut self, offset: u64) {
        let items = json!([{ "offset": offset, "time": 0, "data": offset }]);
        self.say(json!({ "publications": { "channel": CHANNEL, "epoch": EPOCH, "items": items } }))
            .await;
    }

    /// Confirms that the session has brought the channel back.
    async fn confirm(&mut self, offset: u64) {
        let subscribed: Value =
            json!({ "channel": CHANNEL, "recovered": true, "epoch": EPOCH, "offset": offset });
        self.say(json!({ "subscribed": subscribed })).await;
    }
}

fn is_publication(happening: &Happening) -> bool {
    matches!(happening, Happening::Publication { .. })
}

fn offsets(happenings: &[Happening]) -> Vec<u64> {
    let offset = |happening: &Happening| match happening {
        Happening::Publication { publication, .. } => Some(publication.position.offset),
        _ => None,
    };
    happenings.iter().filter_map(offset).collect()
}

fn came(happenings: &[Happening]) -> Vec<Came> {
    let came = |happening: &Happening| match happening {
        Happening::Connected { came, .. } => Some(*came),
        _ => None,
    };
    happenings.iter().filter_map(came).collect()
}
