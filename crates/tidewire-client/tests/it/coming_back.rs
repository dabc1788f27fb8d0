use serde_json::json;
use tidewire_client::{ClientError, Happening, Lost, Options};

use crate::peer::{Peer, await_happening, meanwhile, next};

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
async fn a_session_that_was_taken_up_elsewhere_is_not_fought_for() {
    let peer = Peer::listen().await;
    let (mut client, served) = peer.welcome().await;

    let (ended, ()) = tokio::join!(next(&mut client), served.close(4408));

    let Err(ClientError::Lost(Lost::Closed { code: Some(4408), .. })) = ended else {
        panic!("{ended:?}")
    };
}
