//! From `connect` to an identity with a session.

mod credential;
mod resume;

use std::sync::Arc;

use tidewire_model::{
    Channel, Connect, Disconnect, ErrorCode, Event, Failure, Identity, Limit, Position, RequestId,
    SessionKind, Token,
};
use tidewire_node::OwnedSession;
use tidewire_protocol::Descriptor;
use tidewire_session::{Outputs, SavedPresence, Session, Snapshot};
use tokio::time::{Duration, Instant, timeout};

use crate::door::{Peer, come_back_after};
use crate::edge::Shared;
use crate::metrics;
use crate::origin::Entrance;
use crate::tenancy::{Allowance, Counted};

/// How long the store may take to open or to claim a session. A client that has waited for it in
/// vain has done nothing wrong, and is to come back.
pub(crate) const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of a client before its first frame.
pub(crate) struct Handshake {
    pub(crate) entrance: Entrance,
    pub(crate) peer: Peer,
    pub(crate) protocol: Descriptor,
}

/// Why a client may not be here, and what to tell it before it is disconnected.
pub(crate) struct Rejected {
    pub(crate) disconnect: Disconnect,
    pub(crate) events: Vec<Event>,
}

impl From<Disconnect> for Rejected {
    fn from(disconnect: Disconnect) -> Self {
        Self { disconnect, events: Vec::new() }
    }
}

impl Rejected {
    /// There is no room for it now; `failure` says why, and when to come back.
    pub(crate) fn for_limit(request: RequestId, failure: Failure) -> Self {
        let events = vec![Event::Failed { request: Some(request), failure }];
        Self { disconnect: Disconnect::Overloaded, events }
    }

    /// For metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self.disconnect {
            Disconnect::ConnectTimeout => "timeout",
            Disconnect::Draining => "draining",
            Disconnect::Unavailable => "unavailable",
            Disconnect::Overloaded => match self.exceeded() {
                Some(Limit::NodeMemory) => "memory",
                Some(_) => "tenant_limit",
                None => "overloaded",
            },
            Disconnect::OriginDenied => "origin",
            _ => "auth",
        }
    }

    fn exceeded(&self) -> Option<Limit> {
        self.events.iter().find_map(|event| match event {
            Event::Failed { failure, .. } => failure.exceeded.as_ref().map(|of| of.limit),
            _ => None,
        })
    }
}

/// Who is at the other end, by what it was proved.
enum Proved {
    New(Identity),
    Resumed(OwnedSession, Snapshot, Vec<(Channel, Position)>),
}

/// What somebody shows who has no session yet, or whose session needs another.
enum Credential {
    Token(Token),
    Ticket(Token),
}

/// A session that is this node's.
pub(crate) struct Claimed {
    pub(crate) owned: OwnedSession,
    pub(crate) session: Session,
    pub(crate) is_resumed: bool,
    /// It counts among its tenant's connections.
    pub(crate) counted: Counted,
    /// What resuming has already brought about.
    pub(crate) outputs: Outputs,
    /// How many tenants had [ended](crate::registry::Registry::ended) when it was begun.
    pub(crate) ended: u64,
}

/// Verifies `connect` and claims its session.
///
/// Cancelling leaves open whether the session is this node's: the client may repeat its claim
/// anywhere, and a new session that nobody has heard of runs out.
pub(crate) async fn claim(
    shared: Arc<Shared>,
    entrance: Entrance,
    request: RequestId,
    connect: Connect,
) -> Result<Claimed, Rejected> {
    let claimant = Claimant { shared: &shared, entrance, request };
    let claimed = timeout(CLAIM_TIMEOUT, claimant.claim(connect)).await;
    claimed.unwrap_or_else(|_elapsed| {
        tracing::warn!("the store has not answered a handshake in time");
        Err(unavailable(request))
    })
}

/// Somebody who wants a session.
struct Claimant<'a> {
    shared: &'a Shared,
    entrance: Entrance,
    request: RequestId,
}

impl Claimant<'_> {
    async fn claim(&self, connect: Connect) -> Result<Claimed, Rejected> {
        // Before anything is proved: whoever has its name afterwards may be somebody else.
        let ended = self.shared.registry.ended();
        let mut outputs = Outputs::default();
        let (owned, session, is_resumed, counted) = match self.prove(connect).await? {
            Proved::New(identity) => {
                let allowance = self.shared.allowance(&identity.tenant);
                let counted = self.let_in(&allowance).await;
                let counted = counted.map_err(|failure| self.too_many(failure, &allowance))?;
                let owned = self.open(&identity).await?;
                let limits = Arc::clone(&allowance.session);
                (owned, Session::new(identity, limits), false, counted)
            }
            Proved::Resumed(owned, snapshot, positions) => {
                let allowance = self.shared.allowance(&owned.key.tenant);
                // Whoever comes back was let in before, and is missing something.
                let counted = allowance.usage.enter_again();
                let limits = Arc::clone(&allowance.session);
                (owned, Session::resume(snapshot, positions, limits, &mut outputs), true, counted)
            }
        };
        let session = session.of_kind(self.shared.tenants.session_kind(&owned.key.tenant));
        Ok(Claimed { owned, session, is_resumed, counted, outputs, ended })
    }

    /// Counts somebody who is new; whoever comes back is never kept out.
    async fn let_in(&self, allowance: &Allowance) -> Result<Counted, Failure> {
        // Its session was not to be had any more, or it would not be new.
        if let Some(failure) = self.shared.memory.keeps_out(false) {
            return Err(failure);
        }
        allowance.connect(self.shared.age(Instant::now()))?;
        allowance.enter(&self.shared.allowances).await
    }

    fn too_many(&self, failure: Failure, allowance: &Allowance) -> Rejected {
        if let Some(exceeded) = failure.exceeded.as_ref().filter(|of| of.limit != Limit::NodeMemory)
        {
            metrics::limited(exceeded.limit, allowance.metrics.as_deref());
        }
        Rejected::for_limit(self.request, failure)
    }

    /// A resume token comes first: it needs one read of the store and no key of the tenant's.
    async fn prove(&self, connect: Connect) -> Result<Proved, Rejected> {
        let request = self.request;
        self.check_reach()?;
        let Connect { token, ticket, resume } = connect;
        let credential = token.map(Credential::Token).or(ticket.map(Credential::Ticket));
        let had_resume = resume.is_some();
        if let Some(resume) = resume {
            let resumed = self.resume(resume, credential.as_ref()).await?;
            if let Some(proved) = resumed {
                return Ok(proved);
            }
        }
        match credential {
            Some(credential) => self.identify(&credential).await.map(Proved::New),
            None if had_resume => {
                let message = "the session is gone: connect again with a token";
                Err(reject(request, ErrorCode::BadToken, message, Disconnect::SessionLost))
            }
            None => {
                let message = "`connect` needs a token, a ticket or a resume token";
                Err(reject(request, ErrorCode::BadToken, message, Disconnect::BadToken))
            }
        }
    }

    /// Lets nobody in while the node may not know what is revoked.
    fn check_reach(&self) -> Result<(), Rejected> {
        let Some(_) = self.shared.cut_off() else { return Ok(()) };
        Err(reject(self.request, ErrorCode::Unavailable, CUT_OFF, Disconnect::Unavailable))
    }

    async fn open(&self, identity: &Identity) -> Result<OwnedSession, Rejected> {
        if self.shared.tenants.session_kind(&identity.tenant) == SessionKind::None {
            return Ok(self.shared.node.unkept_session(identity.tenant.clone()));
        }
        let snapshot = Snapshot {
            identity: identity.clone(),
            subscriptions: Vec::new(),
            presence: SavedPresence::default(),
            grants: Vec::new(),
        };
        self.shared.node.open_session(&snapshot).await.map_err(|error| {
            tracing::warn!(%error, "cannot open a session");
            unavailable(self.request)
        })
    }
}

/// What whoever was revoked is told.
pub(crate) const REVOKED: &str = "the token was revoked, or everything of its user, key or tenant";

/// What whoever comes to a node is told that may not know of something revoked.
pub(crate) const CUT_OFF: &str = "the node cannot learn what is revoked; come back";

pub(crate) fn revoked(request: RequestId) -> Rejected {
    reject(request, ErrorCode::TokenRevoked, REVOKED, Disconnect::Revoked)
}

/// Nobody can say when there will be room; those who are told so together come back one by one.
pub(crate) fn overloaded(request: RequestId) -> Rejected {
    let message = "more connect here than can be let in; come back";
    let failure = Failure::new(ErrorCode::Overloaded, message);
    Rejected::for_limit(request, failure.retry_after(come_back_after(Duration::ZERO)))
}

pub(crate) fn unavailable(request: RequestId) -> Rejected {
    let message = "sessions cannot be reached; come back";
    reject(request, ErrorCode::Unavailable, message, Disconnect::Unavailable)
}

pub(crate) fn reject(
    request: RequestId,
    code: ErrorCode,
    message: &'static str,
    disconnect: Disconnect,
) -> Rejected {
    let failure = Failure::new(code, message);
    Rejected { disconnect, events: vec![Event::Failed { request: Some(request), failure }] }
}
