use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Cmd;
use tidewire_model::{
    Channel, Incarnation, MemberWord, Occupancy, PageMark, SessionId, Tenant, TenantChannel, UserId,
};
use tidewire_store::{
    Applied, Departed, Entry, EntryPage, Expired, Fate, LONGEST_AWAY, Life, Move, Orphaned,
    Presence, Standing, StoreError, Tally, Telling, Terms,
};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::fence::FenceId;
use crate::library::Function;
use crate::partition::Partition;
use crate::reply::{Reply, unexpected};
use crate::retry::Try;
use crate::session_store::milliseconds;

/// Who is in which channel, in Redis: a hash for each channel, beside its log, under the same fence.
///
/// A call whose reply was lost is repeated for as long as one may take: what it does a second time is
/// nothing.
pub struct RedisPresence {
    connection: RedisConnection,
}

/// The most entries of a page, and channels of one call for their occupancies.
const MOST_OF_PAGE: u32 = 500;
const MOST_COUNTED: usize = 200;

impl RedisPresence {
    pub fn new(connection: RedisConnection) -> Self {
        Self { connection }
    }

    /// Calls a fenced function; `add` gives it what follows the arguments of the fence.
    async fn call(
        &self,
        function: Function,
        (fence, keys): (&FenceId, &[String]),
        add: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<(Incarnation, Reply), CallError> {
        let build = |attempt: &Try| {
            let mut call = function.call(keys);
            call.arg(attempt.seen.as_str()).arg(&attempt.nonce).arg(u8::from(attempt.raise)).arg(1);
            add(&mut call);
            call
        };
        self.connection.call_fenced(function, fence, self.connection.deadline(), build).await
    }

    /// The fence of a channel, and the keys of its presence without the guard.
    fn keys_of(&self, channel: &TenantChannel, life: Option<&Life>) -> (FenceId, Vec<String>) {
        let partition = Partition::of(channel);
        let (fence, names) = (self.connection.fence(partition), self.connection.keys());
        let mut keys = vec![fence.key.clone(), names.members(partition, channel)];
        if let Some(life) = life {
            let shared = self.shared(partition);
            keys.extend([names.away(shared), names.channels_of(shared, life)]);
        }
        keys.push(names.presence_guard(partition));
        (fence, keys)
    }

    /// Which partition's own it is, where they do not share it.
    fn shared(&self, partition: Partition) -> Option<Partition> {
        self.connection.is_cluster().then_some(partition)
    }

    async fn try_apply(
        &self,
        channel: &TenantChannel,
        life: &Life,
        moves: &[Move],
        terms: Terms,
    ) -> Result<Applied, CallError> {
        let (fence, keys) = self.keys_of(channel, Some(life));
        let add = |call: &mut Cmd| {
            let debounce = terms.debounce.min(LONGEST_AWAY);
            call.arg(life.to_string()).arg(milliseconds(debounce)).arg(terms.listed);
            for one in moves {
                add_move(call, one);
            }
        };
        let (incarnation, mut reply) =
            self.call(Function::PresenceApply, (&fence, &keys), add).await?;
        let fates: Option<Vec<_>> = reply.text()?.bytes().map(parse_fate).collect();
        let fates = fates.filter(|fates| fates.len() == moves.len());
        let fates = fates.ok_or_else(|| unexpected("what became of each"))?;
        let Tally { occupancy, telling } = parse_tally(&mut reply, incarnation)?;
        Ok(Applied { fates, occupancy, telling })
    }

    async fn try_tally(
        &self,
        channel: &TenantChannel,
        life: &Life,
        subscribers: u64,
    ) -> Result<Tally, CallError> {
        let (fence, keys) = self.keys_of(channel, Some(life));
        let add = |call: &mut Cmd| {
            call.arg(life.to_string()).arg(subscribers);
        };
        let called = self.call(Function::PresenceTally, (&fence, &keys), add).await;
        let (incarnation, mut reply) = called?;
        parse_tally(&mut reply, incarnation)
    }

    async fn try_page(
        &self,
        channel: &TenantChannel,
        from: Option<PageMark>,
        limit: u32,
    ) -> Result<EntryPage, CallError> {
        let (fence, keys) = self.keys_of(channel, None);
        let add = |call: &mut Cmd| {
            match from {
                None => call.arg("").arg(0),
                Some(from) => call.arg(from.incarnation.as_str()).arg(from.place),
            };
            call.arg(limit.clamp(1, MOST_OF_PAGE));
        };
        let (incarnation, mut reply) =
            self.call(Function::PresencePage, (&fence, &keys), add).await?;
        let is_anew = reply.number()? == 1;
        let place = reply.text()?.parse().map_err(|_| unexpected("a place"))?;
        let occupancy = parse_occupancy(&mut reply, incarnation)?;
        let mut rest = reply.nested()?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let session = parse_session(&rest.bytes()?);
            let life = Life::parse(&rest.text()?).ok();
            let entry = parse_entry(session, &rest.bytes()?);
            entries.push(life.zip(entry).ok_or_else(corrupt)?);
        }
        let next = (place != 0).then_some(PageMark { incarnation, place });
        Ok(EntryPage { entries, occupancy, next, is_anew })
    }

    async fn try_occupancies(
        &self,
        channels: &[TenantChannel],
    ) -> Result<Vec<Standing>, CallError> {
        let mut by_part: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (index, channel) in channels.iter().enumerate() {
            by_part.entry(self.part_of(channel)).or_default().push(index);
        }
        let occupancy = Occupancy::new(0, Incarnation::ZERO, 0);
        let mut found = vec![Standing { occupancy, is_counted: false }; channels.len()];
        for group in by_part.values().flat_map(|indices| indices.chunks(MOST_COUNTED)) {
            let (fence, mut keys) = self.keys_of(&channels[group[0]], None);
            keys.remove(1);
            keys.extend(group.iter().map(|index| {
                let channel = &channels[*index];
                self.connection.keys().members(Partition::of(channel), channel)
            }));
            let called = self.call(Function::PresenceCounts, (&fence, &keys), |_| {}).await;
            let (incarnation, mut reply) = called?;
            for index in group {
                let occupancy = parse_occupancy(&mut reply, incarnation)?;
                found[*index] = Standing { occupancy, is_counted: reply.number()? == 1 };
            }
        }
        Ok(found)
    }

    async fn try_expire(&self, part: u16, limit: u32) -> Result<Expired, CallError> {
        let partition = Partition::at(part);
        let (fence, names) = (self.connection.fence(partition), self.connection.keys());
        let away = names.away(self.shared(partition));
        let keys = [fence.key.clone(), away, names.presence_guard(partition)];
        let add = |call: &mut Cmd| {
            call.arg(limit);
        };
        let (incarnation, mut reply) =
            self.call(Function::PresenceExpire, (&fence, &keys), add).await?;
        let has_more = reply.number()? == 1;
        let mut channels = Vec::new();
        while !reply.is_empty() {
            let channel = parse_channel(&reply.text()?).ok_or_else(corrupt)?;
            let (mut rest, mut sessions) = (reply.nested()?, Vec::new());
            while !rest.is_empty() {
                let session = parse_session(&rest.bytes()?);
                let user = UserId::parse(&rest.text()?).ok();
                sessions.push(session.zip(user).ok_or_else(corrupt)?);
            }
            let Tally { occupancy, telling } = parse_tally(&mut reply, incarnation)?;
            channels.push(Departed { channel, sessions, occupancy, telling });
        }
        Ok(Expired { channels, has_more })
    }

    async fn try_channels_of(
        &self,
        part: u16,
        life: &Life,
    ) -> Result<Vec<TenantChannel>, CallError> {
        let partition = Partition::at(part);
        let (fence, names) = (self.connection.fence(partition), self.connection.keys());
        let indexed = names.channels_of(self.shared(partition), life);
        let keys = [fence.key.clone(), indexed, names.presence_guard(partition)];
        let (_, mut reply) = self.call(Function::PresenceChannels, (&fence, &keys), |_| {}).await?;
        let mut channels = Vec::new();
        while !reply.is_empty() {
            channels.push(parse_channel(&reply.text()?).ok_or_else(corrupt)?);
        }
        Ok(channels)
    }

    async fn try_orphan(
        &self,
        channel: &TenantChannel,
        life: &Life,
        from: u64,
        debounce: Duration,
    ) -> Result<Orphaned, CallError> {
        let (fence, keys) = self.keys_of(channel, Some(life));
        let add = |call: &mut Cmd| {
            call.arg(life.to_string()).arg(from).arg(milliseconds(debounce.min(LONGEST_AWAY)));
        };
        let (incarnation, mut reply) =
            self.call(Function::PresenceOrphan, (&fence, &keys), add).await?;
        let marked = reply.number()?;
        let next: u64 = reply.text()?.parse().map_err(|_| unexpected("a place"))?;
        let tally = parse_tally(&mut reply, incarnation)?;
        Ok(Orphaned { marked, next: (next != 0).then_some(next), tally })
    }

    async fn try_lives(
        &self,
        noted: Option<&Life>,
        forgotten: Option<&Life>,
    ) -> Result<Vec<Life>, CallError> {
        let name = |life: Option<&Life>| life.map(Life::to_string).unwrap_or_default();
        let mut call = Function::PresenceLives.call(&[self.connection.keys().lives()]);
        call.arg(name(noted)).arg(name(forgotten));
        let mut reply = self.connection.call(Function::PresenceLives, &call).await?;
        reply.text()?;
        let mut lives = Vec::new();
        while !reply.is_empty() {
            lives.push(Life::parse(&reply.text()?).map_err(|_| corrupt())?);
        }
        Ok(lives)
    }

    fn told<T>(&self, result: Result<T, CallError>) -> Result<T, StoreError> {
        result.map_err(|error| error.into_store_error(self.connection.address()))
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn apply(
        &self,
        channel: &TenantChannel,
        life: &Life,
        moves: &[Move],
        terms: Terms,
    ) -> Result<Applied, StoreError> {
        self.told(self.try_apply(channel, life, moves, terms).await)
    }

    async fn tally(
        &self,
        channel: &TenantChannel,
        life: &Life,
        subscribers: u64,
    ) -> Result<Tally, StoreError> {
        self.told(self.try_tally(channel, life, subscribers).await)
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        from: Option<PageMark>,
        limit: u32,
    ) -> Result<EntryPage, StoreError> {
        self.told(self.try_page(channel, from, limit).await)
    }

    async fn occupancies(&self, channels: &[TenantChannel]) -> Result<Vec<Standing>, StoreError> {
        self.told(self.try_occupancies(channels).await)
    }

    async fn expire(&self, part: u16, limit: u32) -> Result<Expired, StoreError> {
        self.told(self.try_expire(part, limit).await)
    }

    async fn channels_of(&self, part: u16, life: &Life) -> Result<Vec<TenantChannel>, StoreError> {
        self.told(self.try_channels_of(part, life).await)
    }

    async fn orphan(
        &self,
        channel: &TenantChannel,
        life: &Life,
        from: u64,
        debounce: Duration,
    ) -> Result<Orphaned, StoreError> {
        self.told(self.try_orphan(channel, life, from, debounce).await)
    }

    async fn lives(&self, own: Option<&Life>) -> Result<Vec<Life>, StoreError> {
        self.told(self.try_lives(own, None).await)
    }

    async fn forget(&self, life: &Life) -> Result<(), StoreError> {
        self.told(self.try_lives(None, Some(life)).await.map(drop))
    }

    fn parts(&self) -> u16 {
        if self.connection.is_cluster() { Partition::COUNT } else { 1 }
    }

    fn part_of(&self, channel: &TenantChannel) -> u16 {
        let index = if self.connection.is_cluster() { Partition::of(channel).index() } else { 0 };
        u16::try_from(index).expect("there are 512")
    }
}

fn add_move(call: &mut Cmd, one: &Move) {
    let (kind, session, age) = match one {
        Move::Enter { entry, age } => ("E", entry.session, age),
        Move::Away { session, age } => ("A", *session, age),
        Move::Leave { session, age } => ("L", *session, age),
    };
    call.arg(kind).arg(session.as_bytes()).arg(age.generation.0).arg(age.version);
    match one {
        Move::Enter { entry, .. } => call.arg(write_entry(entry)),
        Move::Away { .. } | Move::Leave { .. } => call.arg(""),
    };
}

/// No user's name has a zero byte, and no JSON is empty.
fn write_entry(entry: &Entry) -> Vec<u8> {
    let word = entry.word.as_ref().map(|word| &**word.bytes()).unwrap_or_default();
    [entry.user.as_str().as_bytes(), b"\0", word].concat()
}

fn parse_entry(session: Option<SessionId>, said: &Bytes) -> Option<Entry> {
    let end = said.iter().position(|byte| *byte == 0)?;
    let user = UserId::parse(std::str::from_utf8(&said[..end]).ok()?).ok()?;
    let word = said.slice(end + 1..);
    let word = if word.is_empty() { None } else { Some(MemberWord::parse(word).ok()?) };
    Some(Entry { session: session?, user, word })
}

fn parse_session(bytes: &[u8]) -> Option<SessionId> {
    bytes.try_into().ok().map(SessionId::from_bytes)
}

fn parse_channel(name: &str) -> Option<TenantChannel> {
    let (tenant, channel) = name.split_once(':')?;
    Some(TenantChannel::new(Tenant::parse(tenant).ok()?, Channel::parse(channel).ok()?))
}

fn parse_fate(letter: u8) -> Option<Fate> {
    match letter {
        b'J' => Some(Fate::Joined),
        b'U' => Some(Fate::Updated),
        b'K' => Some(Fate::Kept),
        b'L' => Some(Fate::Left),
        b'A' => Some(Fate::Away),
        b'S' => Some(Fate::Stale),
        b'X' => Some(Fate::Unknown),
        _ => None,
    }
}

fn parse_occupancy(reply: &mut Reply, incarnation: Incarnation) -> Result<Occupancy, CallError> {
    Ok(Occupancy::new(reply.number()?, incarnation, reply.number()?))
}

fn parse_tally(reply: &mut Reply, incarnation: Incarnation) -> Result<Tally, CallError> {
    let occupancy = parse_occupancy(reply, incarnation)?;
    let telling = parse_telling(&reply.text()?).ok_or_else(|| unexpected("what is told"))?;
    Ok(Tally { occupancy, telling })
}

fn parse_telling(text: &str) -> Option<Telling> {
    match text {
        "N" => Some(Telling::Names),
        "C" => Some(Telling::Count),
        "A" => Some(Telling::NamesAgain),
        "-" => Some(Telling::Nothing),
        later => {
            let wait = later.strip_prefix('+')?.parse().ok()?;
            Some(Telling::CountLater(Duration::from_millis(wait)))
        }
    }
}

fn corrupt() -> CallError {
    CallError::Corrupt("an entry of presence".into())
}
