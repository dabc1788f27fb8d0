//! One word per thing: docs/decisions/0001-one-word-per-thing.md, checked on identifiers.
//!
//! Only code that ships is read, not comments, strings or tests, which quote other people's
//! words. `key`, Redis' word in the decision, is not checked: keys sign tokens and open maps.

use super::layout::EMPTY_NAMES;
use super::source::Source;

/// A foreign word, and the one crate that may use it.
const FOREIGN: [(&str, &str); 2] =
    [("destination", "tidewire-protocol-stomp"), ("topic", "tidewire-protocol-mqtt")];

/// The same, of words that are also plain English: they are foreign only when they name a type.
const FOREIGN_TYPES: [(&str, &str); 2] =
    [("room", "tidewire-protocol-socketio"), ("subject", "tidewire-broker-nats")];

/// Words for the two ends of a queue that say nothing about what is queued.
const QUEUE_ENDS: [&str; 2] = ["rx", "tx"];

/// Last words of a type's name that name no concept.
const EMPTY_SUFFIXES: [&str; 8] =
    ["data", "helper", "helpers", "impl", "info", "manager", "util", "utils"];

/// Names of types that would be a second word for a thing that has one, and the crates whose
/// foreign standard uses the word for something else.
const SECOND_WORDS: [(&str, &str, &[&str]); 8] = [
    ("Bus", "Broker", &[]),
    ("Cursor", "Position", &[]),
    ("Gateway", "Edge", &[]),
    ("Kick", "Disconnect", &[]),
    ("Message", "Publication or Frame", &["tidewire-transport"]),
    ("Packet", "Frame", &["tidewire-protocol-mqtt", "tidewire-protocol-socketio"]),
    ("PubSub", "Broker", &[]),
    ("Shutdown", "Drain", &[]),
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut untidy = Vec::new();
    for source in sources.iter().filter(|source| source.package() != "xtask") {
        let mut before = "";
        for (at, word) in identifiers(&source.product) {
            let breach = foreign_word(source.package(), word)
                .or_else(|| misnamed(source.package(), before, word));
            untidy.extend(breach.map(|why| format!("{}: `{word}`: {why}", source.place(at))));
            before = word;
        }
    }
    untidy
}

fn foreign_word(package: &str, identifier: &str) -> Option<String> {
    let parts = parts(identifier);
    if parts.last().is_some_and(|last| QUEUE_ENDS.contains(&last.as_str())) {
        return Some("an end of a queue is called for what it carries".to_owned());
    }
    stranger(&FOREIGN, package, &parts)
}

/// The first of `words` among the parts of a name outside the word's home.
fn stranger(words: &[(&str, &str)], package: &str, parts: &[String]) -> Option<String> {
    let (word, home) = words.iter().find(|(word, home)| {
        *home != package && parts.iter().any(|part| part.trim_end_matches('s') == *word)
    })?;
    Some(format!("`{word}` stays inside {home}"))
}

/// A name in a declaration: `before` is the keyword.
fn misnamed(package: &str, before: &str, name: &str) -> Option<String> {
    match before {
        "fn" if name.starts_with("get_") => {
            Some("an accessor is called for what it returns".to_owned())
        }
        "mod" if EMPTY_NAMES.contains(&name) => Some("names no concept".to_owned()),
        "struct" | "enum" | "trait" => misnamed_type(package, name),
        _ => None,
    }
}

fn misnamed_type(package: &str, name: &str) -> Option<String> {
    let parts = parts(name);
    if parts.last().is_some_and(|last| EMPTY_SUFFIXES.contains(&last.as_str())) {
        return Some("the last word names no concept".to_owned());
    }
    if let Some(why) = stranger(&FOREIGN_TYPES, package, &parts) {
        return Some(why);
    }
    let (_, ours, homes) = SECOND_WORDS.iter().find(|(word, _, _)| *word == name)?;
    (!homes.contains(&package)).then(|| format!("the house calls it {ours}"))
}

/// Every identifier and keyword with its offset.
fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |one: char| one.is_alphanumeric() || one == '_';
    code.split(move |one| !is_part(one))
        .filter(|word| word.starts_with(|first: char| !first.is_ascii_digit()))
        .map(move |word| (word.as_ptr().addr() - code.as_ptr().addr(), word))
}

/// `["nats", "subject"]` of `NatsSubject` and of `nats_subject`.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut after_lower = false;
    for one in identifier.chars() {
        let starts_part = parts.is_empty() || one == '_' || (one.is_uppercase() && after_lower);
        if starts_part {
            parts.push(String::new());
        }
        after_lower = one.is_lowercase();
        if one != '_' {
            let last = parts.last_mut().expect("the first character starts a part");
            last.extend(one.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_word_is_untidy_outside_its_crate() {
        for name in ["topic", "topics", "TOPIC_PREFIX", "topic_name", "TopicName"] {
            let code = format!("static {name}: u8 = 0;");
            assert_eq!(untidy("tidewire-hub", &code).len(), 1, "{name}");
        }
        assert_eq!(untidy("tidewire-broker-nats", "struct Subject(String);"), [""; 0]);
    }

    #[test]
    fn a_word_that_merely_contains_a_foreign_one_is_fine() {
        assert_eq!(untidy("tidewire-hub", "let (headroom, utopic, mushroom) = x;"), [""; 0]);
    }

    #[test]
    fn plain_english_is_foreign_only_as_a_type() {
        assert_eq!(untidy("tidewire-hub", "let room = MAX_BYTES - used;"), [""; 0]);
        assert_eq!(untidy("tidewire-hub", "return Err(NoRoom);"), [""; 0]);
        assert_eq!(untidy("tidewire-hub", "struct RoomName;").len(), 1);
    }

    #[test]
    fn words_in_comments_strings_and_tests_are_fine() {
        let code = "// topic\nlet a = \"room\";\n#[cfg(test)]\nmod tests { struct Topic; }\n";

        assert_eq!(untidy("tidewire-hub", code), [""; 0]);
    }

    #[test]
    fn declared_names_that_say_nothing_are_untidy() {
        for code in [
            "struct SessionManager;",
            "trait FrameHelper {}",
            "enum ConnectionInfo {}",
            "fn get_position() {}",
            "mod utils {}",
            "let (tx, inbox) = pair();",
        ] {
            assert_eq!(untidy("tidewire-hub", code).len(), 1, "{code}");
        }
    }

    #[test]
    fn names_that_others_declared_are_fine() {
        assert_eq!(untidy("tidewire-store-redis", "use redis::aio::ConnectionManager;"), [""; 0]);
        assert_eq!(untidy("tidewire-hub", "let one = map.get_mut(&id);"), [""; 0]);
    }

    #[test]
    fn a_second_word_for_a_thing_is_untidy() {
        let found = untidy("tidewire-hub", "pub struct Packet;");

        assert_eq!(found, ["crates/tidewire-hub/src/a.rs:1: `Packet`: the house calls it Frame"]);
        assert_eq!(untidy("tidewire-protocol-mqtt", "pub struct Packet;"), [""; 0]);
    }

    fn untidy(package: &str, code: &str) -> Vec<String> {
        check(&[Source::new(&format!("crates/{package}/src/a.rs"), code.to_owned())])
    }
}
