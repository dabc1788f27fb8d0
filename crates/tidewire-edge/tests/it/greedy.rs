//! Clients that ask for more at once than is done for them at once.

use tidewire_client::ServerEvent;

use crate::fleet::{Fleet, settle, until};
use crate::peer::{Bystander, Peer, text};

fn frame(commands: impl Iterator<Item = String>) -> String {
    format!("[{}]", commands.collect::<Vec<_>>().join(","))
}

fn publish(id: u32) -> String {
    format!(r#"{{"id":{id},"publish":{{"channel":"room/1","data":{id}}}}}"#)
}

#[tokio::test]
async fn a_few_pages_are_read_at_once_and_in_the_end_all() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.published("room/1", text("one")).await;
    fleet.log.hold(true);
    let ask = |id: u32| format!(r#"{{"id":{id},"history":{{"channel":"room/1","limit":10}}}}"#);
    peer.send_text(frame((1..=64).map(ask)));
    peer.flush().await;
    until(|| fleet.log.waiting() == 4).await;
    settle().await;
    let most_waiting = fleet.log.most_waiting();

    fleet.log.hold(false);

    assert_eq!(most_waiting, 4);
    let mut answered = Vec::new();
    while answered.len() < 64 {
        let ServerEvent::History { request, .. } = peer.next().await else {
            unreachable!("no page")
        };
        answered.push(request.0);
    }
    answered.sort_unstable();
    assert!(answered.into_iter().eq(1..=64));
    assert_eq!(fleet.log.most_waiting(), 4);
}

#[tokio::test]
async fn a_command_waits_for_its_turn_even_in_the_middle_of_a_frame() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    fleet.log.hold(true);
    peer.send_text(frame((1..=63).map(publish)));
    peer.send_text(frame([publish(64), r#"{"id":65,"ping":{}}"#.to_owned()].into_iter()));
    peer.flush().await;
    until(|| fleet.log.waiting() > 0).await;
    settle().await;

    fleet.log.hold(false);

    let mut heard = Vec::new();
    while heard.len() < 65 {
        heard.push(peer.next().await);
    }
    assert!(matches!(heard[0], ServerEvent::Published { .. }), "{:?}", heard[0]);
    let pongs = heard.iter().filter(|event| matches!(event, ServerEvent::Pong { .. }));
    assert_eq!(pongs.count(), 1);
}

#[tokio::test]
async fn a_client_that_never_pauses_keeps_nobody_else_waiting() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut talker = Peer::connect(&fleet.nodes[0], "ada").await;
    // Without an id, nobody answers it.
    let endless = frame((0..500).map(|_| r#"{"ping":{}}"#.to_owned()));

    let talk = async {
        loop {
            talker.send_text(endless.clone());
            talker.flush().await;
        }
    };
    let others = async {
        for _ in 0..20 {
            bystander.is_undisturbed().await;
        }
    };

    tokio::select! {
        () = talk => unreachable!("it never stops"),
        () = others => {}
    }
}
