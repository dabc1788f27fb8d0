//! What a Redis holds, and the commands that the functions use: no more, so that a function that
//! comes to need another one fails loudly.

use std::collections::BTreeMap;

use super::reply::Reply;
use super::stream;

/// The keys of one server, with expiry as Redis has it: what has expired is not seen any more.
#[derive(Clone, Default)]
pub struct Keyspace {
    keys: BTreeMap<Vec<u8>, Entry>,
}

#[derive(Clone)]
struct Entry {
    value: Value,
    expires_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Vec<u8>),
    Hash(Hash),
    /// By the first half of the id; the second is 0 in all that the functions write.
    Stream(Stream),
    Sorted(BTreeMap<Vec<u8>, f64>),
}

pub(crate) type Hash = BTreeMap<Vec<u8>, Vec<u8>>;
pub(crate) type Stream = BTreeMap<u64, Vec<Vec<u8>>>;

/// A command and its arguments.
pub type Command = Vec<Vec<u8>>;

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

impl Keyspace {
    /// Whether a command changes something, and is therefore replicated.
    pub(crate) fn is_write(name: &str) -> bool {
        matches!(
            name,
            "SET" | "DEL" | "HSET" | "HSETNX" | "HDEL" | "PEXPIREAT" | "XADD" | "ZADD" | "ZREM"
        )
    }

    /// Performs a command at `now`, in milliseconds of this server's clock. `PEXPIRE` is written
    /// `PEXPIREAT` already.
    pub fn apply(&mut self, command: &[Vec<u8>], now: u64) -> Reply {
        let Some((name, arguments)) = command.split_first() else {
            return Reply::Error("ERR empty command".into());
        };
        let name = String::from_utf8_lossy(name).to_uppercase();
        let Some(key) = arguments.first() else {
            return Reply::Error(format!("ERR wrong number of arguments for '{name}' command"));
        };
        if self.keys.get(key).is_some_and(|entry| entry.expires_at.is_some_and(|at| at <= now)) {
            self.keys.remove(key);
        }
        let rest = &arguments[1..];
        let done = match name.as_str() {
            "GET" => self.read_text(key),
            "SET" => Ok(self.set(key, &rest[0])),
            "DEL" => Ok(Reply::Integer(self.delete(arguments))),
            "HGET" => self.hash(key).map(|hash| Reply::of(hash.and_then(|h| h.get(&rest[0])))),
            "HMGET" => self.hash(key).map(|hash| {
                let value = |field| Reply::of(hash.and_then(|hash| hash.get(field)));
                Reply::List(rest.iter().map(value).collect())
            }),
            "HVALS" => self.hash(key).map(|hash| {
                let values = hash.into_iter().flat_map(BTreeMap::values);
                Reply::List(values.cloned().map(Reply::Bytes).collect())
            }),
            "HSET" => self.write_hash(key, rest),
            "HSETNX" => self.write_new_field(key, rest),
            "HDEL" => self.delete_fields(key, rest),
            "PEXPIREAT" => Ok(self.expire(key, rest)),
            "XADD" => self.add_to_stream(key, rest),
            "XRANGE" => self.stream(key).map(|stream| stream::range(stream, rest, false)),
            "XREVRANGE" => self.stream(key).map(|stream| stream::range(stream, rest, true)),
            "ZADD" => self.add_to_sorted(key, rest),
            "ZREM" => self.remove_from_sorted(key, rest),
            "ZRANGEBYSCORE" => self.range_by_score(key, rest),
            _ => Err(format!("ERR unknown command '{name}'")),
        };
        done.unwrap_or_else(Reply::Error)
    }

    /// The entries of the stream whose key ends like this, for whoever judges.
    pub(crate) fn entries(&self, end: &str, now: u64) -> Vec<(u64, Vec<Vec<u8>>)> {
        let is_it = |(key, entry): &(&Vec<u8>, &Entry)| {
            key.ends_with(end.as_bytes()) && entry.expires_at.is_none_or(|at| at > now)
        };
        match self.keys.iter().find(is_it).map(|(_, entry)| &entry.value) {
            Some(Value::Stream(stream)) => {
                stream.iter().map(|(id, fields)| (*id, fields.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn value(&self, key: &[u8]) -> Option<&Value> {
        self.keys.get(key).map(|entry| &entry.value)
    }

    fn value_or(&mut self, key: &[u8], empty: Value) -> &mut Value {
        let new = || Entry { value: empty, expires_at: None };
        &mut self.keys.entry(key.to_vec()).or_insert_with(new).value
    }

    fn read_text(&self, key: &[u8]) -> Result<Reply, String> {
        match self.value(key) {
            None => Ok(Reply::Nil),
            Some(Value::Text(text)) => Ok(Reply::Bytes(text.clone())),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn set(&mut self, key: &[u8], text: &[u8]) -> Reply {
        let value = Value::Text(text.to_vec());
        self.keys.insert(key.to_vec(), Entry { value, expires_at: None });
        Reply::ok()
    }

    fn delete(&mut self, keys: &[Vec<u8>]) -> i64 {
        let found = keys.iter().filter(|key| self.keys.remove(*key).is_some());
        i64::try_from(found.count()).expect("few")
    }

    fn expire(&mut self, key: &[u8], arguments: &[Vec<u8>]) -> Reply {
        let Some(entry) = self.keys.get_mut(key) else { return Reply::Integer(0) };
        let only_if_none = arguments.get(1).is_some_and(|flag| flag.eq_ignore_ascii_case(b"NX"));
        if only_if_none && entry.expires_at.is_some() {
            return Reply::Integer(0);
        }
        let Some(at) = number(&arguments[0]) else {
            return Reply::Error("ERR value is not an integer or out of range".into());
        };
        entry.expires_at = Some(at);
        Reply::Integer(1)
    }

    fn hash(&self, key: &[u8]) -> Result<Option<&Hash>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn hash_to_write(&mut self, key: &[u8]) -> Result<&mut Hash, String> {
        match self.value_or(key, Value::Hash(BTreeMap::new())) {
            Value::Hash(hash) => Ok(hash),
            _ => Err(WRONG_TYPE.into()),
        }
    }

    fn write_hash(&mut self, key: &[u8], pairs: &[Vec<u8>]) -> Result<Reply, String> {
        let hash = self.hash_to_write(key)?;
        let mut new = 0;
        for pair in pairs.chunks_exact(2) {
            new += i64::from(hash.insert(pair[0].clone(), pair[1].clone()).is_none());
        }
        Ok(Reply::Integer(new))
    }

    fn write_new_field(&mut self, key: &[u8], pair: &[Vec<u8>]) -> Result<Reply, String> {
        let hash = self.hash_to_write(key)?;
        let is_new = !hash.contains_key(&pair[0]);
        if is_new {
            hash.insert(pair[0].clone(), pair[1].clone());
        }
        Ok(Reply::Integer(is_new.into()))
    }

    fn delete_fields(&mut self, key: &[u8], fields: &[Vec<u8>]) -> Result<Reply, String> {
        if self.hash(key)?.is_none() {
            return Ok(Reply::Integer(0));
        }
        let hash = self.hash_to_write(key)?;
        let found = fields.iter().filter(|field| hash.remove(*field).is_some()).count();
        if hash.is_empty() {
            self.keys.remove(key);
        }
        Ok(Reply::Integer(i64::try_from(found).expect("few")))
    }

    fn stream(&self, key: &[u8]) -> Result<Option<&Stream>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Stream(stream)) => Ok(Some(stream)),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn add_to_stream(&mut self, key: &[u8], arguments: &[Vec<u8>]) -> Result<Reply, String> {
        match self.value_or(key, Value::Stream(BTreeMap::new())) {
            Value::Stream(stream) => stream::add(stream, arguments),
            _ => Err(WRONG_TYPE.into()),
        }
    }

    fn sorted_to_write(&mut self, key: &[u8]) -> Result<&mut BTreeMap<Vec<u8>, f64>, String> {
        match self.value_or(key, Value::Sorted(BTreeMap::new())) {
            Value::Sorted(sorted) => Ok(sorted),
            _ => Err(WRONG_TYPE.into()),
        }
    }

    fn add_to_sorted(&mut self, key: &[u8], pair: &[Vec<u8>]) -> Result<Reply, String> {
        let score = score(&pair[0])?;
        let is_new = self.sorted_to_write(key)?.insert(pair[1].clone(), score).is_none();
        Ok(Reply::Integer(is_new.into()))
    }

    fn remove_from_sorted(&mut self, key: &[u8], members: &[Vec<u8>]) -> Result<Reply, String> {
        if self.value(key).is_none() {
            return Ok(Reply::Integer(0));
        }
        let sorted = self.sorted_to_write(key)?;
        let found = members.iter().filter(|member| sorted.remove(*member).is_some()).count();
        if sorted.is_empty() {
            self.keys.remove(key);
        }
        Ok(Reply::Integer(i64::try_from(found).expect("few")))
    }

    fn range_by_score(&self, key: &[u8], bounds: &[Vec<u8>]) -> Result<Reply, String> {
        let (least, most) = (score(&bounds[0])?, score(&bounds[1])?);
        let sorted = match self.value(key) {
            None => return Ok(Reply::List(Vec::new())),
            Some(Value::Sorted(sorted)) => sorted,
            Some(_) => return Err(WRONG_TYPE.into()),
        };
        let mut found: Vec<_> =
            sorted.iter().filter(|(_, score)| least <= **score && **score <= most).collect();
        found.sort_by(|left, right| left.1.total_cmp(right.1));
        Ok(Reply::List(found.into_iter().map(|(member, _)| Reply::Bytes(member.clone())).collect()))
    }
}

pub(crate) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn score(text: &[u8]) -> Result<f64, String> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or("ERR value is not a valid float".into())
}
