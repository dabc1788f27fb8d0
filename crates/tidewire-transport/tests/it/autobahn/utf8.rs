//! Chapter 6, whose sequences are Markus Kuhn's UTF-8 decoder stress test.

use super::cases::{Case, INVALID_UTF8, echo, echo_bytes};
use crate::wire::{CONTINUATION, TEXT, Wire};

pub(super) fn utf8() -> Vec<Case> {
    let mut cases = vec![
        Case::good("6.1.1", &[Wire::masked(TEXT, "")], &[echo("")]),
        Case::good("6.1.2", &fragments(&["", "", ""]), &[echo("")]),
        Case::good("6.1.3", &fragments(&["", MIDDLE, ""]), &[echo(MIDDLE)]),
        Case::good("6.2.1", &[Wire::masked(TEXT, MIXED)], &[echo(MIXED)]),
        Case::good("6.2.2", &fragments(&[&MIXED[..15], &MIXED[15..]]), &[echo(MIXED)]),
        Case::good("6.2.3", &byte_by_byte(MIXED.as_bytes()), &[echo(MIXED)]),
        Case::good("6.2.4", &byte_by_byte(GREEK), &[echo_bytes(GREEK)]),
        bad("6.3.1", &[Wire::masked(TEXT, surrogate())]),
        bad("6.3.2", &byte_by_byte(&surrogate())),
    ];
    cases.extend(failing_fast());
    for (chapter, sequences) in (5..).zip(sequences()) {
        for (at, (is_valid, payload)) in (1..).zip(sequences) {
            let number = format!("6.{chapter}.{at}");
            let sent = [Wire::masked(TEXT, &payload)];
            cases.push(if is_valid {
                Case::good(&number, &sent, &[echo_bytes(&payload)])
            } else {
                bad(&number, &sent)
            });
        }
    }
    cases
}

/// Text that is refused before its end: what follows the wrong byte is not sent here at all.
fn failing_fast() -> [Case; 4] {
    let payload = [GREEK, b"\xf4\x90\x80\x80", b"edited"].concat();
    let begun = |frame: &[u8]| Wire::masked(TEXT, frame).unfinished();
    let continued = |frame: &[u8]| Wire::masked(CONTINUATION, frame).unfinished();
    let cut = |number, length: usize| {
        let mut case = bad(number, &[Wire::masked(TEXT, &payload)]);
        let unsent = payload.len() - length;
        case.sent.truncate(case.sent.len() - unsent);
        case
    };
    [
        bad("6.4.1", &[begun(&payload[..11]), continued(&payload[11..15])]),
        bad("6.4.2", &[begun(&payload[..12]), continued(&payload[12..13])]),
        cut("6.4.3", 15),
        cut("6.4.4", 13),
    ]
}

fn bad(number: &str, sent: &[Wire]) -> Case {
    Case::bad(number, sent, &[], INVALID_UTF8)
}

fn fragments<T: AsRef<[u8]>>(parts: &[T]) -> Vec<Wire> {
    let opcodes = std::iter::once(TEXT).chain(std::iter::repeat(CONTINUATION));
    let mut frames: Vec<_> =
        opcodes.zip(parts).map(|(opcode, part)| Wire::masked(opcode, part).unfinished()).collect();
    if let Some(last) = frames.pop() {
        frames.push(last.with_bits(0x80));
    }
    frames
}

fn byte_by_byte(payload: &[u8]) -> Vec<Wire> {
    fragments(&payload.chunks(1).collect::<Vec<_>>())
}

fn surrogate() -> Vec<u8> {
    [GREEK, b"\xed\xa0\x80", b"edited"].concat()
}

/// Sections 6.5 to 6.23: whether the suite calls it valid, and the text.
fn sequences() -> [Vec<(bool, Vec<u8>)>; 19] {
    let valid = |list: &[&[u8]]| list.iter().map(|text| (true, text.to_vec())).collect::<Vec<_>>();
    let invalid = |list: &[&[u8]]| list.iter().map(|text| (false, text.to_vec())).collect();
    let ends = [2, 5, 7, 9, 11];
    [
        valid(&[
            b"hello$world",
            b"hello\xc2\xa2world",
            b"hello\xe2\x82\xacworld",
            b"hello\xf0\xa4\xad\xa2world",
            GREEK,
        ]),
        (1..=GREEK.len()).map(|end| (ends.contains(&end), GREEK[..end].to_vec())).collect(),
        valid(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        invalid(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        valid(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        invalid(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        [
            valid(&[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"]),
            invalid(&[b"\xf4\x90\x80\x80"]),
        ]
        .concat(),
        unexpected_continuations(),
        lonely_starts(),
        invalid(&INCOMPLETE),
        invalid(&[&INCOMPLETE.concat()]),
        invalid(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        invalid(&[
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ]),
        invalid(&[
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ]),
        invalid(&[
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ]),
        invalid(&[
            b"\xed\xa0\x80",
            b"\xed\xad\xbf",
            b"\xed\xae\x80",
            b"\xed\xaf\xbf",
            b"\xed\xb0\x80",
            b"\xed\xbe\x80",
            b"\xed\xbf\xbf",
        ]),
        surrogate_pairs(),
        not_characters(),
        (0xB9..=0xBF).map(|last| (true, vec![0xEF, 0xBF, last])).collect(),
    ]
}

fn unexpected_continuations() -> Vec<(bool, Vec<u8>)> {
    let alternating = |length| [0x80, 0xBF].into_iter().cycle().take(length).collect();
    let mut texts = vec![vec![0x80], vec![0xBF]];
    texts.extend((2..=6).map(alternating));
    texts.push((0x80..0xBF).collect());
    texts.into_iter().map(|text| (false, text)).collect()
}

/// Each followed by a space.
fn lonely_starts() -> Vec<(bool, Vec<u8>)> {
    [0xC0..0xDF, 0xE0..0xEF, 0xF0..0xF7, 0xF8..0xFB, 0xFC..0xFD]
        .map(|starts| (false, starts.flat_map(|start| [start, b' ']).collect()))
        .to_vec()
}

fn surrogate_pairs() -> Vec<(bool, Vec<u8>)> {
    let mut pairs = Vec::new();
    for high in [[0xA0, 0x80], [0xAD, 0xBF], [0xAE, 0x80], [0xAF, 0xBF]] {
        for low in [[0xB0, 0x80], [0xBF, 0xBF]] {
            let pair = [&[0xED][..], &high, &[0xED], &low].concat();
            pairs.push((false, pair));
        }
    }
    pairs
}

/// Valid UTF-8 all the same: U+FFFE, U+FFFF, and the last two of every plane above.
fn not_characters() -> Vec<(bool, Vec<u8>)> {
    let planes = (0..=16_u32).flat_map(|plane| [plane << 16 | 0xFFFE, plane << 16 | 0xFFFF]);
    planes
        .map(|code| char::from_u32(code).expect("not a surrogate").to_string())
        .map(|text| (true, text.into_bytes()))
        .collect()
}

const MIDDLE: &str = "middle frame payload";
const MIXED: &str = "Hello-µ@ßöäüàá-UTF-8!!";
const GREEK: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";
const INCOMPLETE: [&[u8]; 10] = [
    b"\xc0",
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xf8\x80\x80\x80",
    b"\xfc\x80\x80\x80\x80",
    b"\xdf",
    b"\xef\xbf",
    b"\xf7\xbf\xbf",
    b"\xfb\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf",
];
