//! Against tungstenite, which shares no code with us: a codec tested only against itself agrees
//! with itself.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use proptest::collection::vec;
use proptest::prelude::*;
use tidewire_model::Disconnect;
use tidewire_protocol::Frame;
use tidewire_transport::websocket::Incoming;
use tidewire_transport::{CloseCode, Limits, Role, Transport, WebSocket};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame as TheirFrame};
use tokio_tungstenite::tungstenite::protocol::{Role as TheirRole, frame::coding};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::wire::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, binary, text};

const LENGTHS: [usize; 9] = [0, 1, 125, 126, 127, 1024, 1025, 65_535, 65_536];
const WIDE: Limits = Limits { message_bytes: 1 << 20, fragments: 64 };

#[tokio::test]
async fn our_server_understands_their_client() {
    let (mut ours, mut theirs) = pair(Role::Server).await;

    for length in LENGTHS {
        theirs.send(Message::text("é".repeat(length / 2))).await.unwrap();
        theirs.send(Message::binary(vec![9; length])).await.unwrap();

        assert_eq!(ours.receive().await.unwrap(), Some(text(&"é".repeat(length / 2))));
        assert_eq!(ours.receive().await.unwrap(), Some(binary(&vec![9; length])));
    }
}

#[tokio::test]
async fn our_client_understands_their_server() {
    let (mut ours, mut theirs) = pair(Role::Client).await;

    for length in LENGTHS {
        theirs.send(Message::binary(vec![9; length])).await.unwrap();

        assert_eq!(ours.receive().await.unwrap(), Some(binary(&vec![9; length])));
    }
}

#[tokio::test]
async fn they_understand_our_server_and_our_client() {
    for role in [Role::Server, Role::Client] {
        let (mut ours, mut theirs) = pair(role).await;
        for length in LENGTHS {
            ours.send(&[text(&"a".repeat(length)), binary(&vec![9; length])]).await.unwrap();

            assert_eq!(next(&mut theirs).await, Message::text("a".repeat(length)));
            assert_eq!(next(&mut theirs).await, Message::binary(vec![9; length]));
        }
    }
}

#[tokio::test]
async fn a_message_they_fragment_arrives_whole() {
    let (mut ours, mut theirs) = pair(Role::Server).await;
    let parts =
        [("on", Data::Text, false), ("e ", Data::Continue, false), ("two", Data::Continue, true)];

    for (payload, opcode, is_final) in parts {
        let frame = TheirFrame::message(payload, OpCode::Data(opcode), is_final);
        theirs.send(Message::Frame(frame)).await.unwrap();
    }

    assert_eq!(ours.receive().await.unwrap(), Some(text("one two")));
}

#[tokio::test]
async fn their_pings_get_our_pongs_and_ours_theirs() {
    for role in [Role::Server, Role::Client] {
        let (mut ours, mut theirs) = pair(role).await;
        theirs.send(Message::Ping(Bytes::from("a"))).await.unwrap();
        ours.ping();

        let (received, at_them) = tokio::join!(ours.receive(), async {
            let heard = [next(&mut theirs).await, next(&mut theirs).await];
            theirs.send(Message::text("enough")).await.unwrap();
            heard
        });

        assert_eq!(received.unwrap(), Some(text("enough")));
        assert!(at_them.contains(&Message::Pong(Bytes::from("a"))), "{at_them:?}");
        assert!(at_them.contains(&Message::Ping(Bytes::new())), "{at_them:?}");
    }
}

#[tokio::test]
async fn they_read_every_close_code_we_send_and_their_answer_ends_it() {
    for disconnect in Disconnect::ALL {
        let (mut ours, mut theirs) = pair(Role::Server).await;

        let closing = ours.close(disconnect.into(), disconnect.as_str(), SECOND);
        let (closed, heard) = tokio::join!(closing, async {
            let heard = next(&mut theirs).await;
            assert!(theirs.next().await.is_none());
            heard
        });

        closed.unwrap();
        let Message::Close(Some(close)) = heard else { panic!("not a close: {heard:?}") };
        assert_eq!(u16::from(close.code), disconnect.code());
        assert_eq!(close.reason.as_str(), disconnect.as_str());
    }
}

#[tokio::test]
async fn we_read_the_close_they_send_and_our_answer_ends_it() {
    for role in [Role::Server, Role::Client] {
        let (mut ours, mut theirs) = pair(role).await;
        let close = CloseFrame { code: coding::CloseCode::Away, reason: "gone".into() };

        theirs.close(Some(close.clone())).await.unwrap();
        assert_eq!(ours.receive().await.unwrap(), None);
        ours.close(CloseCode::NORMAL, "", SECOND).await.unwrap();

        assert_eq!(ours.peer_close().unwrap().code, CloseCode::GOING_AWAY);
        assert_eq!(ours.peer_close().unwrap().reason, "gone");
        let echo = CloseFrame { reason: "".into(), ..close };
        assert_eq!(next(&mut theirs).await, Message::Close(Some(echo)));
    }
}

#[tokio::test]
async fn they_learn_that_their_message_was_too_large() {
    let (mut ours, mut theirs) = pair(Role::Server).await;

    theirs.send(Message::binary(vec![0; (1 << 20) + 1])).await.unwrap();
    let disconnect = ours.receive().await.unwrap_err().disconnect().unwrap();
    let closing = ours.close(disconnect.into(), "", SECOND);
    let (closed, heard) = tokio::join!(closing, async {
        let heard = next(&mut theirs).await;
        assert!(theirs.next().await.is_none());
        drop(theirs);
        heard
    });

    closed.unwrap();
    assert!(matches!(heard, Message::Close(Some(close)) if close.code == coding::CloseCode::Size));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_make_the_same_of_any_stream_of_frames(
        frames in vec(any_step(), 0..10).prop_map(|steps| steps.concat()),
        chunk in 1_usize..200,
    ) {
        let input = wire::join(&frames);

        prop_assert_eq!(our_verdict(&input, chunk), their_verdict(&input));
    }
}

/// What a server heard, and how that ended.
#[derive(Debug, PartialEq)]
struct Verdict {
    frames: Vec<Frame>,
    pings: Vec<Bytes>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Cut,
    Closed(Option<(u16, String)>),
    Refused,
}

fn our_verdict(input: &[u8], chunk: usize) -> Verdict {
    let (incoming, violation) = wire::decode(input, chunk, WIDE);
    let mut verdict = Verdict { frames: vec![], pings: vec![], end: End::Cut };
    for incoming in incoming {
        match incoming {
            Incoming::Frame(frame) => verdict.frames.push(frame),
            Incoming::Ping(payload) => verdict.pings.push(payload),
            Incoming::Pong(_) => {}
            Incoming::Close(close) => {
                verdict.end = End::Closed(close.map(|close| (close.code.value(), close.reason)));
                return verdict;
            }
        }
    }
    if violation.is_some() {
        verdict.end = End::Refused;
    }
    verdict
}

fn their_verdict(input: &[u8]) -> Verdict {
    Builder::new_current_thread().build().unwrap().block_on(async {
        let (near, mut far) = duplex(1 << 20);
        far.write_all(input).await.unwrap();
        far.shutdown().await.unwrap();
        let mut server = WebSocketStream::from_raw_socket(near, TheirRole::Server, None).await;

        let mut verdict = Verdict { frames: vec![], pings: vec![], end: End::Cut };
        while let Some(message) = server.next().await {
            match message {
                Ok(Message::Text(text)) => verdict.frames.push(Frame::Text(text.into())),
                Ok(Message::Binary(bytes)) => verdict.frames.push(Frame::Binary(bytes)),
                Ok(Message::Ping(payload)) => verdict.pings.push(payload),
                Ok(Message::Close(close)) => {
                    let close = close.map(|it| (it.code.into(), it.reason.to_string()));
                    verdict.end = End::Closed(close);
                    break;
                }
                Ok(_) | Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {}
                Err(_) => verdict.end = End::Refused,
            }
        }
        verdict
    })
}

/// Frames that mean something together, mostly right.
///
/// Left out is what the two judge differently on purpose: lengths written too long, which they
/// accept; 1014 and invalid close codes, which they answer as a close; and text that is refused
/// before its last fragment, which we judge when it is complete.
fn any_step() -> impl Strategy<Value = Vec<Wire>> {
    let payload = || {
        let long =
            (any::<u8>(), 65_530..65_540_usize).prop_map(|(byte, length)| vec![byte; length]);
        prop_oneof![9 => vec(any::<u8>(), 0..130), 1 => long]
    };
    let words = || "[a-zé€😀]{0,40}";
    let short = || vec(any::<u8>(), 0..=125);
    let close = (prop_oneof![1000..=1003_u16, 1007..=1013_u16, 3000..=4999_u16], words())
        .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat())
        .prop_filter("fits", |payload| payload.len() <= 125);
    prop_oneof![
        8 => words().prop_map(|text| vec![Wire::masked(TEXT, text)]),
        8 => payload().prop_map(|bytes| vec![Wire::masked(BINARY, bytes)]),
        4 => short().prop_map(|bytes| vec![Wire::masked(PING, bytes)]),
        2 => short().prop_map(|bytes| vec![Wire::masked(PONG, bytes)]),
        8 => (words(), words(), short()).prop_map(|(first, second, ping)| vec![
            Wire::masked(TEXT, first).unfinished(),
            Wire::masked(PING, ping),
            Wire::masked(CONTINUATION, second),
        ]),
        4 => (payload(), payload()).prop_map(|(first, second)| vec![
            Wire::masked(BINARY, first).unfinished(),
            Wire::masked(CONTINUATION, second),
        ]),
        1 => close.prop_map(|bytes| vec![Wire::masked(CLOSE, bytes)]),
        1 => Just(vec![Wire::masked(CLOSE, "")]),
        2 => any_violation().prop_map(|frame| vec![frame]),
        1 => words().prop_map(|text| vec![Wire::masked(TEXT, text).unfinished()]),
    ]
}

fn any_violation() -> impl Strategy<Value = Wire> {
    prop_oneof![
        prop_oneof![Just(0x40), Just(0x20), Just(0x10)]
            .prop_map(|bits| Wire::masked(TEXT, "rsv").with_bits(bits)),
        prop_oneof![3..=7_u8, 0xB..=0xF_u8].prop_map(|opcode| Wire::masked(opcode, "?")),
        Just(Wire::plain(TEXT, "unmasked")),
        Just(Wire::masked(PING, "split").unfinished()),
        Just(Wire::masked(PONG, [0; 126])),
        Just(Wire::masked(CONTINUATION, "of nothing")),
        vec(128..=255_u8, 1..2).prop_map(|bytes| Wire::masked(TEXT, bytes)),
        Just(Wire::masked(CLOSE, [3])),
    ]
}

const SECOND: Duration = Duration::from_secs(1);

/// We play `role`, they the other.
async fn pair(role: Role) -> (WebSocket<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (near, far) = duplex(1 << 22);
    let their_role = match role {
        Role::Server => TheirRole::Client,
        Role::Client => TheirRole::Server,
    };
    let theirs = WebSocketStream::from_raw_socket(far, their_role, None).await;
    (WebSocket::new(near, Bytes::new(), role, WIDE), theirs)
}

async fn next(theirs: &mut WebSocketStream<DuplexStream>) -> Message {
    theirs.next().await.expect("they go on").expect("they found nothing wrong")
}
