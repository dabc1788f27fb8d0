//! Sessions as a node owns them: opened, resumed, saved.

use std::time::Duration;

use tidewire_broker::Notice;
use tidewire_model::{Generation, SessionId, SessionNonce, Tenant};
use tidewire_session::Snapshot;
use tidewire_store::{Claim, ClaimRequest, Saved, SessionKey, SessionWrite, StoreError};

use crate::Node;

/// A session this node owns under a generation.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct OwnedSession {
    pub key: SessionKey,
    pub generation: Generation,
}

/// Why a session could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It ended, its window has passed, or somebody else has it: begin a new one.
    #[error("session cannot be resumed")]
    Lost,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Within this a connection writes its session again, even if nothing has changed.
pub const SESSION_RENEWAL: Duration = Duration::from_mins(40);
/// Kept beyond the resume window, so that a client that returns in its last moment is in time.
const GRACE: Duration = Duration::from_secs(30);

impl Node {
    /// How long after a loss a session can be resumed.
    pub fn resume_window(&self) -> Duration {
        self.inner().config.resume_window
    }

    /// Names a session of which the store is not to know, and which nobody can resume.
    pub fn unkept_session(&self, tenant: Tenant) -> OwnedSession {
        let session = SessionId::from_bytes(self.inner().config.random.bytes());
        let key = SessionKey { tenant, session };
        OwnedSession { key, generation: Generation::default().next() }
    }

    /// Begins a session.
    pub async fn open_session(&self, snapshot: &Snapshot) -> Result<OwnedSession, StoreError> {
        let opened = self.unkept_session(snapshot.identity.tenant.clone());
        self.save_session(&opened, snapshot).await?;
        Ok(opened)
    }

    /// Takes a session over, by one round trip to the store, and tells the node that had it.
    pub async fn resume_session(
        &self,
        key: SessionKey,
        generation: Generation,
        nonce: SessionNonce,
    ) -> Result<(OwnedSession, Snapshot), SessionError> {
        let owner = self.id().clone();
        let request = ClaimRequest { key: key.clone(), generation, owner, nonce };
        match self.inner().ports.sessions.claim(&request, self.connected_ttl()).await? {
            Claim::Granted { generation, snapshot, previous } => {
                let notice = Notice::SessionMoved {
                    tenant: key.tenant.clone(),
                    session: key.session,
                    generation,
                };
                if previous != *self.id() {
                    self.inner().ports.broker.notify(&previous, &notice);
                } else if self.inner().notices.try_send(notice).is_err() {
                    tracing::warn!("notice dropped, too many are waiting");
                }
                Ok((OwnedSession { key, generation }, snapshot))
            }
            Claim::Missing | Claim::Fenced => Err(SessionError::Lost),
        }
    }

    /// Writes a connected session. It is kept as long as it takes to be written again and, should
    /// that not happen because the node has died, for the resume window.
    pub async fn save_session(
        &self,
        session: &OwnedSession,
        snapshot: &Snapshot,
    ) -> Result<Saved, StoreError> {
        self.write_session(session, snapshot, self.connected_ttl()).await
    }

    /// Starts the window in which a session whose connection is gone can be resumed.
    pub async fn release_session(
        &self,
        session: &OwnedSession,
        snapshot: &Snapshot,
    ) -> Result<Saved, StoreError> {
        self.write_session(session, snapshot, self.resume_window() + GRACE).await
    }

    fn connected_ttl(&self) -> Duration {
        SESSION_RENEWAL + self.resume_window() + GRACE
    }

    async fn write_session(
        &self,
        session: &OwnedSession,
        snapshot: &Snapshot,
        ttl: Duration,
    ) -> Result<Saved, StoreError> {
        let OwnedSession { key, generation } = session;
        let write = SessionWrite { key, generation: *generation, owner: self.id(), snapshot };
        self.inner().ports.sessions.save(write, ttl).await
    }
}
