use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tidewire_client::{
    Client, ClientError, Happening, NoToken, OpenError, Options, Tickets, Token,
};
use tidewire_model::Random;

use crate::peer::{Peer, meanwhile, refusal};

#[tokio::test]
async fn each_connection_is_opened_with_another_ticket_and_with_no_token() {
    let peer = Peer::listen().await;
    let connecting = Client::connect(with_tickets(&peer, |_| true));
    let serve = async {
        let mut served = peer.accept().await;
        (served.connect(false).await, served)
    };
    let (client, (first, served)) = tokio::join!(connecting, serve);
    let mut client = client.expect("it is let in");

    drop(served);
    let (again, _) =
        meanwhile(&mut client, async { peer.accept().await.connect(true).await }).await;

    assert_eq!((&first["ticket"], first.get("token")), (&json!("ticket-1"), None));
    assert_eq!((&again["ticket"], again.get("token")), (&json!("ticket-2"), None));
    assert_eq!(again["resume"]["token"], "resume");
}

#[tokio::test]
async fn that_there_is_no_ticket_is_an_attempt_that_has_failed() {
    let peer = Peer::listen().await;
    let none = Client::connect(with_tickets(&peer, |_| false)).await;
    assert!(matches!(none, Err(ClientError::Open(OpenError::Ticket(_)))), "nobody was let in");

    let (mut client, served) = peer.welcome_to(with_tickets(&peer, |asked| asked != 2)).await;
    drop(served);
    let (again, _) =
        meanwhile(&mut client, async { peer.accept().await.connect(true).await }).await;

    assert_eq!(again["ticket"], "ticket-3");
}

#[tokio::test]
async fn who_has_run_out_of_time_comes_back_with_another_ticket_at_once() {
    for has_grace in [true, false] {
        let peer = Peer::listen().await;
        let (mut client, mut served) = peer.welcome_to(with_tickets(&peer, |_| true)).await;

        let serve = async {
            if has_grace {
                served.say(json!({ "error": refusal(1102, "token_expired") })).await;
                peer.accept().await.connect(true).await
            } else {
                let (mut again, ()) = tokio::join!(peer.accept(), served.close(4402));
                again.connect(true).await
            }
        };
        let (again, happenings) = meanwhile(&mut client, serve).await;

        assert_eq!(again["ticket"], "ticket-2", "{has_grace}");
        assert!(matches!(happenings[0], Happening::Lost { .. }), "{happenings:?}");
    }
}

/// Options with which a client asks for `ticket-1`, `ticket-2` and so on, and gets those that `is_there`.
fn with_tickets(peer: &Peer, is_there: impl Fn(u32) -> bool + Send + Sync + 'static) -> Options {
    let asked = Arc::new(AtomicU32::new(0));
    let tickets = Tickets::new(move || {
        let asked = asked.fetch_add(1, Ordering::Relaxed) + 1;
        let ticket: Result<Token, NoToken> = if is_there(asked) {
            Ok(format!("ticket-{asked}").into())
        } else {
            Err("there is none".into())
        };
        future::ready(ticket)
    });
    // It waits for nobody.
    let random = Random::new(|| 0);
    Options { tickets: Some(tickets), random, ..Options::new(peer.url(), "") }
}
