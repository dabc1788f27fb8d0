//! Being in channels and watching them, over more than one connection.

use serde_json::{Value, json};
use tidewire_client::{Client, Happening, MemberList, MemberWord, Needed};

use tokio::time::timeout;

use crate::peer::{
    EPOCH, PATIENCE, Peer, Served, await_happening, channel, meanwhile, next, refusal,
};

const ROOM: &str = "room/1";
const MEMBER: &str = "6f1f63a5b7d94f0c";
const MARK: &str = "mfabc1200001:17";

#[tokio::test]
async fn who_is_in_a_channel_and_watches_it_is_and_does_so_again_over_the_next_connection() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.enter(channel(ROOM), word());
    client.watch(channel(ROOM));

    let serve = async {
        let first = [served.command().await, served.command().await];
        enter(&mut served, &first[0]).await;
        served.say(json!({ "id": first[1]["id"], "watching": { "channel": ROOM } })).await;
        drop(served);
        let mut served = peer.accept().await;
        served.connect(true).await;
        let again = [served.command().await, served.command().await];
        enter(&mut served, &again[0]).await;
        let watches = refusal(1200, "already_subscribed");
        served.say(json!({ "id": again[1]["id"], "error": watches })).await;
        served.say(json!({ "presence": { "channel": ROOM, "items": [{ "lost": true }] } })).await;
        ([first, again], served)
    };
    let (([first, again], _served), happenings) = meanwhile(&mut client, serve).await;
    let is_change = |it: &Happening| matches!(it, Happening::Presence { .. });
    let happenings = await_happening(&mut client, happenings, is_change).await;

    assert_eq!(first[0]["enter"], json!({ "channel": ROOM, "data": 1 }));
    assert_eq!(first[1]["watch"], json!({ "channel": ROOM }));
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((&first["enter"], &first["watch"]), (&again["enter"], &again["watch"]));
    }
    let told = |is_it: fn(&Happening) -> bool| happenings.iter().filter(|it| is_it(it)).count();
    assert_eq!(told(|it| matches!(it, Happening::Entered { .. })), 2);
    assert_eq!(told(|it| matches!(it, Happening::Watching { .. })), 1);
    assert_eq!(told(|it| matches!(it, Happening::Refused { .. })), 0, "{happenings:?}");
}

#[tokio::test]
async fn entering_is_asked_again_where_that_may_help_and_given_up_where_not() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.enter(channel(ROOM), None);
    client.enter(channel("lobby"), None);

    let serve = async {
        let [room, lobby] = [served.command().await, served.command().await];
        served.refuse_for_now(&room).await;
        let none = refusal(1203, "no_presence");
        served.say(json!({ "id": lobby["id"], "error": none })).await;
        let again = served.command().await;
        enter(&mut served, &again).await;
        (again, served)
    };
    let ((again, _served), happenings) = meanwhile(&mut client, serve).await;
    let is_in = |it: &Happening| matches!(it, Happening::Entered { .. });
    let happenings = await_happening(&mut client, happenings, is_in).await;

    assert_eq!(again["enter"]["channel"], ROOM);
    let refused = happenings.iter().filter_map(|happening| match happening {
        Happening::Refused { channel, .. } => channel.clone(),
        _ => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), [channel("lobby")]);
}

#[tokio::test]
async fn who_has_left_without_a_connection_says_so_over_the_next_and_enters_no_more() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.enter(channel(ROOM), None);
    let serve = async {
        let entering = served.command().await;
        enter(&mut served, &entering).await;
    };
    let ((), happenings) = meanwhile(&mut client, serve).await;
    let is_in = |it: &Happening| matches!(it, Happening::Entered { .. });
    await_happening(&mut client, happenings, is_in).await;

    client.cut();
    client.leave(channel(ROOM));
    let serve = async {
        let mut commands = Vec::new();
        for _ in 0..2 {
            let mut served = peer.accept().await;
            served.connect(true).await;
            if commands.is_empty() {
                let leaving = served.command().await;
                served.say(json!({ "id": leaving["id"], "left": { "channel": ROOM } })).await;
                served.ping().await;
                commands.push(leaving);
            } else {
                served.ping().await;
            }
        }
        commands
    };
    let (commands, _) = meanwhile(&mut client, serve).await;

    assert_eq!(commands[0]["leave"], json!({ "channel": ROOM }));
}

#[tokio::test]
async fn a_page_that_was_asked_for_comes_over_the_next_connection() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    assert!(client.members(channel(ROOM), None, 5));

    let serve = async {
        served.command().await;
        drop(served);
        let mut served = peer.accept().await;
        served.connect(true).await;
        let asked = served.command().await;
        served.say(page(&asked, MEMBER, None)).await;
        (asked, served)
    };
    let ((asked, _served), happenings) = meanwhile(&mut client, serve).await;
    let is_page = |it: &Happening| matches!(it, Happening::Members { .. });
    let happenings = await_happening(&mut client, happenings, is_page).await;

    assert_eq!(asked["members"], json!({ "channel": ROOM, "limit": 5 }));
    let Some(Happening::Members { page, .. }) = happenings.last() else { unreachable!() };
    assert_eq!(page.members[0].id.to_string(), MEMBER);
}

#[tokio::test]
async fn a_list_is_whole_only_of_pages_that_were_asked_for_after_a_loss() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    let mut list = MemberList::default();
    ask(&mut client, list.load());

    let serve = async {
        let first = served.command().await;
        served.say(page(&first, "00000000000000a1", Some(MARK))).await;
        let second = served.command().await;
        served.say(json!({ "presence": { "channel": ROOM, "items": [{ "lost": true }] } })).await;
        let anew = served.command().await;
        served.say(page(&second, "00000000000000a2", None)).await;
        served.say(page(&anew, "00000000000000b1", Some(MARK))).await;
        let end = served.command().await;
        served.say(page(&end, "00000000000000b2", None)).await;
        ([first, second, anew, end], served)
    };
    let keep = async {
        while !list.is_whole() {
            let happening = next(&mut client).await.expect("goes on");
            for needed in give(&mut list, happening) {
                ask(&mut client, needed);
            }
        }
    };
    // What the list needs is asked for whether or not it is whole by then.
    let (asked, ()) = tokio::join!(timeout(PATIENCE, serve), keep);
    let (asked, _served) = asked.expect("the list needs what it should");

    let from: Vec<_> = asked.iter().map(|asked| asked["members"]["from"].as_str()).collect();
    assert_eq!(from, [None, Some(MARK), None, Some(MARK)]);
    let members: Vec<_> = list.members().map(|member| member.id.to_string()).collect();
    assert_eq!(members, ["00000000000000b1", "00000000000000b2"]);
}

async fn enter(served: &mut Served, command: &Value) {
    let entered = json!({ "channel": ROOM, "member": MEMBER });
    served.say(json!({ "id": command["id"], "entered": entered })).await;
}

/// What the list needs after what has happened.
fn give(list: &mut MemberList, happening: Happening) -> Vec<Needed> {
    match happening {
        Happening::Members { page, .. } => vec![list.page(page)],
        Happening::Presence { changes, .. } => {
            changes.into_iter().map(|change| list.change(change)).collect()
        }
        other => unreachable!("{other:?}"),
    }
}

fn ask(client: &mut Client, needed: Needed) {
    if let Needed::Page(from) = needed {
        assert!(client.members(channel(ROOM), from, 1));
    }
}

/// The answer to `command`: one member.
fn page(command: &Value, member: &str, next: Option<&str>) -> Value {
    let items = json!([{ "member": member, "user": "ada" }]);
    let mut page =
        json!({ "channel": ROOM, "items": items, "count": 2, "epoch": EPOCH, "offset": 7 });
    if let Some(next) = next {
        page["next"] = next.into();
    }
    json!({ "id": command["id"], "members": page })
}

fn word() -> Option<MemberWord> {
    MemberWord::parse("1".into()).ok()
}
