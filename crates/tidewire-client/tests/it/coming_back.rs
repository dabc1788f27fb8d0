use std::time::Duration;

use serde_json::json;
use tidewire_client::{Came, Client, Happening, Options, Since};
use tidewire_model::Random;
use tokio::time::Instant;

use crate::peer::{
    PING_INTERVAL, Peer, RETRY_AFTER_SECONDS, await_happening, channel, meanwhile, refusal,
};

/// How long a ping may be on its way.
const LATE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_move_whose_answer_is_lost_is_made_again_with_the_same_nonce() {
    let (leaving, dying) = (Peer::listen().await, Peer::listen().await);
    let mut options = Options::new(leaving.url(), "token");
    options.urls.push(dying.url());
    let (mut client, mut old) = leaving.welcome_to(options).await;

    let serve = async {
        old.say(json!({ "reconnect": { "after_ms": 0, "window_ms": 15_000, "token": "hint" } }))
            .await;
        let mut claiming = dying.accept().await;
        let claim = claiming.command().await;
        // The claim is made, so the old node lets go; and the new one dies before it can say so.
        drop(claiming);
        let closed = old.close(4408);
        let (mut survivor, ()) = tokio::join!(leaving.accept(), closed);
        (claim["connect"]["resume"].clone(), survivor.connect(true).await["resume"].clone())
    };
    let ((claim, again), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!((&claim["token"], &again["token"]), (&json!("hint"), &json!("hint")));
    assert_eq!(claim["nonce"], again["nonce"]);
    let is_back =
        |happening: &Happening| matches!(happening, Happening::Connected { resumed: true, .. });
    let happenings = await_happening(&mut client, happenings, is_back).await;
    let is_loss = |happening: &Happening| matches!(happening, Happening::Lost { .. });
    assert!(happenings.iter().any(is_loss), "{happenings:?}");
}

#[tokio::test]
async fn a_session_that_was_taken_up_elsewhere_is_left_to_whoever_did_and_another_begun() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room:42"), Since::Now);

    let serve = async {
        served.subscribe(7).await;
        let closed = served.close(4408);
        let (mut next, ()) = tokio::join!(peer.accept(), closed);
        (next.connect(false).await, next.subscribe(7).await)
    };
    let ((connect, subscribe), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(connect, json!({ "token": "token" }));
    assert_eq!(subscribe["since"]["offset"], 7);
    let is_back = |happening: &Happening| {
        matches!(happening, Happening::Connected { resumed: false, came: Came::Back, .. })
    };
    await_happening(&mut client, happenings, is_back).await;
}

#[tokio::test]
async fn a_session_that_is_taken_up_before_its_client_has_it_back_is_left_too() {
    let peer = Peer::listen().await;
    let (mut client, served) = peer.welcome().await;

    let serve = async {
        drop(served);
        let mut again = peer.accept().await;
        let resume = again.command().await["connect"]["resume"].clone();
        let closed = again.close(4408);
        let (mut next, ()) = tokio::join!(peer.accept(), closed);
        (resume, next.connect(false).await)
    };
    let ((resume, connect), _) = meanwhile(&mut client, serve).await;

    assert_eq!(resume["token"], "resume");
    assert_eq!(connect, json!({ "token": "token" }));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let (silent, other) = (Peer::listen().await, Peer::listen().await);
    let urls = vec![silent.url(), other.url()];
    let (mut client, _silent) =
        silent.welcome_to(Options { urls, ..Options::new("", "token") }).await;

    let ((), happenings) = meanwhile(&mut client, pass(PING_INTERVAL)).await;
    assert_eq!(happenings, []);
    pass(LATE).await;
    let serve = async { other.accept().await.connect(true).await };
    let (connect, happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(connect["resume"]["token"], "resume");
    assert!(matches!(happenings[0], Happening::Lost { .. }), "{happenings:?}");
}

#[tokio::test]
async fn pings_are_signs_of_life() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;

    for _ in 0..4 {
        pass(PING_INTERVAL).await;
        let ((), happenings) = meanwhile(&mut client, served.ping()).await;
        assert_eq!(happenings, []);
    }
}

/// Lets time pass.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn who_comes_back_to_a_node_that_leaves_goes_where_it_says() {
    let (leaving, other) = (Peer::listen().await, Peer::listen().await);
    let (mut client, served) = leaving.welcome().await;
    drop(served);

    let body = json!({ "message": "the node is leaving", "endpoints": [other.url()] }).to_string();
    let serve = async {
        leaving.refuse("503 Service Unavailable", &body).await;
        let mut new = other.accept().await;
        new.connect(true).await
    };
    let (connect, happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(connect["resume"]["token"], "resume");
    let is_back =
        |happening: &Happening| matches!(happening, Happening::Connected { resumed: true, .. });
    await_happening(&mut client, happenings, is_back).await;
}

/// A client that would come back at once if nobody told it otherwise, and has lost its connection.
async fn hasty(peer: &Peer) -> Client {
    let options = Options { random: Random::new(|| 0), ..Options::new(peer.url(), "token") };
    peer.welcome_to(options).await.0
}

#[tokio::test]
async fn who_is_told_by_a_full_node_when_to_come_back_waits_so_long() {
    let peer = Peer::listen().await;
    let mut client = hasty(&peer).await;

    let serve = async {
        let refused_at = peer.refuse("503 Service Unavailable", "").await;
        peer.accept().await.connect(true).await;
        refused_at.elapsed()
    };
    let (waited, _) = meanwhile(&mut client, serve).await;

    assert!(waited >= Duration::from_secs(RETRY_AFTER_SECONDS), "{waited:?}");
}

#[tokio::test]
async fn who_is_refused_for_its_tenant_comes_back_when_it_is_told() {
    let peer = Peer::listen().await;
    let mut client = hasty(&peer).await;

    let serve = async {
        let mut full = peer.accept().await;
        let connect = full.command().await;
        let mut error = refusal(2006, "quota_exceeded");
        error["retry_after_ms"] = 1_000.into();
        let refused_at = Instant::now();
        full.say(json!({ "id": connect["id"], "error": error })).await;
        full.close(1013).await;
        peer.accept().await.connect(true).await;
        refused_at.elapsed()
    };
    let (waited, _) = meanwhile(&mut client, serve).await;

    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}
