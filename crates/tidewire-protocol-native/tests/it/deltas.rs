//! Publications as what changed: what is written, and what a client makes of it.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tidewire_model::{
    Command, DeltaFormat, Deltas, Envelope, Event, Payload, Position, Recovery, Request, RequestId,
    Since, Subscribed,
};
use tidewire_protocol::{Decoded, Descriptor, Frame};
use tidewire_protocol_native::client::{Codec, Content, Received, ServerEvent};
use tidewire_protocol_native::{JSON, PROTOBUF, fossil};

use crate::samples::{
    EPOCH, LATER_EPOCH, at, binary_frame, channel, decode_json, decode_protobuf, encode,
    encode_json, epoch, json_payload, publication, text_frame,
};
use crate::wire::{bytes, message, text, varint};

const BASELESS: Deltas = Deltas::Baseless(DeltaFormat::Fossil);
const BASED: Deltas = Deltas::Based(DeltaFormat::Fossil);
const CODECS: [(Codec, Descriptor); 2] = [(Codec::Json, JSON), (Codec::Protobuf, PROTOBUF)];

/// A state that is large enough for a delta, at this offset.
fn state(offset: u64) -> Arc<Envelope> {
    envelope(at(offset), json_payload(&state_text(offset)))
}

fn state_text(offset: u64) -> String {
    format!(r#"{{"round":{offset},"board":"{}"}}"#, "x".repeat(300))
}

fn envelope(position: Position, payload: Payload) -> Arc<Envelope> {
    Arc::new(Envelope::new(publication("room:42", position, payload)))
}

fn event(publications: Vec<Arc<Envelope>>, deltas: Deltas) -> Event {
    Event::Publications { channel: channel("room:42"), publications, deltas }
}

/// `next`, with what is needed to make it of what was before it.
fn after(previous: &Arc<Envelope>, next: Arc<Envelope>) -> Arc<Envelope> {
    next.follow(previous);
    next
}

/// The payloads a client that holds `base` ends up with.
fn heard(codec: Codec, frames: &[Frame], base: Option<Received>) -> Vec<Payload> {
    let (mut last, mut payloads) = (base, Vec::new());
    for event in frames.iter().flat_map(|frame| codec.decode(frame).unwrap()) {
        let items = match event {
            ServerEvent::Deltas { publications, .. } => publications,
            ServerEvent::Publications { publications, .. } => {
                publications.into_iter().map(Received::written).collect()
            }
            other => panic!("{other:?}"),
        };
        for item in items {
            let whole = item.restored(last.as_ref()).unwrap();
            payloads.push(whole.payload.clone());
            last = Some(whole);
        }
    }
    payloads
}

fn received(envelope: &Envelope) -> Received {
    Received {
        position: envelope.position,
        time_ms: envelope.time_ms,
        id: None,
        publisher: None,
        payload: envelope.payload.clone(),
    }
}

#[test]
fn a_subscription_asks_for_deltas_by_the_name_of_their_format() {
    let asked = |delta| {
        let (channel, since) = (channel("a"), Since::Now);
        let command = Command::Subscribe { channel, since, delta, token: None };
        Ok(vec![Decoded::Request(Request { id: RequestId(3), command })])
    };
    let protobuf =
        |format| message(1, &[varint(1, 3), message(3, &[text(1, "a"), varint(4, format)])]);

    let fossil = Some(DeltaFormat::Fossil);
    assert_eq!(
        decode_json(r#"{"id":3,"subscribe":{"channel":"a","delta":"fossil"}}"#),
        asked(fossil)
    );
    assert_eq!(decode_protobuf(protobuf(1)), asked(fossil));
    assert_eq!(
        decode_json(r#"{"id":3,"subscribe":{"channel":"a","delta":"vcdiff"}}"#),
        asked(None)
    );
    assert_eq!(decode_protobuf(protobuf(2)), asked(None));
}

#[test]
fn the_confirmation_says_whether_they_may_come_and_whether_all_do() {
    let subscribed = Subscribed {
        request: None,
        channel: channel("a"),
        recovery: Recovery::NotAsked,
        position: at(7),
        delta: Some(DeltaFormat::Fossil),
        sampled: true,
    };
    let event = [Event::Subscribed(subscribed.clone())];

    assert_eq!(
        encode_json(&event),
        [format!(
            r#"{{"subscribed":{{"channel":"a","epoch":"{EPOCH}","offset":7,"delta":"fossil","sampled":true}}}}"#
        )]
    );
    let position = message(5, &[text(1, EPOCH), varint(2, 7)]);
    let protobuf = message(1, &[message(4, &[text(1, "a"), position, varint(6, 1), varint(7, 1)])]);
    assert_eq!(encode(PROTOBUF, &event, usize::MAX), [binary_frame(protobuf)]);
    for (codec, descriptor) in CODECS {
        let frames = encode(descriptor, &event, usize::MAX);
        assert_eq!(codec.decode(&frames[0]), Ok(vec![ServerEvent::Subscribed(subscribed.clone())]));
    }
}

#[test]
fn what_a_client_holds_the_one_before_of_comes_as_what_changed() {
    let (seven, eight) = (state(7), state(8));
    let event = [event(vec![after(&seven, eight.clone())], BASED)];
    let delta = "52\n9@0,1:84t@A,1V8jak;";

    let json = encode_json(&event);
    let item =
        format!(r#""offset":8,"time":1790000000008,"delta":"{}""#, delta.replace('\n', "\\n"));
    assert_eq!(
        json,
        [format!(
            r#"{{"publications":{{"channel":"room:42","epoch":"{EPOCH}","items":[{{{item}}}]}}}}"#
        )]
    );
    let item = [varint(1, 8), varint(2, 1_790_000_000_008), text(7, delta)].concat();
    let batch = [text(1, "room:42"), text(2, EPOCH), bytes(3, &item)];
    assert_eq!(
        encode(PROTOBUF, &event, usize::MAX),
        [binary_frame(message(1, &[message(2, &batch)]))]
    );
    assert_eq!(eight.known_delta(), Some(&Bytes::from(delta)));
    for (codec, descriptor) in CODECS {
        let frames = encode(descriptor, &event, usize::MAX);
        let heard = heard(codec, &frames, Some(received(&seven)));
        assert_eq!(heard, std::slice::from_ref(&eight.payload));
    }
}

#[test]
fn a_client_without_a_base_is_sent_the_first_in_full_with_its_text_in_a_string() {
    let event = [event(vec![state(7), state(8), state(9)], BASELESS)];

    let json = encode_json(&event);
    let text = state_text(7).replace('"', "\\\"");
    assert!(
        json[0].contains(&format!(r#""offset":7,"time":1790000000007,"text":"{text}"}}"#)),
        "{json:?}"
    );
    assert_eq!(
        (json[0].matches(r#""delta":"#).count(), json[0].matches(r#""data":"#).count()),
        (2, 0)
    );
    for (codec, descriptor) in CODECS {
        let frames = encode(descriptor, &event, usize::MAX);
        let expected = [7, 8, 9].map(|offset| json_payload(&state_text(offset)));
        assert_eq!(heard(codec, &frames, None), expected);
    }
}

#[test]
fn what_is_not_json_is_written_in_base64() {
    let block = |offset: u64| {
        let mut block = vec![0x80; 300];
        block.push(u8::try_from(offset).unwrap());
        envelope(at(offset), Payload::binary(block.into()))
    };
    let event = [event(vec![block(7), block(8)], BASELESS)];

    let json = encode_json(&event);
    assert_eq!(json[0].matches(r#""binary":""#).count(), 1, "{json:?}");
    assert_eq!(json[0].matches(r#""binary_delta":""#).count(), 1, "{json:?}");
    for (codec, descriptor) in CODECS {
        let frames = encode(descriptor, &event, usize::MAX);
        assert_eq!(heard(codec, &frames, None), [7, 8].map(|offset| block(offset).payload.clone()));
    }
}

#[test]
fn what_is_not_worth_a_delta_comes_in_full() {
    let small = |offset| envelope(at(offset), json_payload("[1]"));
    let binary = envelope(at(9), Payload::binary(state_text(9).into()));
    let kinds = vec![small(7), small(8), after(&state(8), binary)];
    let unknown = state(12);

    for (publications, deltas) in [(kinds, BASELESS), (vec![unknown], BASED)] {
        let payloads: Vec<_> = publications.iter().map(|one| one.payload.clone()).collect();
        let event = [event(publications, deltas)];
        assert!(!encode_json(&event)[0].contains("delta"));
        for (codec, descriptor) in CODECS {
            assert_eq!(heard(codec, &encode(descriptor, &event, usize::MAX), None), payloads);
        }
    }
}

#[test]
fn an_epoch_begins_in_full() {
    let later = |offset| {
        let position = Position::new(epoch(LATER_EPOCH), offset);
        envelope(position, json_payload(&state_text(offset)))
    };
    let event = [event(vec![state(7), state(8), later(9), later(10)], BASELESS)];

    let json = encode_json(&event);

    let [frame] = &json[..] else { panic!("{json:?}") };
    let batches: Vec<_> = frame.split(r#"{"publications":"#).skip(1).collect();
    let counts: Vec<_> = batches
        .iter()
        .map(|batch| (batch.matches(r#""text":"#).count(), batch.matches(r#""delta":"#).count()))
        .collect();
    assert_eq!(counts, [(1, 1), (1, 1)]);
}

#[test]
fn those_who_did_not_ask_get_what_they_always_got() {
    let publications = vec![state(7), state(8)];
    let before = encode_json(&[event(publications.clone(), Deltas::Unasked)]);

    encode_json(&[event(publications.clone(), BASED)]);

    assert_eq!(encode_json(&[event(publications, Deltas::Unasked)]), before);
    assert_eq!(before[0].matches(r#""data":"#).count(), 2);
}

#[test]
fn a_delta_of_something_else_is_not_applied() {
    let (seven, eight) = (state(7), state(8));
    let delta = fossil::delta(&seven.payload, &eight.payload).unwrap();
    let item = Received { payload: Content::Delta(delta), ..received(&eight).written() };
    let elsewhere = Position::new(epoch(LATER_EPOCH), 7);

    assert_eq!(item.clone().restored(Some(&received(&seven))), Ok(received(&eight)));
    assert!(item.clone().restored(None).is_err());
    assert!(item.clone().restored(Some(&received(&state(6)))).is_err());
    let same = Received { position: elsewhere, ..received(&seven) };
    assert!(item.clone().restored(Some(&same)).is_err());
    let other =
        Received { payload: json_payload(&state_text(7).replace('x', "y")), ..received(&seven) };
    assert!(item.restored(Some(&other)).is_err());
}

#[test]
fn a_page_of_history_holds_no_deltas() {
    let json = format!(
        r#"{{"id":3,"history":{{"publications":[{{"epoch":"{EPOCH}","offset":8,"time":1,"delta":"0\n0;"}}],"top":{{"epoch":"{EPOCH}","offset":8}}}}}}"#
    );

    assert!(Codec::Json.decode(&text_frame(&json)).is_err());
}

proptest! {
    #[test]
    fn what_a_client_makes_of_deltas_is_what_was_published(
        payloads in prop::collection::vec(payloads(), 1..12),
        has_base in any::<bool>(),
        soft_limit in 0..2_000_usize,
    ) {
        let base = state(0);
        let mut previous = base.clone();
        let mut publications = Vec::new();
        for (offset, payload) in (1..).zip(payloads) {
            previous = after(&previous, envelope(at(offset), payload));
            publications.push(previous.clone());
        }
        let sent: Vec<_> = publications.iter().map(|one| one.payload.clone()).collect();
        let event = [event(publications, if has_base { BASED } else { BASELESS })];

        for (codec, descriptor) in CODECS {
            let frames = encode(descriptor, &event, soft_limit);
            let base = has_base.then(|| received(&base));
            prop_assert_eq!(&heard(codec, &frames, base), &sent);
        }
    }
}

/// Most of them alike, and not always of one kind.
fn payloads() -> impl Strategy<Value = Payload> {
    prop_oneof![
        6 => any::<u16>().prop_map(|number| json_payload(&state_text(number.into()))),
        2 => "[é漢\u{1F600}a]{0,90}".prop_map(|name| {
            let padding = "ü".repeat(150);
            json_payload(&serde_json::to_string(&[&padding, &name, &padding]).unwrap())
        }),
        1 => any::<u64>().prop_map(|n| Payload::binary([vec![0x91; 300], n.to_be_bytes().to_vec()].concat().into())),
    ]
}
