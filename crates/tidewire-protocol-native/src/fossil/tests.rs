use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What a delta of `base` is, however little it saves.
fn encoded(base: &[u8], target: &[u8]) -> Vec<u8> {
    encode(base, target, |_| true)
}

fn encoded_text(base: &str, target: &str) -> String {
    let target = target.as_bytes();
    let delta = encode(base.as_bytes(), target, |at| is_boundary(target, at));
    String::from_utf8(delta).expect("the delta of a text is text")
}

fn json(text: &str) -> Payload {
    Payload::json(Bytes::copy_from_slice(text.as_bytes())).expect("valid")
}

/// A state of 20 objects, in which `level` stands once.
fn state(level: &str) -> String {
    let items: Vec<_> = (0..20)
        .map(|id| {
            format!(
                r#"{{"id":{id},"name":"sensor {id}","level":{}}}"#,
                if id == 7 { level } else { "1" }
            )
        })
        .collect();
    format!("[{}]", items.join(","))
}

#[test]
fn a_delta_copies_what_stayed_and_holds_what_changed() {
    let delta = encoded_text(&state("1"), &state("250"));

    assert_eq!(delta, "Bw\n4b@0,3:2507I@4c,1hw6tu;");
    assert_eq!(delta, fossil_form(&state("1"), &state("250")));
}

#[test]
fn what_has_nothing_in_common_is_one_literal() {
    assert_eq!(encoded(b"", b"hello"), b"5\n5:hello3NPMmh;".to_vec());
    assert_eq!(encoded(b"hello", b""), b"0\n0;".to_vec());
}

#[test]
fn numbers_are_written_in_base_64_of_fossils_own() {
    for (number, text) in
        [(0, "0"), (35, "Z"), (36, "_"), (62, "z"), (63, "~"), (64, "10"), (4_096, "100")]
    {
        let mut out = Vec::new();
        push_number(&mut out, number);

        assert_eq!(out, text.as_bytes(), "{number}");
        assert_eq!(digits(number), text.len(), "{number}");
    }
}

#[test]
fn only_what_is_large_of_one_kind_and_mostly_the_same_is_sent_as_a_delta() {
    let (old, new) = (json(&state("1")), json(&state("2")));
    let binary = |payload: &Payload| Payload::binary(payload.bytes().clone());

    assert!(delta(&old, &new).is_some_and(|delta| delta.len() < 30));
    assert!(delta(&binary(&old), &binary(&new)).is_some());
    assert_eq!(delta(&binary(&old), &new), None);
    assert_eq!(delta(&json("[]"), &new), None);
    let short = |number: u8| json(&format!("[{number},\"{}\"]", "x".repeat(LEAST_BYTES - 7)));
    assert_eq!(delta(&short(1), &short(2)), None);
}

#[test]
fn a_delta_of_at_most_seventy_hundredths_is_sent() {
    let base = Payload::binary(Bytes::from("a".repeat(4_000)));
    let ending = |len: usize| {
        let kept = "a".repeat(4_000 - len);
        Payload::binary(Bytes::from(format!("{kept}{}", &"0123456789".repeat(400)[..len])))
    };

    let lens: Vec<_> = [2_700, 2_900].map(|len| delta(&base, &ending(len)).map(|d| d.len())).into();

    assert!(lens[0].is_some_and(|len| len <= 2_800), "{lens:?}");
    assert_eq!(lens[1], None);
}

#[test]
fn no_character_is_cut_in_two() {
    // All of these begin with the same byte, and some end with the same.
    let (old, new) =
        ("\"漢字仮名交じり文、漢字仮名交じり文\"", "\"漢字仮名亥じり文、漢字仮召交じり文\"");

    let delta = encoded_text(old, new);

    assert_eq!(decode(old.as_bytes(), delta.as_bytes()), Ok(new.as_bytes().to_vec()));
}

#[test]
fn what_is_no_delta_of_the_base_is_refused() {
    let base = json(&state("1"));
    let right = delta(&base, &json(&state("2"))).expect("worth it");
    let bad: [&[u8]; 13] = [
        b"",
        b"5",
        b"\n",
        b"5\n",
        b"5\n5:hello",
        b"5\n5:hello3NPMmi;",
        b"5\n5:hello3NPMmh;x",
        b"6\n5:hello3NPMmh;",
        b"4\n5:hello3NPMmh;",
        b"5\n6:hello",
        b"5\n5@zzzz,0;",
        b"5\n5@0;0;",
        b"5\n5!hello0;",
    ];

    for delta in bad {
        assert_eq!(apply(&base, delta), Err(BadDelta), "{:?}", String::from_utf8_lossy(delta));
    }
    assert_eq!(apply(&json(&state("10").replace("sensor", "centre")), &right), Err(BadDelta));
    assert_eq!(
        apply(&Payload::binary(Bytes::from_static(b"x")), b"5\n5:hello3NPMmh;"),
        Ok(Payload::binary("hello".into()))
    );
    assert_eq!(apply(&base, b"5\n5:hello3NPMmh;"), Err(BadDelta), "hello is not JSON");
}

#[test]
fn a_delta_takes_no_more_memory_than_it_may() {
    // Copies the base over and over: seven bytes become a thousand.
    let base = vec![7; 1_000];
    let copies = "Fe@0,".repeat(40_000);
    let claimed = |digits: &str| format!("{digits}\n{copies}0;").into_bytes();

    assert_eq!(decode(&base, &claimed("~~~~~")), Err(BadDelta));
    assert_eq!(decode(&base, &claimed("~~~~~~")), Err(BadDelta));
    assert_eq!(decode(&base, &claimed("~~~")), Err(BadDelta));
    assert_eq!(decode(&base, b"~~~\n0;"), Err(BadDelta));
}

#[test]
fn numbers_beyond_32_bits_are_refused() {
    for delta in ["4000000\n0;", "5\n3~~~~~~:hello0;", "5\n0@~~~~~~~~~~~~,0;"] {
        assert_eq!(decode(b"hello", delta.as_bytes()), Err(BadDelta), "{delta}");
    }
}

#[test]
fn a_payload_made_to_be_slow_is_not() {
    // Every window of either is the same, or is in the other many times.
    let len: usize = 64 * 1_024;
    let same = vec![b'a'; len];
    let almost: Vec<_> = (0..len).map(|at| if at % 13 == 0 { b'b' } else { b'a' }).collect();

    for (base, target) in [(&same, &almost), (&almost, &same)] {
        assert_eq!(decode(base, &encoded(base, target)).as_ref(), Ok(target));
    }
}

/// `target` as another implementation makes it of what our delta says.
fn fossil_form(base: &str, target: &str) -> String {
    let delta = encoded_text(base, target);
    let theirs = fossil_delta::apply(base, &delta).expect("they read what we write");
    assert_eq!(theirs, target.as_bytes());
    delta
}

/// A text and what has become of it by some edits.
fn edited() -> impl Strategy<Value = (Vec<char>, Vec<char>)> {
    let text = vec(prop_oneof![4 => any::<char>(), 8 => prop::char::range('a', 'e')], 0..300);
    let edit = (any::<prop::sample::Index>(), 0..20_usize, vec(any::<char>(), 0..10));
    (text, vec(edit, 0..5)).prop_map(|(old, edits)| {
        let mut new = old.clone();
        for (at, len, with) in edits {
            let at = at.index(new.len() + 1);
            let end = new.len().min(at + len);
            new.splice(at..end, with);
        }
        (old, new)
    })
}

fn text(chars: &[char]) -> String {
    chars.iter().collect()
}

proptest! {
    #[test]
    fn applying_a_delta_makes_the_text_it_was_made_of((old, new) in edited()) {
        let (old, new) = (text(&old), text(&new));

        let delta = encoded_text(&old, &new);

        prop_assert_eq!(decode(old.as_bytes(), delta.as_bytes()), Ok(new.into_bytes()));
    }

    #[test]
    fn applying_a_delta_makes_the_bytes_it_was_made_of(
        old in vec(0..4_u8, 0..400),
        new in vec(0..4_u8, 0..400),
    ) {
        let delta = encoded(&old, &new);

        prop_assert_eq!(decode(&old, &delta), Ok(new));
    }

    #[test]
    fn other_implementations_read_what_we_write_and_we_what_they_write((old, new) in edited()) {
        let (old, new) = (text(&old), text(&new));

        fossil_form(&old, &new);
        let theirs = fossil_delta::delta(&new, &old);

        prop_assert_eq!(decode(old.as_bytes(), &theirs), Ok(new.into_bytes()));
    }

    #[test]
    fn junk_never_panics(
        base in vec(any::<u8>(), 0..100),
        delta in vec(prop_oneof![any::<u8>(), prop::sample::select(b"0123~@:;,\n".to_vec())], 0..100),
    ) {
        drop(decode(&base, &delta));
    }

    #[test]
    fn a_damaged_delta_makes_what_was_meant_or_nothing(
        (old, new) in edited(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let (old, new) = (text(&old), text(&new));
        let mut delta = encoded(old.as_bytes(), new.as_bytes());
        let at = at.index(delta.len());
        delta[at] = with;

        // The checksum is a sum: it does not see words that changed places.
        if let Ok(made) = decode(old.as_bytes(), &delta) {
            prop_assert_eq!(checksum(&made), checksum(new.as_bytes()));
        }
    }
}
