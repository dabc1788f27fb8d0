//! Streams whose ids are `<number>-0`.

use std::ops::Bound;

use super::keyspace::{Stream, number};
use super::reply::Reply;

const WRONG_ID: &str = "ERR Invalid stream ID specified as stream command argument";
const SMALL_ID: &str =
    "ERR The ID specified in XADD is equal or smaller than the target stream top item";

/// `[MAXLEN [~] n] id field value ...`. An approximate trim is done exactly: Redis may do that.
pub(crate) fn add(stream: &mut Stream, arguments: &[Vec<u8>]) -> Result<Reply, String> {
    let mut rest = arguments;
    let mut most = None;
    if rest[0].eq_ignore_ascii_case(b"MAXLEN") {
        rest = &rest[1..];
        if rest[0] == b"~" || rest[0] == b"=" {
            rest = &rest[1..];
        }
        most = number(&rest[0]);
        rest = &rest[1..];
    }
    let id = id_of(&rest[0]).ok_or(WRONG_ID)?;
    if stream.last_key_value().is_some_and(|(newest, _)| *newest >= id) {
        return Err(SMALL_ID.into());
    }
    stream.insert(id, rest[1..].to_vec());
    while most.is_some_and(|most| stream.len() as u64 > most) {
        stream.pop_first();
    }
    Ok(Reply::Bytes(rest[0].clone()))
}

/// `first last [COUNT n]`, the two the other way round when it is `reversed`.
pub(crate) fn range(stream: Option<&Stream>, arguments: &[Vec<u8>], reversed: bool) -> Reply {
    let (first, last) = if reversed { (1, 0) } else { (0, 1) };
    let bounds = (bound(&arguments[first]), bound(&arguments[last]));
    let count = arguments.get(3).and_then(|count| number(count)).unwrap_or(u64::MAX);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let (Some(stream), (Some(first), Some(last))) = (stream, bounds) else {
        return Reply::List(Vec::new());
    };
    if is_empty(first, last) {
        return Reply::List(Vec::new());
    }
    let entries = stream.range((first, last)).map(entry);
    if reversed {
        Reply::List(entries.rev().take(count).collect())
    } else {
        Reply::List(entries.take(count).collect())
    }
}

fn entry((id, fields): (&u64, &Vec<Vec<u8>>)) -> Reply {
    let fields = fields.iter().cloned().map(Reply::Bytes).collect();
    Reply::List(vec![Reply::text(format!("{id}-0")), Reply::List(fields)])
}

/// A range that begins after its end is empty, and no mistake.
fn is_empty(first: Bound<u64>, last: Bound<u64>) -> bool {
    match (first, last) {
        (Bound::Included(first), Bound::Included(last)) => first > last,
        (Bound::Excluded(first), Bound::Included(last) | Bound::Excluded(last))
        | (Bound::Included(first), Bound::Excluded(last)) => first >= last,
        _ => false,
    }
}

fn bound(text: &[u8]) -> Option<Bound<u64>> {
    match text {
        b"-" | b"+" => Some(Bound::Unbounded),
        [b'(', id @ ..] => id_of(id).map(Bound::Excluded),
        id => id_of(id).map(Bound::Included),
    }
}

fn id_of(text: &[u8]) -> Option<u64> {
    number(text.strip_suffix(b"-0").unwrap_or(text))
}
