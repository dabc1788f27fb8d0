use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tidewire_client::{ClientError, Happening, NoToken, Options, Payload, Renew, Since, Token};
use tidewire_model::Random;

use crate::peer::{Peer, Served, await_happening, channel, meanwhile, next, refusal};

#[tokio::test]
async fn a_client_that_is_told_that_its_token_runs_out_sends_another_and_connects_with_that() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome_to(renewing(&peer, |_| true)).await;

    let serve = async {
        announce(&mut served).await;
        let refresh = served.command().await;
        served.say(json!({ "id": refresh["id"], "refreshed": { "expires_at": 9 } })).await;
        refresh["refresh"].clone()
    };
    let (refresh, happenings) = meanwhile(&mut client, serve).await;

    assert_eq!(refresh, json!({ "token": "token-1" }));
    let is_renewed = |happening: &Happening| matches!(happening, Happening::Renewed { .. });
    let happenings = await_happening(&mut client, happenings, is_renewed).await;
    let expected =
        [Happening::Expiring { at: 7, closes_at: 8 }, Happening::Renewed { expires_at: Some(9) }];
    assert_eq!(happenings, expected);

    client.cut();
    let (again, _) =
        meanwhile(&mut client, async { peer.accept().await.connect(true).await }).await;
    assert_eq!(again["token"], "token-1");
}

#[tokio::test]
async fn a_client_whose_token_has_run_out_fetches_another_before_it_comes_back() {
    let peer = Peer::listen().await;
    let (mut client, served) = peer.welcome_to(renewing(&peer, |_| true)).await;

    let serve = async {
        let (mut again, ()) = tokio::join!(peer.accept(), served.close(4402));
        again.connect(true).await
    };
    let (connect, _) = meanwhile(&mut client, serve).await;

    assert_eq!(
        (&connect["token"], &connect["resume"]["token"]),
        (&"token-1".into(), &"resume".into())
    );
}

#[tokio::test]
async fn without_a_source_of_tokens_one_that_has_run_out_is_the_end() {
    let peer = Peer::listen().await;
    let (mut client, served) = peer.welcome().await;

    let (ended, ()) = tokio::join!(next(&mut client), served.close(4402));

    assert!(matches!(ended, Err(ClientError::Lost(lost)) if lost.code() == Some(4402)));
}

#[tokio::test]
async fn a_source_whose_tokens_have_run_out_when_they_are_given_is_not_asked_for_ever() {
    let peer = Peer::listen().await;
    let (mut client, served) = peer.welcome_to(renewing(&peer, |_| true)).await;

    let serve = async {
        let (mut again, ()) = tokio::join!(peer.accept(), served.close(4402));
        again.command().await;
        again.close(4402).await;
    };
    let ended = async {
        loop {
            if let Err(error) = next(&mut client).await {
                return error;
            }
        }
    };
    let (ended, ()) = tokio::join!(ended, serve);

    assert!(ended.to_string().contains("4402"), "{ended}");
}

#[tokio::test]
async fn a_source_that_has_none_and_a_token_that_is_refused_are_told_and_it_is_asked_again() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome_to(renewing(&peer, |asked| asked > 1)).await;

    let serve = async {
        announce(&mut served).await;
        let refused = served.command().await;
        served.say(json!({ "id": refused["id"], "error": refusal(1101, "bad_token") })).await;
        (refused["refresh"].clone(), served.command().await["refresh"].clone())
    };
    let ((refused, again), happenings) = meanwhile(&mut client, serve).await;

    assert_eq!((&refused["token"], &again["token"]), (&"token-2".into(), &"token-3".into()));
    let told = happenings.iter().filter(|one| matches!(one, Happening::NotRenewed { .. }));
    assert_eq!(told.count(), 2, "{happenings:?}");
}

#[tokio::test]
async fn what_is_refused_because_the_token_has_run_out_is_asked_again_with_another() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome_to(renewing(&peer, |_| true)).await;
    client.subscribe(channel("room/1"), Since::Now);
    client.publish(channel("room/1"), Payload::json("1".into()).expect("json")).expect("room");

    let serve = async {
        let (subscribe, publish) = (served.command().await, served.command().await);
        // As a node says it whose client has had its time.
        served.say(json!({ "error": refusal(1102, "token_expired") })).await;
        for command in [&subscribe, &publish] {
            let error = refusal(1102, "token_expired");
            served.say(json!({ "id": command["id"], "error": error })).await;
        }
        let mut commands = Vec::new();
        while commands.len() < 3 {
            commands.push(served.command().await);
        }
        (publish["publish"].clone(), commands)
    };
    let ((publish, commands), happenings) = meanwhile(&mut client, serve).await;

    let has = |name: &str| commands.iter().any(|command| command.get(name).is_some());
    assert!(has("refresh") && has("subscribe"), "{commands:?}");
    assert!(commands.iter().any(|command| command["publish"] == publish), "{commands:?}");
    assert_eq!(happenings, []);
}

#[tokio::test]
async fn a_token_that_nobody_has_judged_when_the_old_one_ends_is_tried_by_connecting() {
    for answer in [None, Some(refusal(2002, "unavailable"))] {
        let peer = Peer::listen().await;
        let (mut client, mut served) = peer.welcome_to(renewing(&peer, |asked| asked == 1)).await;

        let serve = async {
            announce(&mut served).await;
            let refresh = served.command().await;
            if let Some(error) = answer {
                served.say(json!({ "id": refresh["id"], "error": error })).await;
            }
            let (mut again, ()) = tokio::join!(peer.accept(), served.close(4402));
            again.connect(true).await
        };
        let (connect, _) = meanwhile(&mut client, serve).await;

        assert_eq!(connect["token"], "token-1");
    }
}

#[tokio::test]
async fn a_token_of_the_applications_is_tried_by_connecting_as_well() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.refresh("other");

    let serve = async {
        served.command().await;
        let (mut again, ()) = tokio::join!(peer.accept(), served.close(4402));
        again.connect(true).await
    };
    let (connect, _) = meanwhile(&mut client, serve).await;

    assert_eq!(connect["token"], "other");
}

#[tokio::test]
async fn who_has_a_token_of_the_applications_waits_for_no_other_to_come_back() {
    for is_connected in [true, false] {
        let peer = Peer::listen().await;
        let (mut client, mut served) = peer.welcome_to(renewing(&peer, |_| false)).await;
        served.say(json!({ "error": refusal(1102, "token_expired") })).await;
        let is_told = |happening: &Happening| matches!(happening, Happening::NotRenewed { .. });
        await_happening(&mut client, Vec::new(), is_told).await;

        if is_connected {
            client.refresh("other");
            let serve = async {
                let refresh = served.command().await;
                served.say(json!({ "id": refresh["id"], "refreshed": { "expires_at": 9 } })).await;
            };
            let ((), happenings) = meanwhile(&mut client, serve).await;
            let is_renewed = |happening: &Happening| matches!(happening, Happening::Renewed { .. });
            await_happening(&mut client, happenings, is_renewed).await;
            client.cut();
        } else {
            client.cut();
            client.refresh("other");
        }
        let (again, _) =
            meanwhile(&mut client, async { peer.accept().await.connect(true).await }).await;

        assert_eq!(again["token"], "other");
    }
}

#[tokio::test]
async fn an_application_may_send_a_token_of_its_own() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.refresh("other");

    let (refresh, _) = meanwhile(&mut client, served.command()).await;

    assert_eq!(refresh["refresh"], json!({ "token": "other" }));
}

/// Options with which a client asks for `token-1`, `token-2` and so on, and gets those that `is_there`.
fn renewing(peer: &Peer, is_there: impl Fn(u32) -> bool + Send + Sync + 'static) -> Options {
    let asked = Arc::new(AtomicU32::new(0));
    let renew = Renew::new(move || {
        let asked = asked.fetch_add(1, Ordering::Relaxed) + 1;
        let token: Result<Token, NoToken> = if is_there(asked) {
            Ok(format!("token-{asked}").into())
        } else {
            Err("there is none".into())
        };
        future::ready(token)
    });
    // It waits for nobody.
    let random = Random::new(|| 0);
    Options { renew: Some(renew), random, ..Options::new(peer.url(), "token") }
}

async fn announce(served: &mut Served) {
    let expiring: Value = json!({ "expiring": { "at": 7, "closes_at": 8 } });
    served.say(expiring).await;
}
