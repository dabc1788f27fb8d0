//! `docs/protocol.md` says what the code does.

use tidewire_model::{Disconnect, ErrorCode, Limit};
use tidewire_protocol_native::client::Codec;
use tidewire_protocol_native::{DEFAULT_HISTORY_LIMIT, JSON, MAX_COMMANDS, PROTOBUF};

use crate::samples::{decode_json, text_frame};

const PROTOCOL: &str = include_str!("../../../../docs/protocol.md");

/// The rows of a table that begin with these two cells.
fn rows_of(number: u16, name: &str) -> usize {
    let start = format!("| {number} | `{name}` |");
    PROTOCOL.lines().filter(|line| line.starts_with(&start)).count()
}

#[test]
fn every_error_code_is_documented_once() {
    for code in ErrorCode::ALL {
        assert_eq!(rows_of(code.number(), code.as_str()), 1, "{} {}", code.number(), code.as_str());
    }
}

#[test]
fn every_disconnect_code_is_documented_once() {
    for reason in Disconnect::ALL {
        assert_eq!(rows_of(reason.code(), reason.as_str()), 1, "{reason:?}");
    }
}

#[test]
fn every_limit_is_documented_with_what_it_is_and_what_comes_of_it() {
    let limits = PROTOCOL.split("\n## ").find(|part| part.starts_with("Limits\n")).expect("limits");
    for limit in Limit::ALL {
        let name = format!("(`{}`", limit.as_str());
        let rows = limits.lines().filter(|line| line.starts_with("| ") && line.contains(&name));
        assert_eq!(rows.count(), 1, "{name}");
    }
}

#[test]
fn no_code_is_documented_that_does_not_exist() {
    let rows = PROTOCOL.lines().filter(|line| {
        let number = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
        number.is_some_and(|number| number.len() == 4 && number.parse::<u16>().is_ok())
    });

    assert_eq!(rows.count(), ErrorCode::ALL.len() + Disconnect::ALL.len());
}

#[test]
fn subprotocols_and_limits_are_documented() {
    for descriptor in [JSON, PROTOBUF] {
        assert!(PROTOCOL.contains(&format!("`{}`", descriptor.subprotocol)));
    }
    assert!(PROTOCOL.contains(&format!("1 to {MAX_COMMANDS} commands")));
    assert!(PROTOCOL.contains(&format!("(default {DEFAULT_HISTORY_LIMIT})")));
}

/// Examples stand in `json` blocks, one frame a line, those of the server after `←`.
#[test]
fn every_example_is_a_frame_the_code_understands() {
    let (mut sent, mut heard) = (0, 0);
    let blocks = PROTOCOL.split("```").skip(1).step_by(2);
    for line in blocks.filter_map(|block| block.strip_prefix("frames\n")).flat_map(str::lines) {
        if let Some(frame) = line.strip_prefix("→ ") {
            let decoded = decode_json(frame).unwrap_or_else(|error| panic!("{frame}: {error}"));
            for one in decoded {
                assert!(matches!(one, tidewire_protocol::Decoded::Request(_)), "{frame}: {one:?}");
                sent += 1;
            }
        } else if let Some(frame) = line.strip_prefix("← ") {
            let events = Codec::Json.decode(&text_frame(frame));
            let events = events.unwrap_or_else(|error| panic!("{frame}: {error}"));
            assert!(!events.is_empty(), "{frame}");
            heard += events.len();
        } else {
            panic!("neither sent nor heard: {line}");
        }
    }
    assert!(sent >= 7 && heard >= 13, "{sent} commands and {heard} events are shown");
}
