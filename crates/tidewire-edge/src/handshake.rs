//! From a stream of frames to an identity with a session.

use tidewire_auth::TokenError;
use tidewire_model::{
    Channel, Command, Connect, Disconnect, ErrorCode, Event, Failure, Identity, Position, Request,
    RequestId, Resume, Token,
};
use tidewire_node::{OwnedSession, SessionError};
use tidewire_protocol::{Decoded, Descriptor, Protocol};
use tidewire_session::{Outputs, Session, Snapshot};
use tidewire_transport::Transport;
use tokio::time::{Duration, timeout};

use crate::drain::Phase;
use crate::edge::{PathTenant, Peer, Shared, unix_seconds};
use crate::metrics;

/// How long the store may take to open or to claim a session. A client that has waited for it in
/// vain has done nothing wrong, and is to come back.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of a client before its first frame.
pub(crate) struct Handshake {
    /// The tenant its path names.
    pub(crate) tenant: PathTenant,
    pub(crate) peer: Peer,
    pub(crate) protocol: Descriptor,
}

/// A client that may be here.
pub(crate) struct Admitted {
    pub(crate) request: RequestId,
    pub(crate) owned: OwnedSession,
    pub(crate) session: Session,
    pub(crate) is_resumed: bool,
    /// What resuming has already brought about.
    pub(crate) outputs: Outputs,
    /// What came with `connect` in its frame.
    pub(crate) rest: Vec<Decoded>,
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
    /// For metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self.disconnect {
            Disconnect::ConnectTimeout => "timeout",
            Disconnect::Draining => "draining",
            Disconnect::Unavailable => "unavailable",
            _ => "auth",
        }
    }
}

/// Who is at the other end, by what it was proved.
enum Proved {
    New(Identity),
    Resumed(OwnedSession, Snapshot, Vec<(Channel, Position)>),
}

/// A session that is this node's.
struct Claimed {
    owned: OwnedSession,
    session: Session,
    is_resumed: bool,
    outputs: Outputs,
}

impl Handshake {
    /// Waits for `connect`, verifies it and claims the session, unless the node begins to leave
    /// meanwhile: then the client connects elsewhere, with what it would have connected with here.
    ///
    /// `None` when the client has left.
    pub(crate) async fn admit<T: Transport>(
        &self,
        shared: &Shared,
        transport: &mut T,
        protocol: &mut dyn Protocol,
    ) -> Option<Result<Admitted, Rejected>> {
        let mut phase = shared.phase.subscribe();
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Refusing) => {
                Some(Err(Disconnect::Draining.into()))
            }
            admitted = self.hear(shared, transport, protocol) => admitted,
        }
    }

    /// Each side has its own time: the client for its first frame, the store for its answer.
    async fn hear<T: Transport>(
        &self,
        shared: &Shared,
        transport: &mut T,
        protocol: &mut dyn Protocol,
    ) -> Option<Result<Admitted, Rejected>> {
        let frame = match timeout(shared.config.connect_timeout, transport.receive()).await {
            Ok(Ok(frame)) => frame?,
            Ok(Err(error)) => return Some(Err(error.disconnect()?.into())),
            Err(_elapsed) => return Some(Err(Disconnect::ConnectTimeout.into())),
        };
        let decoded = match protocol.decode(frame) {
            Ok(decoded) => decoded,
            Err(error) => {
                let failure = Failure::new(ErrorCode::BadRequest, error.to_string());
                let events = vec![Event::Failed { request: None, failure }];
                return Some(Err(Rejected { disconnect: error.disconnect(), events }));
            }
        };
        Some(self.judge(shared, decoded).await)
    }

    async fn judge(&self, shared: &Shared, decoded: Vec<Decoded>) -> Result<Admitted, Rejected> {
        let mut rest = decoded.into_iter();
        let (request, connect) = match rest.next() {
            Some(Decoded::Request(Request { id, command: Command::Connect(connect) })) => {
                (id, connect)
            }
            Some(Decoded::Refused { id, failure }) => {
                let events = vec![Event::Failed { request: id, failure }];
                return Err(Rejected { disconnect: Disconnect::BadFrame, events });
            }
            Some(Decoded::Request(Request { id, .. })) => {
                let message = "the first command of a connection must be `connect`";
                return Err(reject(id, ErrorCode::BadRequest, message, Disconnect::NotConnected));
            }
            None => return Err(Disconnect::NotConnected.into()),
        };
        let claimed = timeout(CLAIM_TIMEOUT, self.claim(shared, request, connect)).await;
        let claimed = claimed.unwrap_or_else(|_elapsed| {
            tracing::warn!("the store has not answered a handshake in time");
            Err(unavailable(request))
        });
        let Claimed { owned, session, is_resumed, outputs } = claimed?;
        Ok(Admitted { request, owned, session, is_resumed, outputs, rest: rest.collect() })
    }

    /// Cancelling leaves open whether the session is this node's: the client may repeat its claim
    /// anywhere, and a new session that nobody has heard of runs out.
    async fn claim(
        &self,
        shared: &Shared,
        request: RequestId,
        connect: Connect,
    ) -> Result<Claimed, Rejected> {
        let limits = shared.config.limits();
        let mut outputs = Outputs::default();
        let (owned, session, is_resumed) = match self.prove(shared, request, connect).await? {
            Proved::New(identity) => {
                let owned = open(shared, request, &identity).await?;
                (owned, Session::new(identity, limits), false)
            }
            Proved::Resumed(owned, snapshot, positions) => {
                (owned, Session::resume(snapshot, positions, limits, &mut outputs), true)
            }
        };
        Ok(Claimed { owned, session, is_resumed, outputs })
    }

    /// A resume token comes first: it needs one read of the store and no key of the tenant's.
    async fn prove(
        &self,
        shared: &Shared,
        request: RequestId,
        connect: Connect,
    ) -> Result<Proved, Rejected> {
        let Connect { token, resume } = connect;
        let had_resume = resume.is_some();
        if let Some(resume) = resume {
            let resumed = self.resume(shared, request, resume, token.as_ref()).await?;
            if let Some(proved) = resumed {
                return Ok(proved);
            }
        }
        match token {
            Some(token) => self.verify(shared, request, &token).map(Proved::New),
            None if had_resume => {
                let message = "the session is gone: connect again with a token";
                Err(reject(request, ErrorCode::BadToken, message, Disconnect::SessionLost))
            }
            None => {
                let message = "`connect` needs a token, or a resume token";
                Err(reject(request, ErrorCode::BadToken, message, Disconnect::BadToken))
            }
        }
    }

    /// Takes the session up, or says `None` when it cannot be had any more.
    async fn resume(
        &self,
        shared: &Shared,
        request: RequestId,
        resume: Resume,
        token: Option<&Token>,
    ) -> Result<Option<Proved>, Rejected> {
        let opened = shared.sealer.open(resume.token.as_str(), unix_seconds());
        let claims = match opened {
            Ok(claims) if self.is_of_path(&claims.tenant) => claims,
            Ok(_) | Err(_) => {
                metrics::resumed("invalid");
                return Ok(None);
            }
        };
        let key = tidewire_store::SessionKey { tenant: claims.tenant, session: claims.session };
        let resumed = shared.node.resume_session(key, claims.generation, resume.nonce).await;
        let (owned, mut snapshot) = match resumed {
            Ok(resumed) => resumed,
            Err(SessionError::Lost) => {
                metrics::resumed("lost");
                return Ok(None);
            }
            Err(SessionError::Store(error)) => {
                tracing::warn!(%error, "cannot claim a session");
                metrics::resumed("unavailable");
                return Err(unavailable(request));
            }
        };
        if snapshot.identity.is_expired(unix_seconds()) {
            snapshot.identity = self.renew(shared, request, &snapshot.identity, token)?;
        }
        metrics::resumed("ok");
        Ok(Some(Proved::Resumed(owned, snapshot, resume.positions)))
    }

    /// A credential that ran out while its bearer was away has to be replaced by one of the same
    /// user's.
    fn renew(
        &self,
        shared: &Shared,
        request: RequestId,
        expired: &Identity,
        token: Option<&Token>,
    ) -> Result<Identity, Rejected> {
        let Some(token) = token else {
            let message = "the token has expired: resume again with a new one";
            return Err(reject(
                request,
                ErrorCode::TokenExpired,
                message,
                Disconnect::TokenExpired,
            ));
        };
        let identity = self.verify(shared, request, token)?;
        if (&identity.tenant, &identity.user) == (&expired.tenant, &expired.user) {
            return Ok(identity);
        }
        let message = "the token is not of the session's user";
        Err(reject(request, ErrorCode::BadToken, message, Disconnect::BadToken))
    }

    fn verify(
        &self,
        shared: &Shared,
        request: RequestId,
        token: &Token,
    ) -> Result<Identity, Rejected> {
        match shared.verifier.verify(token.as_str(), unix_seconds()) {
            Ok(identity) if self.is_of_path(&identity.tenant) => {
                metrics::authenticated("token", "ok");
                Ok(identity)
            }
            Err(TokenError::Expired) => {
                metrics::authenticated("token", "expired");
                let message = "the token has expired: connect with a new one";
                Err(reject(request, ErrorCode::TokenExpired, message, Disconnect::TokenExpired))
            }
            // A foreign tenant's token is no better than a forged one, and is told no more.
            Ok(_) | Err(TokenError::Invalid) => {
                metrics::authenticated("token", "invalid");
                let message = "the token is not valid here";
                Err(reject(request, ErrorCode::BadToken, message, Disconnect::BadToken))
            }
        }
    }

    fn is_of_path(&self, tenant: &tidewire_model::Tenant) -> bool {
        self.tenant.as_ref().is_none_or(|named| named == tenant)
    }
}

async fn open(
    shared: &Shared,
    request: RequestId,
    identity: &Identity,
) -> Result<OwnedSession, Rejected> {
    let snapshot = Snapshot { identity: identity.clone(), subscriptions: Vec::new() };
    shared.node.open_session(&snapshot).await.map_err(|error| {
        tracing::warn!(%error, "cannot open a session");
        unavailable(request)
    })
}

fn unavailable(request: RequestId) -> Rejected {
    let message = "sessions cannot be reached; come back";
    reject(request, ErrorCode::Unavailable, message, Disconnect::Unavailable)
}

fn reject(
    request: RequestId,
    code: ErrorCode,
    message: &'static str,
    disconnect: Disconnect,
) -> Rejected {
    let failure = Failure::new(code, message);
    Rejected { disconnect, events: vec![Event::Failed { request: Some(request), failure }] }
}
