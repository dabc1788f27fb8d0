use std::sync::Arc;

use tempfile::TempDir;
use tidewire_broker::{Appended, Draft};
use tidewire_model::{
    Channel, Generation, Identity, NodeId, Payload, Permissions, PublicationId, SessionId, Since,
    Tenant, TenantChannel, UserId,
};
use tidewire_session::{SavedPresence, SavedSubscription, Snapshot};
use tidewire_store::{Claim, ClaimRequest, SessionKey, SessionWrite};

use super::*;

#[tokio::test]
async fn what_is_written_is_found_once_as_it_was() {
    let (directory, file, secrets) = state_file();
    let memory = Memory::default();
    let before = fill(&memory, "room", 3).await;
    save_session(&memory).await;

    file.write(legacy(&secrets, &memory)).expect("written");
    let path = file.path.clone();
    drop(file);
    let (found_secrets, found) = take(&path);
    let (secrets_again, found_again) = take(&path);

    assert!(found_secrets == secrets && secrets_again == secrets);
    assert!(is_empty(&found_again), "who comes after a crash finds nothing");
    assert_eq!(listing(&directory), ["state", "state.lock"]);
    let (log, sessions) = found.saved();
    let (log_before, sessions_before) = memory.saved();
    assert_eq!(log.channels[0].publications, log_before.channels[0].publications);
    assert_eq!(log.channels[0].ids.len(), 3);
    assert_eq!(sessions[0].snapshot, sessions_before[0].snapshot);
    let after = fill(&found, "room", 4).await;
    assert_eq!(after[..3].iter().map(|one| one.position).collect::<Vec<_>>(), positions(&before));
    assert_eq!(
        (after[2].duplicate, after[3].duplicate, after[3].position.offset),
        (true, false, 4)
    );
    assert!(matches!(claim(&found).await, Claim::Granted { .. }));
}

#[tokio::test]
async fn what_was_only_looked_at_is_still_there() {
    let (directory, file, secrets) = state_file();
    let (memory, path) = (Memory::default(), file.path.clone());
    fill(&memory, "room", 3).await;
    file.write(legacy(&secrets, &memory)).expect("written");
    drop(file);

    drop(StateFile::open(&path).expect("nobody has it"));
    let (found_secrets, found) = take(&path);
    fs::write(&path, "not a state").expect("written");
    drop(StateFile::open(&path).expect("nobody has it"));

    assert!(found_secrets == secrets && !is_empty(&found));
    assert_eq!(fs::read(&path).expect("it is there"), b"not a state");
    assert_eq!(listing(&directory), ["state", "state.lock"]);
}

#[test]
fn a_second_node_is_told_that_the_file_is_in_use() {
    let (_directory, file, _) = state_file();

    let refused = StateFile::open(&file.path).err().expect("refused").to_string();
    let path = file.path.clone();
    drop(file);

    assert!(
        refused.ends_with("another node uses it; stop that one, or name another file"),
        "{refused}"
    );
    assert!(StateFile::open(&path).is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn it_is_for_its_owner_alone_and_nothing_else_is_left() {
    use std::os::unix::fs::PermissionsExt as _;

    let (directory, file, _) = state_file();
    fs::write(file.beside(".new"), "what a writer that was killed has left").expect("written");

    file.write(legacy(&Secrets::draw(), &Memory::default())).expect("written");

    let mode = fs::metadata(&file.path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(listing(&directory), ["state", "state.lock"]);
}

#[tokio::test]
async fn a_file_with_any_byte_changed_or_missing_is_put_aside() {
    let (directory, file, secrets) = state_file();
    let memory = Memory::default();
    fill(&memory, "room", 2).await;
    save_session(&memory).await;
    file.write(legacy(&secrets, &memory)).expect("written");
    let (path, aside) = (file.path.clone(), file.beside(".unread"));
    drop(file);
    let whole = fs::read(&path).expect("it is there");

    let step = whole.len() / 97;
    for at in (0..whole.len()).step_by(step.max(1)) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        for broken in [&changed[..], &whole[..at]] {
            fs::write(&path, broken).expect("written");
            let (drawn, found) = take(&path);
            assert!(drawn != secrets && is_empty(&found), "byte {at}");
            assert_eq!(listing(&directory), ["state", "state.lock", "state.unread"]);
            fs::remove_file(&aside).expect("it is there");
        }
    }
    fs::write(&path, &whole).expect("written");
    let (found_secrets, found) = take(&path);
    assert!(found_secrets == secrets && !is_empty(&found));
}

#[test]
fn a_newer_version_is_said_to_be_one_whatever_else_it_says() {
    let newer = br#"{"header":{"version":2,"what":"ever"}}
{"more":1}
"#;

    let Err(unreadable) = reader::read(&newer[..]) else { panic!("it is of version 2") };

    assert_eq!(unreadable.to_string(), "it is of version 2, and this program reads version 1");
}

#[test]
fn what_is_said_of_a_damaged_file_holds_nothing_of_it() {
    let foreign = b"{\"header\":{\"version\":1,\"secrets\":\"hunter2\"}}\n";

    let Err(unreadable) = reader::read(&foreign[..]) else { panic!("it is not whole") };

    assert!(!unreadable.to_string().contains("hunter2"), "{unreadable}");
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_oldest_first_and_counted() {
    let memory = Memory::default();
    let before = fill(&memory, "room", 100).await;
    fill(&memory, "other", 10).await;
    save_session(&memory).await;
    let whole = written(&memory, MOST_BYTES);

    let most = whole.0.bytes * 3 / 4;
    let (cut, bytes) = written(&memory, most);
    let (legacy, _) = reader::read(&bytes[..]).expect("it is whole");

    assert_eq!(whole.0.left_out, 0);
    assert_eq!(whole.0.bytes, whole.1.len() as u64);
    assert!(cut.bytes <= most && cut.left_out > 0, "{cut:?}");
    assert_eq!((cut.channels, cut.sessions), (2, 1));
    let kept: usize = legacy.log.channels.iter().map(|channel| channel.publications.len()).sum();
    assert_eq!(kept + cut.left_out, 110);
    let restored = Memory::restored(legacy.log, legacy.sessions, Duration::ZERO).expect("a log");
    let log = restored.ports(&node()).log;
    let since = Since::Position(before[0].position);
    let read = log.read(&channel("room"), since, 1_000).await.expect("read");
    assert_eq!(read.status, tidewire_broker::Status::Trimmed);
    assert_eq!(read.publications.last().expect("the newest").position.offset, 100);
}

#[tokio::test]
async fn without_room_there_is_a_file_with_the_secrets() {
    let memory = Memory::default();
    fill(&memory, "room", 1).await;

    let (nothing, bytes) = written(&memory, 0);

    assert_eq!((nothing.channels, nothing.sessions, nothing.left_out), (0, 0, 2));
    assert!(reader::read(&bytes[..]).is_ok());
}

#[test]
fn a_directory_that_is_not_there_is_told_at_the_start() {
    let directory = TempDir::new().expect("a directory");

    let refused = StateFile::open(&directory.path().join("missing/state")).err().expect("refused");

    assert!(refused.to_string().contains("is its directory there"), "{refused}");
}

#[tokio::test]
async fn payloads_come_back_byte_for_byte() {
    let memory = Memory::default();
    let texts = [" {\"a\" :\t[1.0, \"\\u00e9ü\\\"\"]}\n", "null", "\"\u{2028}\""];
    let json = texts.map(|text| Payload::json(text.into()).expect("JSON"));
    let binary = [Vec::new(), (0..=255).collect()].map(|bytes| Payload::binary(bytes.into()));
    let payloads: Vec<_> = json.into_iter().chain(binary).collect();
    let log = memory.ports(&node()).log;
    let draft = |payload: &Payload| Draft { id: None, publisher: None, payload: payload.clone() };
    let drafts: Vec<_> = payloads.iter().map(draft).collect();
    log.append(&channel("room"), &drafts).await.expect("appended");

    let (_, bytes) = written(&memory, MOST_BYTES);
    let (legacy, _) = reader::read(&bytes[..]).expect("it is whole");

    let found = &legacy.log.channels[0].publications;
    assert_eq!(found.iter().map(|one| one.payload.clone()).collect::<Vec<_>>(), payloads);
    assert_eq!(*found, memory.saved().0.channels[0].publications);
}

fn written(memory: &Memory, most: u64) -> (writer::Written, Vec<u8>) {
    let mut bytes = Vec::new();
    let legacy = legacy(&Secrets::draw(), memory);
    let written = writer::write(&mut bytes, legacy, Some(unix_ms()), most).expect("written");
    (written, bytes)
}

fn legacy(secrets: &Secrets, memory: &Memory) -> Legacy {
    let (log, sessions) = memory.saved();
    Legacy { secrets: secrets.clone(), log, sessions }
}

fn state_file() -> (TempDir, StateFile, Secrets) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("state");
    let (file, secrets, _) = StateFile::open(&path).expect("nobody has it");
    file.begin(&secrets).expect("written");
    (directory, file, secrets)
}

/// What a node finds that begins.
fn take(path: &Path) -> (Secrets, Memory) {
    let (file, secrets, memory) = StateFile::open(path).expect("nobody has it");
    file.begin(&secrets).expect("replaced");
    (secrets, memory)
}

fn is_empty(memory: &Memory) -> bool {
    let (log, sessions) = memory.saved();
    log.channels.is_empty() && sessions.is_empty()
}

fn listing(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).expect("it is there");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("it is there").file_name();
    let mut names: Vec<_> = entries.map(|entry| name(entry).into_string().expect("text")).collect();
    names.sort();
    names
}

/// Publishes `count` times, with the ids 1, 2 and so on.
async fn fill(memory: &Memory, name: &str, count: u32) -> Vec<Appended> {
    let draft = |number: u32| Draft {
        id: Some(PublicationId::parse(&number.to_string()).expect("valid")),
        publisher: Some(UserId::parse("ann").expect("valid")),
        payload: Payload::json(format!("{{\"number\":{number}}}").into()).expect("JSON"),
    };
    let drafts: Vec<_> = (1..=count).map(draft).collect();
    memory.ports(&node()).log.append(&channel(name), &drafts).await.expect("appended")
}

fn positions(appended: &[Appended]) -> Vec<tidewire_model::Position> {
    appended.iter().map(|one| one.position).collect()
}

async fn save_session(memory: &Memory) {
    let (key, owner) = (key(), node());
    let subscription =
        SavedSubscription { channel: channel("room").channel, start: None, delta: None };
    let snapshot = Snapshot {
        presence: SavedPresence::default(),
        grants: Vec::new(),
        identity: Identity {
            tenant: key.tenant.clone(),
            user: UserId::parse("ann").expect("valid"),
            permissions: Permissions::all(),
            expires_at: Some(1_900_000_000),
            provenance: None,
        },
        subscriptions: vec![subscription],
    };
    let write =
        SessionWrite { key: &key, generation: Generation(1), owner: &owner, snapshot: &snapshot };
    let sessions = memory.ports(&node()).sessions;
    sessions.save(write, Duration::from_mins(2)).await.expect("saved");
}

async fn claim(memory: &Memory) -> Claim {
    let request = ClaimRequest {
        key: key(),
        generation: Generation(1),
        owner: node(),
        nonce: tidewire_model::SessionNonce::from_bytes([9; 16]),
    };
    let sessions: Arc<_> = memory.ports(&node()).sessions;
    sessions.claim(&request, Duration::from_mins(2)).await.expect("claimed")
}

fn key() -> SessionKey {
    SessionKey { tenant: channel("room").tenant, session: SessionId::from_bytes([7; 16]) }
}

fn node() -> NodeId {
    NodeId::parse("dev-1").expect("valid")
}

fn channel(name: &str) -> TenantChannel {
    TenantChannel::new(Tenant::parse("dev").expect("valid"), Channel::parse(name).expect("valid"))
}
