//! Properties: nothing panics, and what one side says the other side hears.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidewire_model::{
    Channel, Command, Connect, DeltaFormat, Direction, Epoch, Event, HistoryQuery, Payload,
    Position, PublicationId, Publish, Request, RequestId, Resume, SessionNonce, Since,
};
use tidewire_protocol::{Decoded, Frame};
use tidewire_protocol_native::client::{Codec, Received, ServerEvent};
use tidewire_protocol_native::{JSON, PROTOBUF};

use crate::samples::{encode, publication, publications};

fn channels() -> impl Strategy<Value = Channel> {
    "[a-zé\"\\\\:.-]{1,20}(/[a-z0-9]{1,5}){0,3}"
        .prop_map(|name| Channel::parse(&name).expect("the pattern makes valid names"))
}

fn positions() -> impl Strategy<Value = Position> {
    ("[0-9a-z]{16}", 0..=Position::MAX_OFFSET)
        .prop_map(|(epoch, offset)| Position::new(Epoch::parse(&epoch).unwrap(), offset))
}

fn payloads() -> impl Strategy<Value = Payload> {
    prop_oneof![
        vec(any::<u8>(), 0..50).prop_map(|bytes| Payload::binary(bytes.into())),
        any::<String>()
            .prop_map(|text| { Payload::json(serde_json::to_vec(&text).unwrap().into()).unwrap() }),
        any::<f64>().prop_map(|number| {
            Payload::json(Bytes::from(serde_json::json!({ "n": [number, null] }).to_string()))
                .unwrap()
        }),
    ]
}

const TOKEN: &str = "[!-~é]{1,40}";

fn connects() -> impl Strategy<Value = Connect> {
    let positions = vec((channels(), positions()), 0..4);
    let resumed = (TOKEN, any::<[u8; 16]>(), positions).prop_map(|(token, nonce, positions)| {
        let nonce = SessionNonce::from_bytes(nonce);
        Connect {
            resume: Some(Resume { token: token.into(), nonce, positions }),
            ..Connect::default()
        }
    });
    prop_oneof![
        TOKEN.prop_map(|token| Connect { token: Some(token.into()), ..Connect::default() }),
        resumed
    ]
}

fn publishes() -> impl Strategy<Value = Publish> {
    let id = "[ -~é]{1,32}".prop_map(|id| PublicationId::parse(&id).unwrap());
    (channels(), option::of(id), payloads()).prop_map(|(channel, id, payload)| Publish {
        channel,
        id,
        payload,
    })
}

fn starts() -> impl Strategy<Value = Since> {
    prop_oneof![
        Just(Since::Now),
        positions().prop_map(Since::Position),
        any::<u32>().prop_map(Since::Last),
    ]
}

fn queries() -> impl Strategy<Value = HistoryQuery> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    (direction, option::of(positions()), 1..=u32::MAX)
        .prop_map(|(direction, from, limit)| HistoryQuery { direction, from, limit })
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        connects().prop_map(Command::Connect),
        publishes().prop_map(Command::Publish),
        (channels(), starts(), option::of(Just(DeltaFormat::Fossil)), option::of(TOKEN)).prop_map(
            |(channel, since, delta, token)| {
                let token = token.map(Into::into);
                Command::Subscribe { channel, since, delta, token }
            }
        ),
        channels().prop_map(|channel| Command::Unsubscribe { channel }),
        (channels(), queries()).prop_map(|(channel, query)| Command::History { channel, query }),
        Just(Command::Ping),
        (TOKEN, option::of(channels()))
            .prop_map(|(token, channel)| Command::Refresh { token: token.into(), channel }),
    ]
}

/// Text that is almost a frame, which plain noise never is.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("null"),
        Just("\"id\":1"),
        Just("\"ping\":{}"),
        Just("\"publish\":"),
        Just("\"channel\":\"a\""),
        Just("\"data\":"),
        Just("\\ud800"),
        Just("1e999"),
        Just("-0"),
        Just("\"pong\":{}"),
        Just("\"publications\":"),
        Just("\"items\":["),
        Just("é"),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn decode_everywhere(bytes: &Bytes) {
    for frame in [Frame::Text(bytes.clone()), Frame::Binary(bytes.clone())] {
        for descriptor in [JSON, PROTOBUF] {
            drop((descriptor.start)().decode(frame.clone()));
        }
        for codec in [Codec::Json, Codec::Protobuf] {
            drop(codec.decode(&frame));
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        decode_everywhere(&bytes.into());
    }

    #[test]
    fn what_is_nearly_json_never_panics(text in nearly_json()) {
        decode_everywhere(&text.into());
    }

    #[test]
    fn a_damaged_frame_never_panics(
        command in commands(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        for codec in [Codec::Json, Codec::Protobuf] {
            let frame = codec.encode(&Request { id: RequestId(1), command: command.clone() });
            let mut bytes = frame.bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = with;
            decode_everywhere(&bytes.into());
        }
    }

    #[test]
    fn the_server_understands_every_request(
        requests in vec((any::<u32>(), commands()), 1..10),
        soft_limit in 0..2_000_usize,
    ) {
        let requests: Vec<_> = requests
            .into_iter()
            .map(|(id, command)| Request { id: RequestId(id), command })
            .collect();
        let expected: Vec<_> = requests.iter().cloned().map(Decoded::Request).collect();

        for (codec, descriptor) in [(Codec::Json, JSON), (Codec::Protobuf, PROTOBUF)] {
            let mut frames = Vec::new();
            codec.encode_all(&requests, soft_limit, &mut frames);
            let decoded = frames.into_iter().map(|frame| (descriptor.start)().decode(frame).unwrap());
            prop_assert_eq!(decoded.collect::<Vec<_>>().concat(), expected.as_slice());
        }
    }

    #[test]
    fn the_client_hears_every_publication_once_and_in_order(
        items in vec((positions(), payloads()), 1..20),
        soft_limit in 0..2_000_usize,
    ) {
        let sent: Vec<_> = items
            .into_iter()
            .map(|(position, payload)| publication("room:\"42\"", position, payload))
            .collect();
        let event: Event = publications(sent.clone());

        for (codec, descriptor) in [(Codec::Json, JSON), (Codec::Protobuf, PROTOBUF)] {
            let mut heard: Vec<Received> = Vec::new();
            for frame in encode(descriptor, std::slice::from_ref(&event), soft_limit) {
                for event in codec.decode(&frame).unwrap() {
                    let ServerEvent::Publications { publications, .. } = event else {
                        return Err(TestCaseError::fail("not publications"));
                    };
                    heard.extend(publications);
                }
            }
            prop_assert_eq!(heard.len(), sent.len());
            for (heard, sent) in heard.iter().zip(&sent) {
                prop_assert_eq!(heard.position, sent.position);
                prop_assert_eq!(&heard.payload, &sent.payload);
                prop_assert_eq!(heard.time_ms, sent.time_ms);
            }
        }
    }
}
