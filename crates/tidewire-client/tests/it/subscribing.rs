use serde_json::{Value, json};
use tidewire_client::{Happening, Since};

use crate::peer::{
    EPOCH, NEXT_EPOCH, Peer, Served, await_happening, channel, meanwhile, next, refusal,
};

#[tokio::test]
async fn a_subscribe_that_is_refused_for_now_is_asked_again() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Last(20));

    let serve = async {
        let first = served.command().await;
        served.refuse_for_now(&first).await;
        (first["subscribe"].clone(), served.subscribe(7).await)
    };
    let ((first, again), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(first, again);
    let happenings = await_happening(&mut client, happenings, is_subscribed).await;
    assert_eq!(happenings.len(), 1, "{happenings:?}");
}

#[tokio::test]
async fn a_subscription_that_the_server_ends_for_now_goes_on_from_its_position() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Now);

    let serve = async {
        served.subscribe(7).await;
        let mut error = refusal(2000, "unavailable");
        error["retry_after_ms"] = 1.into();
        served.say(json!({ "unsubscribed": { "channel": "room/1", "error": error } })).await;
        served.subscribe(7).await
    };
    let (again, _) = meanwhile(&mut client, serve).await;

    assert_eq!(again["since"], json!({ "epoch": EPOCH, "offset": 7 }));
}

#[tokio::test]
async fn a_subscribe_that_is_refused_for_good_is_told_with_its_channel_and_forgotten() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Now);

    let serve = async {
        let command = served.command().await;
        let error = refusal(1100, "permission_denied");
        served.say(json!({ "id": command["id"], "error": error })).await;
    };
    let ((), happenings) = meanwhile(&mut client, serve).await;
    let happenings = await_happening(&mut client, happenings, |_| true).await;

    let [Happening::Refused { channel: Some(refused), .. }] = &happenings[..] else {
        panic!("{happenings:?}")
    };
    assert_eq!(*refused, channel("room/1"));
    // It is wanted no more, so that it can be wanted anew.
    client.subscribe(channel("room/1"), Since::Now);
    meanwhile(&mut client, served.subscribe(7)).await;
}

#[tokio::test]
async fn a_second_subscribe_of_a_channel_changes_nothing() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Now);
    let (_, happenings) = meanwhile(&mut client, served.subscribe(7)).await;
    await_happening(&mut client, happenings, is_subscribed).await;

    client.subscribe(channel("room/1"), Since::Last(20));
    client.subscribe(channel("room/2"), Since::Now);
    let (sent, _) = meanwhile(&mut client, served.subscribe(1)).await;

    assert_eq!(sent["channel"], "room/2");
    assert_eq!(client.position(&channel("room/1")).map(|position| position.offset), Some(7));
}

#[tokio::test]
async fn two_users_publications_of_the_same_id_are_both_passed_on() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Now);
    meanwhile(&mut client, served.subscribe(7)).await;

    publications(&mut served, EPOCH, &[(8, "ada", "1"), (9, "bob", "1"), (10, "ada", "1")]).await;

    assert_eq!(offsets(&mut client, 3).await, [8, 9, 10]);
    assert_eq!(client.next_repeat(), None);
}

#[tokio::test]
async fn what_a_rewind_brings_again_is_not_passed_on() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Now);
    meanwhile(&mut client, served.subscribe(7)).await;
    publications(&mut served, EPOCH, &[(8, "ada", "1"), (9, "ada", "2")]).await;

    let gap = json!({ "channel": "room/1", "reason": "rewind", "epoch": NEXT_EPOCH, "offset": 8 });
    served.say(json!({ "gap": gap })).await;
    publications(&mut served, NEXT_EPOCH, &[(9, "bob", "2"), (10, "ada", "2"), (11, "ada", "3")])
        .await;

    assert_eq!(offsets(&mut client, 4).await, [8, 9, 9, 11]);
    let (_, repeat) = client.next_repeat().expect("one came again");
    assert_eq!(repeat.offset, 10);
}

#[tokio::test]
async fn what_came_again_just_before_the_end_can_be_taken_after_it() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Now);
    meanwhile(&mut client, served.subscribe(7)).await;
    let gap = json!({ "channel": "room/1", "reason": "rewind", "epoch": NEXT_EPOCH, "offset": 7 });

    publications(&mut served, EPOCH, &[(8, "ada", "1")]).await;
    served.say(json!({ "gap": gap })).await;
    publications(&mut served, NEXT_EPOCH, &[(8, "ada", "1")]).await;
    let closed = served.close(4401);
    let happenings = async { while next(&mut client).await.is_ok() {} };
    tokio::join!(happenings, closed);

    let (_, repeat) = client.next_repeat().expect("one came again");
    assert_eq!(repeat.offset, 8);
    assert_eq!(client.next_repeat(), None);
}

fn is_subscribed(happening: &Happening) -> bool {
    matches!(happening, Happening::Subscribed(_))
}

async fn publications(served: &mut Served, epoch: &str, items: &[(u64, &str, &str)]) {
    let item = |(offset, user, id): &(u64, &str, &str)| -> Value {
        json!({ "offset": offset, "time": 1, "id": id, "user": user, "data": 1 })
    };
    let items: Vec<_> = items.iter().map(item).collect();
    let batch = json!({ "channel": "room/1", "epoch": epoch, "items": items });
    served.say(json!({ "publications": batch })).await;
}

/// Those of the next `count` publications.
async fn offsets(client: &mut tidewire_client::Client, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        if let Happening::Publication { publication, .. } = next(client).await.expect("goes on") {
            offsets.push(publication.position.offset);
        }
    }
    offsets
}

#[tokio::test]
async fn a_token_of_a_channel_is_shown_whenever_that_is_asked_for() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe_with(channel("room/1"), Since::Now, "of-room-1");
    let (first, _) = meanwhile(&mut client, served.subscribe(7)).await;

    client.refresh_channel(&channel("room/1"), "next-of-room-1");
    let serve = async {
        let refresh = served.command().await;
        let refused = json!({ "id": refresh["id"], "error": refusal(1101, "bad_token") });
        served.say(refused).await;
        // As a session is resumed whose store had not heard of it.
        let error = refusal(1100, "permission_denied");
        served.say(json!({ "unsubscribed": { "channel": "room/1", "error": error } })).await;
        (refresh["refresh"].clone(), served.subscribe(7).await)
    };
    let ((refresh, again), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(first["token"], "of-room-1");
    assert_eq!(refresh, json!({ "token": "next-of-room-1", "channel": "room/1" }));
    assert_eq!(again["token"], "next-of-room-1");
    let told = |happening: &Happening| matches!(happening, Happening::NotRenewed { .. });
    assert_eq!(happenings.iter().filter(|one| told(one)).count(), 1, "{happenings:?}");

    let serve = async {
        let command = served.command().await;
        let error = refusal(1102, "token_expired");
        served.say(json!({ "unsubscribed": { "channel": "room/1", "error": error } })).await;
        command
    };
    client.subscribe_with(channel("room/2"), Since::Now, "of-room-2");
    let (_, happenings) = meanwhile(&mut client, serve).await;
    let is_refused = |happening: &Happening| matches!(happening, Happening::Refused { .. });
    await_happening(&mut client, happenings, is_refused).await;
}
