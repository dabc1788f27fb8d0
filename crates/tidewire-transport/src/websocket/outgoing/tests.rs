use proptest::prelude::*;

use super::*;

/// A stream that takes so many bytes and then no more.
#[derive(Default)]
struct Narrow {
    room: usize,
    taken: Vec<u8>,
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.room.min(bytes.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Narrow {
    /// Lets `room` more bytes through.
    fn take(&mut self, outgoing: &mut Outgoing, room: usize) {
        self.room = room;
        outgoing.flush(self, &mut Vec::new()).expect("nothing breaks");
    }

    /// What has been taken, as whole frames: opcode, first byte of the payload, and its length.
    fn frames(&self) -> Vec<(u8, u8, usize)> {
        let (mut rest, mut frames) = (&self.taken[..], Vec::new());
        while let [first, length, tail @ ..] = rest {
            let (bytes, tail) = match length {
                126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
                127 => unreachable!("nothing is that long here"),
                short => (usize::from(*short), tail),
            };
            let mark = tail[..bytes].first().copied().unwrap_or_default();
            frames.push((first & 0xf, mark, bytes));
            rest = &tail[bytes..];
        }
        frames
    }
}

const PING: (u8, u8, usize) = (9, 0, 0);

fn frame(mark: u8, bytes: usize) -> Frame {
    Frame::Binary(vec![mark; bytes].into())
}

fn queue(outgoing: &mut Outgoing, frame: Frame) {
    outgoing.frames(&[frame], None, &mut Deflater::default()).expect("a server draws no key");
}

#[test]
fn a_ping_goes_before_what_a_slow_peer_has_not_begun_to_read() {
    let (mut outgoing, mut stream) = (Outgoing::new(Role::Server), Narrow::default());
    for mark in 0..4 {
        queue(&mut outgoing, frame(mark, 10_000));
    }
    stream.take(&mut outgoing, 5_000);

    outgoing.ping();
    stream.take(&mut outgoing, 1_000_000);

    let order: Vec<_> = stream.frames().iter().map(|(opcode, mark, _)| (*opcode, *mark)).collect();
    assert_eq!(order[1].0, PING.0, "{order:?}");
    assert_eq!(order.len(), 5);
}

#[test]
fn a_ping_gets_through_a_queue_that_is_never_empty() {
    let (mut outgoing, mut stream) = (Outgoing::new(Role::Server), Narrow::default());
    for round in 0..100 {
        queue(&mut outgoing, frame(round, 2_000));
        queue(&mut outgoing, frame(round, 2_000));
        outgoing.ping();
        stream.take(&mut outgoing, 2_500);
    }
    assert!(outgoing.unsent() > 100_000);

    stream.take(&mut outgoing, 1_000_000);

    let frames = stream.frames();
    let pings = frames.iter().filter(|frame| frame.0 == PING.0).count();
    assert!(pings > 50, "{pings} pings in {} frames", frames.len());
}

#[test]
fn pings_that_cannot_be_written_do_not_gather() {
    let (mut outgoing, mut stream) = (Outgoing::new(Role::Server), Narrow::default());
    queue(&mut outgoing, frame(1, 60_000));
    stream.take(&mut outgoing, 100);
    let before = outgoing.unsent();

    for _ in 0..1_000 {
        outgoing.ping();
        outgoing.pong(Bytes::from_static(&[7; 100])).expect("a server draws no key");
        stream.take(&mut outgoing, 0);
    }

    assert!(outgoing.unsent() < before + 300, "{} B more", outgoing.unsent() - before);
}

#[test]
fn what_is_urgent_is_bounded() {
    let mut outgoing = Outgoing::new(Role::Server);
    queue(&mut outgoing, frame(1, 10_000));

    let urgent = (0..100).filter(|_| {
        let has_room = outgoing.has_room_for_urgent(1_000);
        if has_room {
            outgoing.urgent(&[frame(2, 1_000)]).expect("a server draws no key");
        }
        has_room
    });

    assert_eq!(urgent.count(), 16);
}

#[test]
fn what_is_forgotten_leaves_whole_frames() {
    let (mut outgoing, mut stream) = (Outgoing::new(Role::Server), Narrow::default());
    for mark in 0..4 {
        queue(&mut outgoing, frame(mark, 20_000));
    }
    stream.take(&mut outgoing, 25_000);
    outgoing.urgent(&[frame(9, 10)]).expect("a server draws no key");

    outgoing.forget_unbegun();
    outgoing.close(Some((CloseCode::NORMAL, ""))).expect("a server draws no key");
    stream.take(&mut outgoing, 1_000_000);

    let marks: Vec<_> = stream.frames().iter().map(|(opcode, mark, _)| (*opcode, *mark)).collect();
    assert_eq!(marks[..3], [(2, 0), (2, 1), (2, 9)]);
    assert_eq!((marks.len(), marks[3].0, outgoing.unsent()), (4, 8, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Queue(usize),
    Shared(usize),
    Urgent(usize),
    Ping,
    Forget,
    Write(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_usize..5_000).prop_map(Step::Queue),
        2 => (1_usize..5_000).prop_map(Step::Shared),
        3 => (1_usize..500).prop_map(Step::Urgent),
        1 => Just(Step::Ping),
        1 => Just(Step::Forget),
        6 => (1_usize..4_000).prop_map(Step::Write),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Marks count up within each lane, so that what is parsed from the middle of a frame, or comes out
    /// of order, shows.
    #[test]
    fn frames_stay_whole_and_in_the_order_of_their_lane(steps in steps()) {
        let (mut outgoing, mut stream) = (Outgoing::new(Role::Server), Narrow::default());
        let (mut ordinary, mut urgent) = (0_u8, 128_u8);
        let mut forgot = false;
        for step in steps {
            match step {
                Step::Queue(bytes) => {
                    queue(&mut outgoing, frame(ordinary, bytes));
                    ordinary = (ordinary + 1) % 128;
                }
                Step::Shared(bytes) => {
                    let mut wire = BytesMut::new();
                    encode(&frame(ordinary, bytes), &mut wire);
                    outgoing.wire(wire.freeze());
                    ordinary = (ordinary + 1) % 128;
                }
                Step::Urgent(bytes) => {
                    outgoing.urgent(&[frame(urgent, bytes)]).expect("a server draws no key");
                    urgent = 128 | urgent.wrapping_add(1);
                }
                Step::Ping => outgoing.ping(),
                Step::Forget => {
                    outgoing.forget_unbegun();
                    forgot = true;
                }
                Step::Write(room) => stream.take(&mut outgoing, room),
            }
        }
        stream.take(&mut outgoing, 10_000_000);

        prop_assert_eq!(outgoing.unsent(), 0);
        prop_assert!(outgoing.is_empty());
        let frames: Vec<_> = stream.frames().into_iter().filter(|frame| *frame != PING).collect();
        prop_assert!(frames.iter().all(|(opcode, ..)| *opcode == 2));
        let lane = |is_urgent: bool| {
            let marks = frames.iter().map(|(_, mark, _)| *mark);
            marks.filter(|mark| (*mark >= 128) == is_urgent).collect::<Vec<u8>>()
        };
        let all = |is_urgent: bool, next: u8| lane(is_urgent).last().is_none_or(|last| last.wrapping_add(1) % 128 == next % 128);
        prop_assert!(all(true, urgent), "the last urgent one has come");
        for (at, mark) in lane(true).iter().enumerate() {
            prop_assert_eq!(usize::from(mark % 128), at % 128);
        }
        if !forgot {
            prop_assert!(all(false, ordinary));
            for (at, mark) in lane(false).iter().enumerate() {
                prop_assert_eq!(usize::from(*mark), at % 128);
            }
        }
    }
}
