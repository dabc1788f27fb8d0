use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mlua::{Function, Lua, Table, Value, Variadic};
use parking_lot::Mutex;
use tidewire_model::{Channel, Epoch, Position, Tenant, TenantChannel};
use tokio::time::Instant;

use super::keyspace::{Command, Keyspace};
use super::reply::Reply;
use crate::truth::Entry;

/// One Redis process: what it holds, the functions loaded into it, and what it has not sent to its
/// replica yet.
pub(crate) struct Process {
    pub(crate) address: String,
    lua: Lua,
    functions: Arc<Mutex<Functions>>,
    stores: Arc<Mutex<Stores>>,
    /// How far its clock is ahead.
    pub(crate) skew_ms: i64,
    is_loaded: bool,
}

/// By name; with each, whether it runs although there is no memory left.
type Functions = BTreeMap<String, (Function, bool)>;

/// Everything ever stored, by channel, kept by retention or not.
pub(crate) type History = BTreeMap<TenantChannel, Vec<Entry>>;

/// What a process holds and its replica will hold.
struct Stores {
    run_id: String,
    now_ms: u64,
    keyspace: Keyspace,
    history: History,
    replica: Copy,
    under_way: VecDeque<(Instant, Step)>,
    /// Of the call under way.
    step: Step,
}

/// What a replica has applied.
#[derive(Clone, Default)]
pub(crate) struct Copy {
    pub(crate) keyspace: Keyspace,
    pub(crate) history: History,
}

/// What one call has done: it replicates as one.
#[derive(Default)]
struct Step {
    commands: Vec<Command>,
    entries: Vec<(TenantChannel, Entry)>,
}

/// More lag than any failover has.
const LONGEST_LAG: Duration = Duration::from_secs(3);

impl Process {
    /// A process that begins with `data`.
    pub(crate) fn new(address: String, run_id: String, data: Copy) -> Self {
        let stores = Stores {
            run_id,
            now_ms: 0,
            keyspace: data.keyspace.clone(),
            history: data.history.clone(),
            replica: data,
            under_way: VecDeque::new(),
            step: Step::default(),
        };
        let (stores, functions) = (Arc::new(Mutex::new(stores)), Arc::default());
        let lua = prepare(&stores, &functions).expect("lua has memory enough");
        Self { address, lua, functions, stores, skew_ms: 0, is_loaded: false }
    }

    /// Performs a command of a client in one step. Its reply, and what it has stored.
    pub(crate) fn perform(
        &mut self,
        command: &[Vec<u8>],
        unix_ms: u64,
    ) -> (Reply, Vec<(TenantChannel, Entry)>) {
        self.stores.lock().now_ms = unix_ms.saturating_add_signed(self.skew_ms);
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let reply = match words.as_slice() {
            [b"PING"] => Reply::Status("PONG".into()),
            [b"FUNCTION", b"LOAD", source] => self.load(source),
            [b"FCALL", name, count, rest @ ..] => self.call(name, count, rest),
            _ => Reply::Error("ERR unknown command".into()),
        };
        (reply, self.stores.lock().end_step())
    }

    fn load(&mut self, source: &[u8]) -> Reply {
        if self.is_loaded {
            return Reply::Error("ERR Library 'tidewire' already exists".into());
        }
        // The first line names the library, and is no Lua.
        let source = source.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default();
        match self.lua.load(source).exec() {
            Ok(()) => {
                self.is_loaded = true;
                Reply::text("tidewire")
            }
            Err(error) => Reply::Error(format!("ERR Error compiling function: {error}")),
        }
    }

    /// Whether a command is refused while there is no memory left.
    pub(crate) fn needs_memory(&self, command: &[Vec<u8>]) -> bool {
        let [verb, name, ..] = command else { return false };
        let functions = self.functions.lock();
        let function = functions.get(&*String::from_utf8_lossy(name));
        verb == b"FCALL" && function.is_some_and(|(_, is_essential)| !is_essential)
    }

    pub(crate) fn flush_functions(&mut self) {
        self.is_loaded = false;
        self.functions.lock().clear();
    }

    fn call(&self, name: &[u8], count: &[u8], rest: &[&[u8]]) -> Reply {
        let name = String::from_utf8_lossy(name);
        let Some((function, _)) = self.functions.lock().get(&*name).cloned() else {
            return Reply::Error("ERR Function not found".into());
        };
        let count = super::keyspace::number(count).and_then(|count| usize::try_from(count).ok());
        let (keys, arguments) = rest.split_at(count.unwrap_or(0).min(rest.len()));
        let answer = self
            .strings(keys)
            .and_then(|keys| Ok((keys, self.strings(arguments)?)))
            .and_then(|both| function.call::<Value>(both));
        match answer {
            Ok(value) => reply_of(&value),
            Err(error) => Reply::Error(format!("ERR {error}").replace(['\r', '\n'], " ")),
        }
    }

    fn strings(&self, texts: &[&[u8]]) -> mlua::Result<Table> {
        let strings: mlua::Result<Vec<_>> =
            texts.iter().map(|text| self.lua.create_string(text)).collect();
        self.lua.create_sequence_from(strings?)
    }

    /// What a replica that is `lag` behind has.
    pub(crate) fn replicated(&self, lag: Duration) -> Copy {
        let mut stores = self.stores.lock();
        stores.replicate(lag);
        stores.replica.clone()
    }

    pub(crate) fn history(&self) -> History {
        self.stores.lock().history.clone()
    }

    /// What it keeps in the stream whose key ends like this.
    pub(crate) fn entries(&self, end: &str) -> Vec<(u64, Vec<Vec<u8>>)> {
        let stores = self.stores.lock();
        stores.keyspace.entries(end, stores.now_ms)
    }
}

impl Stores {
    fn end_step(&mut self) -> Vec<(TenantChannel, Entry)> {
        let step = std::mem::take(&mut self.step);
        let entries = step.entries.clone();
        if !step.commands.is_empty() {
            self.under_way.push_back((Instant::now(), step));
        }
        self.replicate(LONGEST_LAG);
        entries
    }

    /// Has the replica apply everything that is at least so old.
    fn replicate(&mut self, lag: Duration) {
        let now = Instant::now();
        while let Some((_, step)) = self.under_way.pop_front_if(|(at, _)| *at + lag <= now) {
            for command in &step.commands {
                // What has expired on the primary is deleted by it, not by the replica.
                self.replica.keyspace.apply(command, 0);
            }
            for (channel, entry) in step.entries {
                self.replica.history.entry(channel).or_default().push(entry);
            }
        }
    }

    /// A command of a function.
    fn apply(&mut self, mut command: Command) -> Reply {
        let name = command.first().map(|name| String::from_utf8_lossy(name).to_uppercase());
        match name.as_deref() {
            Some("TIME") => {
                let (seconds, rest) = (self.now_ms / 1_000, self.now_ms % 1_000 * 1_000);
                let parts = [seconds, rest].map(|part| Reply::text(part.to_string()));
                return Reply::List(parts.into());
            }
            Some("INFO") => return Reply::text(format!("# Server\r\nrun_id:{}\r\n", self.run_id)),
            Some("PEXPIRE") => self.make_absolute(&mut command),
            _ => {}
        }
        let reply = self.keyspace.apply(&command, self.now_ms);
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        if Keyspace::is_write(&name) && !matches!(reply, Reply::Error(_)) {
            if name == "XADD" {
                self.note_entry(&command);
            }
            self.step.commands.push(command);
        }
        reply
    }

    fn make_absolute(&self, command: &mut Command) {
        command[0] = b"PEXPIREAT".into();
        if let Some(ttl) = command.get_mut(2)
            && let Some(length) = super::keyspace::number(ttl)
        {
            *ttl = self.now_ms.saturating_add(length).to_string().into_bytes();
        }
    }

    /// Notes a publication for whoever judges: `XADD <prefix>:{tag}:l:<tenant>:<channel> ...`, in
    /// the epoch that the channel's numbering names.
    fn note_entry(&mut self, command: &Command) {
        let key = std::str::from_utf8(&command[1]).expect("our keys are text");
        let (before, name) = key.split_once("}:l:").expect("the log of a channel");
        let meta = vec![b"HGET".into(), format!("{before}}}:m:{name}").into_bytes(), b"e".into()];
        let Reply::Bytes(epoch) = self.keyspace.apply(&meta, self.now_ms) else {
            unreachable!("an epoch is stored before its first entry")
        };
        let (tenant, name) = name.split_once(':').expect("tenant and channel");
        let channel = TenantChannel::new(
            Tenant::parse(tenant).expect("tenant"),
            Channel::parse(name).expect("channel"),
        );
        let epoch = std::str::from_utf8(&epoch).expect("text");
        let id = command.iter().rev().nth(4).expect("an id before two fields");
        let offset = std::str::from_utf8(id).expect("text").strip_suffix("-0").expect("our id");
        let position =
            Position::new(Epoch::parse(epoch).expect("epoch"), offset.parse().expect("offset"));
        let payload = command.last().expect("a payload");
        let entry = Entry { position, name: Bytes::copy_from_slice(payload) };
        self.history.entry(channel.clone()).or_default().push(entry.clone());
        self.step.entries.push((channel, entry));
    }
}

/// What a function sees of Redis.
fn prepare(stores: &Arc<Mutex<Stores>>, functions: &Arc<Mutex<Functions>>) -> mlua::Result<Lua> {
    let lua = Lua::new();
    let redis = lua.create_table()?;
    for (name, raises) in [("call", true), ("pcall", false)] {
        let stores = Arc::clone(stores);
        let call = move |lua: &Lua, arguments: Variadic<Value>| {
            let command: mlua::Result<Command> = arguments.iter().map(argument).collect();
            let reply = stores.lock().apply(command?);
            match reply {
                Reply::Error(text) if raises => Err(mlua::Error::runtime(text)),
                reply => value_of(lua, &reply),
            }
        };
        redis.set(name, lua.create_function(call)?)?;
    }
    let error_reply = |lua: &Lua, text: mlua::LuaString| {
        let table = lua.create_table()?;
        table.set("err", text)?;
        Ok(table)
    };
    redis.set("error_reply", lua.create_function(error_reply)?)?;
    let functions = Arc::clone(functions);
    let register = move |_: &Lua, arguments: Variadic<Value>| {
        let (name, function, is_essential) = registered(&arguments)?;
        functions.lock().insert(name, (function, is_essential));
        Ok(())
    };
    redis.set("register_function", lua.create_function(register)?)?;
    lua.globals().set("redis", redis)?;
    Ok(lua)
}

/// What a function is registered as: by name and callback, or by a table of these and flags.
fn registered(arguments: &[Value]) -> mlua::Result<(String, Function, bool)> {
    match arguments {
        [Value::Table(table)] => {
            let flags: Vec<String> = table.get("flags")?;
            let is_essential = flags.iter().any(|flag| flag == "allow-oom");
            Ok((table.get("function_name")?, table.get("callback")?, is_essential))
        }
        [Value::String(name), Value::Function(function)] => {
            Ok((name.to_str()?.to_owned(), function.clone(), false))
        }
        _ => Err(mlua::Error::runtime("ERR wrong number of arguments to register_function")),
    }
}

fn argument(value: &Value) -> mlua::Result<Vec<u8>> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(number) => Ok(number.to_string().into_bytes()),
        // As Lua itself writes it, which is what Redis is given.
        Value::Number(number) => Ok(number.to_string().into_bytes()),
        _ => Err(mlua::Error::runtime(
            "ERR Lua redis lib command arguments must be strings or integers",
        )),
    }
}

/// What a reply is to a function.
fn value_of(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Nil => Value::Boolean(false),
        Reply::Integer(number) => Value::Integer(*number),
        Reply::Bytes(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Status(text) => named(lua, "ok", text)?,
        Reply::Error(text) => named(lua, "err", text)?,
        Reply::List(replies) => {
            let values: mlua::Result<Vec<_>> =
                replies.iter().map(|reply| value_of(lua, reply)).collect();
            Value::Table(lua.create_sequence_from(values?)?)
        }
    })
}

fn named(lua: &Lua, name: &str, text: &str) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.set(name, text)?;
    Ok(Value::Table(table))
}

/// What a function's value is to its caller.
fn reply_of(value: &Value) -> Reply {
    match value {
        Value::String(text) => Reply::Bytes(text.as_bytes().to_vec()),
        Value::Integer(number) => Reply::Integer(*number),
        #[expect(clippy::cast_possible_truncation, reason = "Redis truncates as well")]
        Value::Number(number) => Reply::Integer(*number as i64),
        Value::Boolean(true) => Reply::Integer(1),
        Value::Table(table) => reply_of_table(table),
        _ => Reply::Nil,
    }
}

fn reply_of_table(table: &Table) -> Reply {
    if let Ok(text) = table.raw_get::<mlua::LuaString>("err") {
        return Reply::Error(String::from_utf8_lossy(&text.as_bytes()).into_owned());
    }
    if let Ok(text) = table.raw_get::<mlua::LuaString>("ok") {
        return Reply::Status(String::from_utf8_lossy(&text.as_bytes()).into_owned());
    }
    let values = table.sequence_values::<Value>().map_while(Result::ok);
    Reply::List(values.map(|value| reply_of(&value)).collect())
}

impl Drop for Process {
    /// The functions hold on to their Lua, and Lua to what registers them.
    fn drop(&mut self) {
        self.functions.lock().clear();
    }
}
