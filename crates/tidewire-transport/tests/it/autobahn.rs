//! The cases of the Autobahn test suite (version 25.10.1), ported, so that they run where Python
//! 2.7 does not. `cargo xtask conformance` runs the originals.
//!
//! Each case is what the suite sends and what it wants to see: the echoes and pongs in their order,
//! and how the connection ended. What the suite does by waiting (its `sync` and its chops) is done
//! here by cutting the same bytes in every way that matters.

mod cases;
mod linked;
mod utf8;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::Frame;
use tidewire_transport::websocket::deflate::Inflater;
use tidewire_transport::websocket::{Decoder, Incoming};
use tidewire_transport::{CloseCode, Deflate, Limits, Role, Transport, WebSocket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::yield_now;
use tokio::time::timeout;

use cases::{Case, UNDEFINED, cases};

const LIMITS: Limits = Limits { message_bytes: 1 << 20, fragments: 64 };

/// What came back, in its order.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Echo(Frame),
    Pong(Bytes),
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The client closed, and this is the code of our answer, if it had one.
    Closed(Option<u16>),
    /// We closed, with this code.
    Refused(u16),
}

#[test]
fn every_case_comes_to_what_the_suite_wants_at_every_split_point() {
    for case in cases() {
        let sent = [&case.sent[..], &case.farewell].concat();
        let chunks = [1, 2, 3, 7, 997, sent.len()];
        for chunk in chunks {
            let decoded = decode(sent.chunks(chunk));
            assert_eq!(decoded, expected(&case), "case {}, chunks of {chunk}", case.number);
        }
        for cut in 0..sent.len().min(CUT_BYTES) {
            let (one, other) = sent.split_at(cut);
            let decoded = decode([one, other].into_iter());
            assert_eq!(decoded, expected(&case), "case {}, cut at {cut}", case.number);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_answers_every_case_as_the_suite_wants() {
    for case in cases() {
        for chunk in [1, 997, case.sent.len()] {
            let (near, far) = duplex(DUPLEX_BYTES);
            let socket = WebSocket::new(near, Bytes::new(), Role::Server, LIMITS);
            let ((), seen) = tokio::join!(echo(socket), converse(far, &case, chunk, None));
            let expected = expected(&case);
            let is_as_expected =
                if case.number == UNDEFINED { seen.1 == expected.1 } else { seen == expected };
            assert!(is_as_expected, "case {}, chunks of {chunk}: {seen:?}", case.number);
        }
    }
}

#[test]
fn every_case_of_chapters_one_to_seven_is_here_once() {
    let numbers: Vec<_> = cases().into_iter().map(|case| case.number).collect();
    let distinct: BTreeSet<_> = numbers.iter().collect();

    assert_eq!(distinct.len(), numbers.len());
    let chapters = [16, 11, 7, 10, 20, 145, 37];
    for (chapter, expected) in (1..).zip(chapters) {
        let prefix = format!("{chapter}.");
        let found = numbers.iter().filter(|number| number.starts_with(&prefix)).count();
        assert_eq!(found, expected, "chapter {chapter}");
    }
}

/// What an echo server would answer, from what a decoder makes of the pieces.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Answer>, Option<End>) {
    let mut decoder = Decoder::new(Role::Server, LIMITS);
    let mut answers = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece, &mut Inflater::default()) {
                Ok(None) => break,
                Ok(Some(Incoming::Frame(frame))) => answers.push(Answer::Echo(frame)),
                Ok(Some(Incoming::Ping(payload))) => answers.push(Answer::Pong(payload)),
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Close(close))) => {
                    return (answers, Some(End::Closed(close.map(|close| close.code.value()))));
                }
                Err(violation) => {
                    return (answers, Some(End::Refused(violation.disconnect().code())));
                }
            }
        }
    }
    (answers, None)
}

/// Sends back what comes until the connection has ended.
async fn echo(mut socket: WebSocket<DuplexStream>) {
    let code = loop {
        match socket.receive().await {
            // A client that has closed gets no more echoes, and its close is what comes next.
            Ok(Some(frame)) => drop(socket.send(&[frame]).await),
            Ok(None) => break CloseCode::NORMAL,
            Err(error) => break error.disconnect().unwrap().into(),
        }
    };
    drop(socket.close(code, "", Duration::from_secs(1)).await);
}

/// Plays the suite: sends in pieces, and reads until the server has ended the connection.
async fn converse<S>(
    mut stream: S,
    case: &Case,
    chunk: usize,
    deflate: Option<Deflate>,
) -> (Vec<Answer>, Option<End>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for piece in case.sent.chunks(chunk) {
        // A server that has heard enough hangs up before the rest.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        yield_now().await;
    }
    let mut received = Vec::new();
    while !case.farewell.is_empty()
        && answers(&received, case, deflate).0.len() < case.answers.len()
    {
        match timeout(PATIENCE, stream.read_buf(&mut received)).await {
            Ok(Ok(1..)) => {}
            _ => break,
        }
    }
    drop(stream.write_all(&case.farewell).await);
    // A server that does not hang up has been seen to do so by what is missing.
    drop(timeout(PATIENCE, stream.read_to_end(&mut received)).await);
    answers(&received, case, deflate)
}

/// Reads the server's bytes with a decoder that has been tried against a stranger's encoder.
fn answers(received: &[u8], case: &Case, deflate: Option<Deflate>) -> (Vec<Answer>, Option<End>) {
    let mut decoder = Decoder::new(Role::Client, LIMITS);
    if deflate.is_some() {
        decoder = decoder.deflated();
    }
    let mut answers = Vec::new();
    let mut rest = received;
    while let Some(incoming) = decoder.decode(&mut rest, &mut Inflater::default()).unwrap() {
        match incoming {
            Incoming::Frame(frame) => answers.push(Answer::Echo(frame)),
            Incoming::Pong(payload) => answers.push(Answer::Pong(payload)),
            Incoming::Ping(_) => unreachable!("a server that was not told to does not ping"),
            Incoming::Close(close) => {
                let code = close.map(|close| close.code.value());
                let end = match case.end {
                    End::Closed(_) => End::Closed(code),
                    End::Refused(_) => End::Refused(code.unwrap()),
                };
                return (answers, Some(end));
            }
        }
    }
    (answers, None)
}

fn expected(case: &Case) -> (Vec<Answer>, Option<End>) {
    (case.answers.clone(), Some(case.end))
}

/// How long an answer may take, in the time of a paused clock.
const PATIENCE: Duration = Duration::from_secs(1);

/// Inputs are cut at each of their first bytes: all of most, every header of the rest.
const CUT_BYTES: usize = 300;

/// Holds more than any case sends.
const DUPLEX_BYTES: usize = 1 << 20;
