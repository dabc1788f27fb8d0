use std::slice::from_ref;

use bytes::Bytes;
use tidewire_protocol::Frame;

use super::utf8::utf8;
use super::{Answer, End};
use crate::wire::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, binary, text};

/// What the suite sends, and wants to see.
pub(super) struct Case {
    pub(super) number: String,
    pub(super) sent: Vec<u8>,
    /// What the suite sends once it has seen the answers: its close, or nothing.
    pub(super) farewell: Vec<u8>,
    pub(super) answers: Vec<Answer>,
    pub(super) end: End,
}

impl Case {
    /// The suite closes normally once it has seen `answers`.
    pub(super) fn good(number: &str, sent: &[Wire], answers: &[Answer]) -> Self {
        let farewell = close(NORMAL).bytes();
        let end = End::Closed(Some(NORMAL));
        Self { farewell, answers: answers.to_vec(), ..Self::closed(number, sent, end) }
    }

    /// We close with `code` after `answers`.
    pub(super) fn bad(number: &str, sent: &[Wire], answers: &[Answer], code: u16) -> Self {
        Self { answers: answers.to_vec(), ..Self::closed(number, sent, End::Refused(code)) }
    }

    /// The suite has closed by what it sent.
    fn closed(number: &str, sent: &[Wire], end: End) -> Self {
        let (number, sent) = (number.to_owned(), wire::join(sent));
        Self { number, sent, farewell: vec![], answers: vec![], end }
    }
}

/// Chapters 1 to 7.
pub(super) fn cases() -> Vec<Case> {
    let chapters = [framing(), pings(), reserved_bits(), opcodes(), fragments(), utf8(), closing()];
    chapters.into_iter().flatten().collect()
}

fn framing() -> Vec<Case> {
    // The eighth is the seventh in chops of 997 bytes.
    let lengths = [0, 125, 126, 127, 128, 65_535, 65_536, 65_536];
    let mut cases = Vec::new();
    for (at, length) in (1..).zip(lengths) {
        let stars = "*".repeat(length);
        let sent = [Wire::masked(TEXT, &stars)];
        cases.push(Case::good(&format!("1.1.{at}"), &sent, &[echo(&stars)]));
        let sent = [Wire::masked(BINARY, vec![0xFE; length])];
        let echo = Answer::Echo(binary(&vec![0xFE; length]));
        cases.push(Case::good(&format!("1.2.{at}"), &sent, &[echo]));
    }
    cases
}

fn pings() -> Vec<Case> {
    let ping = |payload: &[u8]| Wire::masked(PING, payload);
    let unsolicited = Wire::masked(PONG, "unsolicited pong payload");
    let ten: Vec<_> = (0..10).map(|at| format!("payload-{at}")).collect();
    let ten_pings: Vec<_> = ten.iter().map(|payload| ping(payload.as_bytes())).collect();
    let answers: Vec<_> = ten.iter().map(pong).collect();
    let not_text = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    vec![
        Case::good("2.1", &[ping(b"")], &[pong("")]),
        Case::good("2.2", &[ping(b"Hello, world!")], &[pong("Hello, world!")]),
        Case::good("2.3", &[ping(not_text)], &[pong(not_text)]),
        Case::good("2.4", &[ping(&[0xFE; 125])], &[pong([0xFE; 125])]),
        Case::bad("2.5", &[ping(&[0xFE; 126])], &[], PROTOCOL_ERROR),
        Case::good("2.6", &[ping(&[0xFE; 125])], &[pong([0xFE; 125])]),
        Case::good("2.7", &[Wire::masked(PONG, "")], &[]),
        Case::good("2.8", from_ref(&unsolicited), &[]),
        Case::good("2.9", &[unsolicited, ping(b"ping payload")], &[pong("ping payload")]),
        Case::good("2.10", &ten_pings, &answers),
        Case::good("2.11", &ten_pings, &answers),
    ]
}

fn reserved_bits() -> Vec<Case> {
    let hello = Wire::masked(TEXT, HELLO);
    let ping = Wire::masked(PING, "");
    let bits = |frame: &Wire, bits: u8| frame.clone().with_bits(bits << 4);
    let after_hello = |number, rsv| {
        let sent = [hello.clone(), bits(&hello, rsv), ping.clone()];
        Case::bad(number, &sent, &[echo(HELLO)], PROTOCOL_ERROR)
    };
    let alone = |number, frame| Case::bad(number, &[frame], &[], PROTOCOL_ERROR);
    vec![
        alone("3.1", bits(&hello, 1)),
        after_hello("3.2", 2),
        after_hello("3.3", 3),
        after_hello("3.4", 4),
        alone("3.5", bits(&Wire::masked(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), 5)),
        alone("3.6", bits(&Wire::masked(BINARY, HELLO), 6)),
        alone("3.7", bits(&Wire::masked(CLOSE, ""), 7)),
    ]
}

fn opcodes() -> Vec<Case> {
    let hello = Wire::masked(TEXT, HELLO);
    let mut cases = Vec::new();
    for (chapter, first) in [("4.1", 0x3), ("4.2", 0xB)] {
        let payloads = ["", "reserved opcode payload", "", HELLO, HELLO];
        for (at, payload) in (0..).zip(payloads) {
            let number = format!("{chapter}.{}", at + 1);
            let reserved = Wire::masked(first + at, payload);
            cases.push(if at < 2 {
                Case::bad(&number, &[reserved], &[], PROTOCOL_ERROR)
            } else {
                let sent = [hello.clone(), reserved, Wire::masked(PING, "")];
                Case::bad(&number, &sent, &[echo(HELLO)], PROTOCOL_ERROR)
            });
        }
    }
    cases
}

fn fragments() -> Vec<Case> {
    let part = |opcode, payload: &str| Wire::masked(opcode, payload).unfinished();
    let last = |payload: &str| Wire::masked(CONTINUATION, payload);
    let ping = |payload: &str| Wire::masked(PING, payload);
    let refused = |number: &str, sent: &[Wire]| Case::bad(number, sent, &[], PROTOCOL_ERROR);
    let two = [part(TEXT, "fragment1"), last("fragment2")];
    let around = [part(TEXT, "fragment1"), ping("ping payload"), last("fragment2")];
    let joined = echo("fragment1fragment2");
    let nothing = "non-continuation payload";
    let whole = Wire::masked(TEXT, HELLO);
    let of_nothing = [last(nothing), whole.clone()];
    let begun_of_nothing = [part(CONTINUATION, nothing), whole];
    let [one, other] = two.clone();
    let continued = [one, other, part(CONTINUATION, "fragment3"), Wire::masked(TEXT, "fragment4")];
    let repeated = |first: Wire| {
        let round = [first, part(TEXT, "fragment2"), last("fragment3")];
        [round.clone(), round].concat()
    };
    let five = [
        part(TEXT, "fragment1"),
        part(CONTINUATION, "fragment2"),
        ping("pongme 1!"),
        part(CONTINUATION, "fragment3"),
        part(CONTINUATION, "fragment4"),
        ping("pongme 2!"),
        last("fragment5"),
    ];
    let of_five = [
        pong("pongme 1!"),
        pong("pongme 2!"),
        echo("fragment1fragment2fragment3fragment4fragment5"),
    ];

    let mut cases = vec![
        refused("5.1", &[part(PING, "fragment1"), last("fragment2")]),
        refused("5.2", &[part(PONG, "fragment1"), last("fragment2")]),
    ];
    let same = |numbers: [u8; 3], case: &dyn Fn(&str) -> Case| {
        numbers.map(|number| case(&format!("5.{number}")))
    };
    cases.extend(same([3, 4, 5], &|number| Case::good(number, &two, from_ref(&joined))));
    let heard = [pong("ping payload"), joined.clone()];
    cases.extend(same([6, 7, 8], &|number| Case::good(number, &around, &heard)));
    cases.extend(same([9, 10, 11], &|number| refused(number, &of_nothing)));
    cases.extend(same([12, 13, 14], &|number| refused(number, &begun_of_nothing)));
    cases.extend([
        Case::bad("5.15", &continued, &[joined], PROTOCOL_ERROR),
        refused("5.16", &repeated(part(CONTINUATION, "fragment1"))),
        refused("5.17", &repeated(last("fragment1"))),
        refused("5.18", &[part(TEXT, "fragment1"), Wire::masked(TEXT, "fragment2")]),
        Case::good("5.19", &five, &of_five),
        Case::good("5.20", &five, &of_five),
    ]);
    cases
}

fn closing() -> Vec<Case> {
    let hello = Wire::masked(TEXT, "Hello World!");
    let with =
        |code: u16, reason: &[u8]| Wire::masked(CLOSE, [&code.to_be_bytes(), reason].concat());
    let normal = |number, sent: &[Wire]| Case::closed(number, sent, End::Closed(Some(NORMAL)));
    let refused = |number: &str, frame| Case::bad(number, &[frame], &[], PROTOCOL_ERROR);
    let begun = Wire::masked(TEXT, "fragment1").unfinished();
    let ended = Wire::masked(CONTINUATION, "fragment2");
    let long = "BAsd7&jh23".repeat(256 * 1024 / 10);
    let answered = [echo(&long), echo("Hello World!")];
    let before_close =
        [Wire::masked(TEXT, long), hello.clone(), close(NORMAL), Wire::masked(PING, "")];
    let not_text = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";

    let mut cases = vec![
        Case::good("7.1.1", from_ref(&hello), &[echo("Hello World!")]),
        normal("7.1.2", &[close(NORMAL), Wire::masked(CLOSE, "")]),
        normal("7.1.3", &[close(NORMAL), Wire::masked(PING, "")]),
        normal("7.1.4", &[close(NORMAL), hello]),
        normal("7.1.5", &[begun, close(NORMAL), ended]),
        Case { answers: answered.to_vec(), ..normal(UNDEFINED, &before_close) },
        Case::closed("7.3.1", &[Wire::masked(CLOSE, "")], End::Closed(None)),
        refused("7.3.2", Wire::masked(CLOSE, "a")),
        normal("7.3.3", &[close(NORMAL)]),
        normal("7.3.4", &[with(NORMAL, b"Hello World!")]),
        normal("7.3.5", &[with(NORMAL, &[b'*'; 123])]),
        refused("7.3.6", with(NORMAL, &[b'*'; 124])),
        Case::bad("7.5.1", &[with(NORMAL, not_text)], &[], INVALID_UTF8),
        refused("7.13.1", close(5000)),
        refused("7.13.2", close(65_535)),
    ];
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    for (at, code) in (1..).zip(valid) {
        let end = End::Closed(Some(code));
        cases.push(Case::closed(&format!("7.7.{at}"), &[close(code)], end));
    }
    for (at, code) in (1..).zip([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]) {
        cases.push(refused(&format!("7.9.{at}"), close(code)));
    }
    cases
}

pub(super) fn echo(payload: &str) -> Answer {
    Answer::Echo(text(payload))
}

pub(super) fn echo_bytes(payload: &[u8]) -> Answer {
    Answer::Echo(Frame::Text(Bytes::copy_from_slice(payload)))
}

fn pong(payload: impl AsRef<[u8]>) -> Answer {
    Answer::Pong(Bytes::copy_from_slice(payload.as_ref()))
}

fn close(code: u16) -> Wire {
    Wire::masked(CLOSE, code.to_be_bytes())
}

/// Sends its close right after what it wants echoed, and takes it as it comes whether it is.
pub(super) const UNDEFINED: &str = "7.1.6";
const HELLO: &str = "Hello, world!";
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
pub(super) const INVALID_UTF8: u16 = 1007;
