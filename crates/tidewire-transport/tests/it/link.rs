//! A link over a real socket pair of loopback: what a worker does, by hand.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use mio::event::Event;
use mio::{Events, Poll, Token};
use socket2::SockRef;
use tidewire_protocol::Frame;
use tidewire_transport::{
    CloseCode, Controls, Flushed, Limits, Link, LinkSettings, Prepared, Received, Scratch, Stream,
    Then, TransportError, Violation,
};

use crate::wire::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, binary, text};

const MOST: usize = 32;
const KERNEL_BYTES: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn an_idle_link_is_small() {
    assert!(size_of::<Link>() <= 104, "{} bytes", size_of::<Link>());
}

#[test]
fn messages_that_come_together_are_received_in_one_read() {
    let mut worker = Worker::new();
    let frames = [Wire::masked(TEXT, "one"), Wire::masked(PING, "p"), Wire::masked(BINARY, [2])];
    let input = wire::join(&frames);
    worker.far.write_all(&input).unwrap();
    worker.wait();

    let received = worker.receive(MOST).unwrap();

    let controls = Controls { pings: 1, pongs: 0 };
    assert_eq!(received, Received { controls, ..read(input.len(), Then::Drained) });
    assert_eq!(worker.frames, [text("one"), binary(&[2])]);
    assert_eq!(worker.flush(), Flushed::All);
    assert_eq!(worker.read(3), Wire::plain(PONG, "p").bytes());
}

#[test]
fn what_is_not_wanted_now_is_received_by_later_calls_without_an_event() {
    let mut worker = Worker::new();
    let frames: Vec<_> = (0..7).map(|n| Wire::masked(TEXT, n.to_string())).collect();
    worker.far.write_all(&wire::join(&frames)).unwrap();
    worker.wait();

    let mut calls = 0;
    while worker.receive(3).unwrap().then == Then::More {
        calls += 1;
        assert!(worker.frames.len() <= 3 * calls);
    }

    let expected: Vec<_> = (0..7).map(|n| text(&n.to_string())).collect();
    assert_eq!(worker.frames, expected);
}

#[test]
fn what_came_with_the_handshake_is_received_before_anything_is_read() {
    let early = wire::join(&[Wire::masked(TEXT, "early"), Wire::masked(TEXT, "half")]);
    let (early, late) = early.split_at(early.len() - 2);
    let mut worker = Worker::with(Bytes::copy_from_slice(early), LinkSettings::default());

    let received = worker.receive(MOST).unwrap();
    assert_eq!(received, read(0, Then::More));
    worker.far.write_all(late).unwrap();
    worker.wait();
    worker.receive(MOST).unwrap();

    assert_eq!(worker.frames, [text("early"), text("half")]);
}

#[test]
fn a_message_in_single_bytes_arrives_whole_and_leaves_nothing_behind() {
    let mut worker = Worker::new();
    let frames =
        [Wire::masked(TEXT, "on").unfinished(), Wire::masked(CONTINUATION, "e".repeat(200))];

    for byte in wire::join(&frames) {
        worker.far.write_all(&[byte]).unwrap();
        worker.wait();
        assert_eq!(worker.receive(MOST).unwrap(), read(1, Then::Drained));
    }

    assert_eq!(worker.frames, [text(&format!("on{}", "e".repeat(200)))]);
}

#[test]
fn a_read_that_finds_nothing_says_so() {
    let mut worker = Worker::new();

    let received = worker.receive(MOST).unwrap();

    assert_eq!(received, read(0, Then::Drained));
}

#[test]
fn a_peer_that_sends_and_hangs_up_at_once_is_heard_and_then_gone() {
    let mut worker = Worker::new();
    worker.far.write_all(&Wire::masked(TEXT, "last words").bytes()).unwrap();
    worker.far.shutdown(Shutdown::Write).unwrap();
    worker.wait_until_closed();

    let first = worker.receive(MOST).unwrap();
    let second = worker.receive(MOST).unwrap();

    assert_eq!((first.then, second.then), (Then::More, Then::Ended));
    assert_eq!(worker.frames, [text("last words")]);
    assert!(worker.link.is_parted() && !worker.link.is_closed_by_peer());
}

#[test]
fn frames_before_a_violation_come_first_and_then_it_every_time() {
    let mut worker = Worker::new();
    let input = [Wire::masked(TEXT, "good"), Wire::plain(TEXT, "unmasked")];
    worker.far.write_all(&wire::join(&input)).unwrap();
    worker.wait();

    assert_eq!(worker.receive(MOST).unwrap().then, Then::More);
    for _ in 0..2 {
        let error = worker.receive(MOST).unwrap_err();
        assert!(matches!(error, TransportError::Violation(Violation::Unmasked)), "{error:?}");
    }

    assert_eq!(worker.frames, [text("good")]);
    worker.link.close(CloseCode::parse(1002).unwrap(), "protocol_error");
    assert_eq!(worker.flush(), Flushed::All);
    worker.link.shutdown_write().unwrap();
    assert!(!worker.link.is_parted());
    worker.far.write_all(&[0; 5000]).unwrap();
    worker.far.shutdown(Shutdown::Write).unwrap();
    worker.drain();
    assert!(worker.link.is_parted());
    let close = Wire::plain(CLOSE, b"\x03\xEAprotocol_error").bytes();
    assert_eq!(worker.read_to_end(), close);
}

#[test]
fn a_close_is_answered_and_then_all_is_said() {
    let mut worker = Worker::new();
    worker.far.write_all(&Wire::masked(CLOSE, b"\x0F\xA0bye").bytes()).unwrap();
    worker.wait();

    assert_eq!(worker.receive(MOST).unwrap().then, Then::Ended);
    assert!(!worker.link.is_parted());
    assert_eq!(worker.flush(), Flushed::All);

    assert!(worker.link.is_parted());
    assert_eq!(worker.link.peer_close().unwrap().reason, "bye");
    assert!(matches!(worker.link.queue_shared(&"late".into()), Err(TransportError::Closed)));
    assert!(matches!(worker.link.send_shared(&"late".into()), Err(TransportError::Closed)));
    assert_eq!(worker.read(4), Wire::plain(CLOSE, [0x0F, 0xA0]).bytes());
}

#[test]
fn our_close_is_answered_and_then_all_is_said() {
    let mut worker = Worker::new();
    worker.link.close(CloseCode::NORMAL, "");
    worker.link.close(CloseCode::GOING_AWAY, "a second is the first");
    worker.link.ping();
    assert_eq!(worker.flush(), Flushed::All);
    assert!(!worker.link.is_parted());
    let frames = [Wire::masked(TEXT, "meanwhile"), Wire::masked(CLOSE, [3, 0xE8])];
    worker.far.write_all(&wire::join(&frames)).unwrap();
    worker.wait();

    assert_eq!(worker.receive(MOST).unwrap().then, Then::Ended);

    assert!(worker.link.is_parted());
    assert_eq!(worker.read(4), Wire::plain(CLOSE, [3, 0xE8]).bytes());
    assert_eq!(worker.flush(), Flushed::All);
}

#[test]
fn a_slow_reader_gets_everything_in_order_once_it_reads() {
    let mut worker = Worker::new();
    let mut prepared = Prepared::new(&[binary(&[7; 3000])]);
    let wire = prepared.wire(None, &mut worker.scratch).clone();
    let mut expected = Vec::new();

    for n in 0..200_u16 {
        let own = binary(&n.to_be_bytes().repeat(200));
        worker.link.queue(std::slice::from_ref(&own), &mut worker.scratch).unwrap();
        worker.link.send_shared(&wire).unwrap();
        worker.link.queue_shared(&wire).unwrap();
        worker.link.flush(&mut worker.scratch).unwrap();
        expected.extend(Wire::plain(BINARY, own.bytes()).bytes());
        expected.extend(Wire::plain(BINARY, [7; 3000]).bytes().repeat(2));
    }
    let unsent = worker.link.unsent();
    assert!(unsent > 0 && unsent < expected.len());
    assert_eq!(worker.flush(), Flushed::Blocked);
    let read = worker.read_while_flushing(expected.len());

    assert!(read == expected);
    assert_eq!(worker.link.unsent(), 0);
}

#[test]
fn shared_bytes_follow_what_waits_already() {
    let mut worker = Worker::new();
    worker.link.queue(&[text("first")], &mut worker.scratch).unwrap();

    worker.link.send_shared(&Bytes::from(Wire::plain(TEXT, "second").bytes())).unwrap();
    assert_eq!(worker.link.unsent(), 15);
    assert_eq!(worker.flush(), Flushed::All);

    let expected = wire::join(&[Wire::plain(TEXT, "first"), Wire::plain(TEXT, "second")]);
    assert_eq!(worker.read(15), expected);
}

#[test]
fn a_peer_that_resets_ends_the_link() {
    let mut worker = Worker::new();
    let Worker { far, .. } = std::mem::replace(&mut worker, Worker::new());
    drop(far);
    let mut link = worker.link;
    // Unread bytes make the kernel reset instead of close.
    link.queue(&[text("never read")], &mut worker.scratch).unwrap();
    link.flush(&mut worker.scratch).unwrap();
    drop(worker.far);

    let failed = (0..100_000).find_map(|_| {
        match link.receive(&mut worker.scratch, MOST, &mut worker.frames) {
            Ok(Received { then: Then::Ended, .. }) | Err(TransportError::Io(_)) => Some(()),
            _ => None,
        }
    });

    assert!(failed.is_some() && link.is_parted());
    assert!(matches!(link.queue(&[text("x")], &mut worker.scratch), Err(TransportError::Closed)));
}

/// A link, its peer, and the poll that watches it.
struct Worker {
    link: Link,
    far: TcpStream,
    poll: Poll,
    scratch: Scratch,
    frames: Vec<Frame>,
}

impl Worker {
    fn new() -> Self {
        Self::with(Bytes::new(), LinkSettings::default())
    }

    fn with(unread: Bytes, settings: LinkSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        // Little room in the kernel, so that a test of a slow reader need not send much.
        SockRef::from(&far).set_recv_buffer_size(KERNEL_BYTES).unwrap();
        SockRef::from(&near).set_send_buffer_size(KERNEL_BYTES).unwrap();
        far.set_nodelay(true).unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        near.set_nonblocking(true).unwrap();
        near.set_nodelay(true).unwrap();
        let stream = Stream::Tcp(mio::net::TcpStream::from_std(near));
        let mut link = Link::new(stream, unread, settings);
        let poll = Poll::new().unwrap();
        link.register(poll.registry(), Token(7)).unwrap();
        Self { link, far, poll, scratch: Scratch::default(), frames: Vec::new() }
    }

    /// Waits for an event that says that there is something to read.
    fn wait(&mut self) {
        self.wait_for(Event::is_readable);
    }

    fn wait_until_closed(&mut self) {
        self.wait_for(Event::is_read_closed);
    }

    fn wait_for(&mut self, is_wanted: impl Fn(&Event) -> bool) {
        let mut events = Events::with_capacity(8);
        loop {
            self.poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "an event comes in time");
            for event in &events {
                assert_eq!(event.token(), Token(7));
                if event.is_read_closed() {
                    self.link.note_read_closed();
                }
            }
            if events.iter().any(&is_wanted) {
                return;
            }
        }
    }

    fn receive(&mut self, most: usize) -> Result<Received, TransportError> {
        self.link.receive(&mut self.scratch, most, &mut self.frames)
    }

    fn flush(&mut self) -> Flushed {
        self.link.flush(&mut self.scratch).unwrap()
    }

    fn drain(&mut self) {
        loop {
            match self.link.drain(&mut self.scratch).unwrap().then {
                Then::Ended => return,
                Then::More => {}
                Then::Drained => self.wait(),
            }
        }
    }

    fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.far.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.far.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Reads a little, flushes when the poll says so, and goes on.
    fn read_while_flushing(&mut self, length: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < length {
            let piece = (length - all.len()).min(50_000);
            if self.link.unsent() > 0 && self.flush() == Flushed::Blocked {
                all.extend(self.read(piece.min(10_000)));
            } else {
                all.extend(self.read(piece));
            }
        }
        all
    }
}

#[test]
fn limits_of_the_settings_are_kept() {
    let limits = Limits { message_bytes: 10, ..Limits::default() };
    let settings = LinkSettings { limits, ..LinkSettings::default() };
    let mut worker = Worker::with(Bytes::new(), settings);
    worker.far.write_all(&Wire::masked(TEXT, "eleven byte").bytes()).unwrap();
    worker.wait();

    let error = worker.receive(MOST).unwrap_err();

    assert!(matches!(error, TransportError::Violation(Violation::MessageTooLarge)));
}

/// What a call comes to that receives messages only.
fn read(bytes: usize, then: Then) -> Received {
    Received { bytes, controls: Controls::default(), then }
}

#[test]
fn pings_and_pongs_are_counted_and_take_as_much_room_as_messages() {
    let mut worker = Worker::new();
    let frames = [PING, PONG, PING, TEXT, PING].map(|opcode| Wire::masked(opcode, "x"));
    worker.far.write_all(&wire::join(&frames)).unwrap();
    worker.wait();

    let first = worker.receive(3).unwrap();
    assert_eq!((first.controls, worker.frames.len()), (Controls { pings: 2, pongs: 1 }, 0));
    let second = worker.receive(3).unwrap();
    assert_eq!((second.controls, worker.frames.len()), (Controls { pings: 1, pongs: 0 }, 1));
}

#[test]
fn what_has_begun_is_known_and_can_be_forgotten() {
    let mut worker = Worker::new();
    assert_eq!(worker.link.unfinished(), None);
    let frame = Wire::masked(TEXT, "a".repeat(1_000)).bytes();
    worker.far.write_all(&frame[..900]).unwrap();
    worker.wait();
    worker.receive(MOST).unwrap();

    assert!(worker.link.unfinished().is_some_and(|bytes| bytes >= 892));
    worker.link.forget_unfinished();

    assert_eq!(worker.link.unfinished(), None);
}
