//! What an idle session with one live subscription takes of this process, as the system sees it.
//!
//! `cargo run --release -p tidewire-session --example idle`

use std::io::Write as _;
use std::sync::Arc;

use tidewire_model::{
    Channel, Command, Epoch, Identity, Joined, Permissions, Position, Provenance, Recovery,
    Request, RequestId, Since, Tenant, Trace, UserId,
};
use tidewire_session::{Effect, Limits, Outputs, Session};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SESSIONS: usize = 100_000;
const PAGE_BYTES: usize = 4_096;

fn main() -> std::io::Result<()> {
    let shared = Shared::new();
    let mut out = Outputs::default();
    // So that what the very first takes once for all is not counted.
    let first = shared.session(0, &mut out);

    let before = resident_bytes()?;
    let sessions: Vec<_> = (0..SESSIONS).map(|number| shared.session(number, &mut out)).collect();
    let after = resident_bytes()?;

    let each = after.saturating_sub(before) / SESSIONS;
    let live = sessions.iter().chain([&first]).filter(|session| session.joins().count() == 1);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{each} B each, {} B of it inline", size_of::<Session>())?;
    writeln!(stdout, "{} of {SESSIONS} sessions and a first have a live subscription", live.count())
}

/// What all sessions have in common.
struct Shared {
    tenant: Tenant,
    channel: Channel,
    permissions: Permissions,
    limits: Arc<Limits>,
    position: Position,
}

impl Shared {
    fn new() -> Self {
        let epoch = Epoch::parse("0123456789abcdef").expect("an epoch");
        Self {
            tenant: Tenant::parse("acme").expect("a tenant"),
            channel: Channel::parse("room:42").expect("a channel"),
            permissions: Permissions::all(),
            limits: Arc::default(),
            position: Position::new(epoch, 7),
        }
    }

    /// One with a live subscription, of a user with a name of its own.
    fn session(&self, number: usize, out: &mut Outputs) -> Session {
        let identity = Identity {
            tenant: self.tenant.clone(),
            user: UserId::parse(&format!("user-{number}")).expect("a user"),
            permissions: self.permissions.clone(),
            expires_at: Some(u64::MAX),
            provenance: Some(Provenance {
                key: Trace::from_digest([1; 8]),
                token: None,
                issued_at: 1,
            }),
        };
        let mut session = Session::new(identity, self.limits.clone());
        let channel = self.channel.clone();
        let command = Command::Subscribe { channel, since: Since::Now, delta: None, token: None };
        session.handle(Request { id: RequestId(1), command }, 0, out);
        let Some(Effect::Join { join, .. }) = out.effects.pop() else { return session };
        let joined = Joined {
            recovery: Recovery::NotAsked,
            lost: None,
            position: self.position,
            missed: Vec::new(),
            live: true,
            is_sampled: false,
        };
        session.joined(join, Ok(joined), out);
        out.effects.clear();
        out.events.clear();
        session
    }
}

fn resident_bytes() -> std::io::Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    Ok(pages.unwrap_or_default() * PAGE_BYTES)
}
