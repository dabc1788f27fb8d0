//! How publications and events are shared out over frames.

use bytes::Bytes;
use tidewire_model::{Deltas, Event, Payload, Position, Publication, RequestId};
use tidewire_protocol::{Descriptor, Frame};
use tidewire_protocol_native::client::{Codec, ServerEvent};
use tidewire_protocol_native::{JSON, PROTOBUF};

use crate::samples::{
    LATER_EPOCH, as_text, at, encode, encode_json, epoch, publication, publications,
};

const BOTH: [(Descriptor, Codec); 2] = [(JSON, Codec::Json), (PROTOBUF, Codec::Protobuf)];

fn numbered(offsets: std::ops::RangeInclusive<u64>) -> Event {
    publications(offsets.map(|offset| sized(at(offset), 10)))
}

fn sized(position: Position, len: usize) -> Publication {
    publication("room:42", position, Payload::binary(Bytes::from(vec![0; len])))
}

/// The offsets of the publications in each frame.
fn offsets(codec: Codec, frames: &[Frame]) -> Vec<Vec<u64>> {
    let of_frame = |frame: &Frame| {
        let events = codec.decode(frame).unwrap();
        let publications = events.into_iter().flat_map(|event| match event {
            ServerEvent::Publications { publications, .. } => publications,
            other => panic!("not publications: {other:?}"),
        });
        publications.map(|received| received.position.offset).collect()
    };
    frames.iter().map(of_frame).collect()
}

#[test]
fn a_publication_alone_is_the_same_bytes_for_every_subscriber() {
    for (descriptor, _) in BOTH {
        let events = [numbered(1..=1)];

        let one = encode(descriptor, &events, usize::MAX);
        let other = encode(descriptor, &events, 0);

        assert_eq!(one, other);
        assert_eq!(one[0].bytes().as_ptr(), other[0].bytes().as_ptr());
    }
}

#[test]
fn a_batch_holds_what_its_publications_hold_alone() {
    let Event::Publications { channel, publications, .. } = numbered(1..=3) else { unreachable!() };
    let alone = publications.iter().map(|envelope| Event::Publications {
        channel: channel.clone(),
        publications: vec![envelope.clone()],
        deltas: Deltas::Unasked,
    });
    let alone: Vec<_> = alone.flat_map(|event| encode_json(&[event])).collect();

    let batch = encode_json(&[Event::Publications {
        channel,
        publications: publications.clone(),
        deltas: Deltas::Unasked,
    }]);

    let item = |frame: &str| frame[frame.find("[{").unwrap() + 1..frame.len() - 3].to_owned();
    let items: Vec<_> = alone.iter().map(|frame| item(frame)).collect();
    assert_eq!(item(&batch[0]), items.join(","));
}

#[test]
fn each_epoch_is_a_batch_of_its_own() {
    let later = |offset| sized(Position::new(epoch(LATER_EPOCH), offset), 1);
    let event = publications([sized(at(6), 1), sized(at(7), 1), later(8), later(9)]);

    for (descriptor, codec) in BOTH {
        let frames = encode(descriptor, std::slice::from_ref(&event), usize::MAX);

        let heard = codec.decode(&frames[0]).unwrap();
        let batches = heard.iter().map(|event| match event {
            ServerEvent::Publications { publications, .. } => {
                publications.iter().map(|received| received.position).collect::<Vec<_>>()
            }
            other => panic!("not publications: {other:?}"),
        });
        let expected = [
            vec![at(6), at(7)],
            [8, 9].map(|offset| Position::new(epoch(LATER_EPOCH), offset)).into(),
        ];
        assert_eq!(batches.collect::<Vec<_>>(), expected);
        assert_eq!(frames.len(), 1);
    }
}

#[test]
fn a_batch_larger_than_the_soft_limit_is_shared_out_over_frames() {
    for (descriptor, codec) in BOTH {
        let soft_limit = 400;
        let all = encode(descriptor, &[numbered(1..=100)], usize::MAX);
        let one_more = encode(descriptor, &[numbered(1..=1)], 0)[0].bytes().len();

        let frames = encode(descriptor, &[numbered(1..=100)], soft_limit);

        assert_eq!(offsets(codec, &frames).concat(), (1..=100).collect::<Vec<_>>());
        let (last, full) = frames.split_last().unwrap();
        for frame in full {
            assert!(frame.bytes().len() <= soft_limit + one_more, "{}", frame.bytes().len());
            // As few frames as possible: none ends before it is full.
            assert!(frame.bytes().len() >= soft_limit, "{}", frame.bytes().len());
        }
        assert!(last.bytes().len() <= soft_limit + one_more);
        assert_eq!(all.len(), 1);
    }
}

#[test]
fn events_beyond_the_soft_limit_go_into_the_next_frame() {
    let events = vec![Event::Pong { request: RequestId(3) }; 10];
    let one = r#"{"id":3,"pong":{}}"#;

    let frames = encode(JSON, &events, 40);

    let three = format!("[{one},{one},{one}]");
    let texts: Vec<_> = frames.iter().map(as_text).collect();
    assert_eq!(texts, [three.clone(), three.clone(), three, one.to_owned()]);
}

#[test]
fn a_soft_limit_of_zero_makes_a_frame_of_each_event() {
    for (descriptor, codec) in BOTH {
        let frames = encode(descriptor, &[numbered(1..=2), numbered(3..=3)], 0);

        assert_eq!(offsets(codec, &frames), [vec![1], vec![2], vec![3]]);
    }
}

#[test]
fn publications_share_a_frame_with_other_events() {
    let frames = encode_json(&[Event::Expiring { at: 1, closes_at: 2 }, numbered(1..=1)]);

    let [alone] = &encode_json(&[numbered(1..=1)])[..] else { panic!("not one frame") };
    assert_eq!(frames, [format!(r#"[{{"expiring":{{"at":1,"closes_at":2}}}},{alone}]"#)]);
}
