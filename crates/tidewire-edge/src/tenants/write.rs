use serde_json::Value;
use tidewire_broker::News;
use tidewire_model::Tenant;
use tidewire_store::{Expects, TenantWrite, Written};
use tidewire_tenant::{EditError, Incarnation};

use super::{RegistryError, TenantRegistry};
use crate::Edge;

/// What a caller wants to be there for its change to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Condition {
    Always,
    /// No tenant of that name.
    Absent,
    /// This revision.
    Revision(u64),
}

/// Who does not care what is there tries so often to be the next.
const TRIES: usize = 4;
/// Documents that are sealed anew by one request.
const RESEALED_AT_ONCE: usize = 64;

impl TenantRegistry {
    /// Keeps `text` as the document of `tenant`. Yields its revision, and whether the tenant is new.
    ///
    /// It holds here when this returns, and elsewhere within a second; or, where news does not get
    /// through, within six. Cancelling leaves open whether it was kept.
    ///
    /// # Errors
    ///
    /// Nothing has changed then, unless the store could not be reached: it may have.
    pub(crate) async fn put(
        &self,
        edge: &Edge,
        tenant: &Tenant,
        text: &[u8],
        condition: Condition,
    ) -> Result<(u64, bool), RegistryError> {
        if self.is_fixed(tenant) {
            return Err(RegistryError::Static);
        }
        // What is left out is taken from the document that this one replaces, and from no older one.
        for _ in 0..TRIES {
            self.read().await?;
            match self.put_once(edge, tenant, text, condition).await {
                Err(RegistryError::Conflict { .. }) if condition == Condition::Always => {}
                outcome => return outcome,
            }
        }
        Err(RegistryError::Conflict { revision: self.0.known.lock().revision(tenant) })
    }

    async fn put_once(
        &self,
        edge: &Edge,
        tenant: &Tenant,
        text: &[u8],
        condition: Condition,
    ) -> Result<(u64, bool), RegistryError> {
        let parts = &self.0.parts;
        let condition = self.exactly(tenant, condition);
        let previous = self.document(tenant).map(|(_, text)| text);
        let text = tidewire_tenant::complete(text, previous.as_deref());
        let definition = tidewire_tenant::parse(tenant, &text, parts.history);
        let definition = definition.map_err(RegistryError::Bad)?;
        let ring = parts.tenants.ring().load();
        let owners = definition.keys.keys.iter().filter_map(|key| ring.owner(key));
        if let Some(by) = owners.into_iter().find(|owner| *owner != tenant) {
            return Err(RegistryError::KeyInUse { by: by.clone() });
        }
        let issuer = definition.keys.issuer.as_ref().map(|issuer| issuer.name.as_str());
        let issued_for = issuer.and_then(|name| ring.tenant_of_issuer(name));
        if let Some(by) = issued_for.filter(|owner| *owner != tenant) {
            return Err(RegistryError::IssuerInUse { by: by.clone() });
        }
        let marks = definition.keys.marks(&parts.vault);
        let text = tidewire_tenant::at_rest(&text);
        self.write(edge, (tenant, condition), Some((&text, &marks))).await
    }

    /// What is expected to be there when what is known is replaced, whatever that is.
    fn exactly(&self, tenant: &Tenant, condition: Condition) -> Condition {
        let known = self.0.known.lock();
        match condition {
            Condition::Always if known.sealed(tenant).is_some() => {
                Condition::Revision(known.revision(tenant))
            }
            Condition::Always => Condition::Absent,
            exact => exact,
        }
    }

    /// Removes `tenant`. Its name can be used again.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    pub(crate) async fn remove(
        &self,
        edge: &Edge,
        tenant: &Tenant,
        condition: Condition,
    ) -> Result<(), RegistryError> {
        if self.is_fixed(tenant) {
            return Err(RegistryError::Static);
        }
        self.write(edge, (tenant, condition), None).await.map(drop)
    }

    /// Keeps the document of `tenant` as `change` makes it of what is there. Yields its revision.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put), and what `change` refuses.
    pub(crate) async fn edit(
        &self,
        edge: &Edge,
        (tenant, condition): (&Tenant, Condition),
        change: impl Fn(&mut Value) -> Result<(), EditError> + Send + Sync,
    ) -> Result<u64, RegistryError> {
        if self.is_fixed(tenant) {
            return Err(RegistryError::Static);
        }
        self.read().await?;
        let mut tries = 0;
        loop {
            let (revision, text) = self.document(tenant).ok_or(RegistryError::Missing)?;
            if !matches!(condition, Condition::Always) && condition != Condition::Revision(revision)
            {
                return Err(RegistryError::Conflict { revision });
            }
            let mut document = serde_json::from_slice(&text).unwrap_or_default();
            change(&mut document)?;
            let text = document.to_string();
            tries += 1;
            match self.put(edge, tenant, text.as_bytes(), Condition::Revision(revision)).await {
                Err(RegistryError::Conflict { .. })
                    if condition == Condition::Always && tries < TRIES => {}
                outcome => return outcome.map(|(revision, _)| revision),
            }
        }
    }

    /// Seals some of the documents that are sealed with an older key with the newest. Yields how many;
    /// others that can be read are left if it is [`RESEALED_AT_ONCE`].
    ///
    /// # Errors
    ///
    /// When the store cannot be reached. Some may have been sealed.
    pub(crate) async fn reseal(&self, edge: &Edge) -> Result<usize, RegistryError> {
        self.read().await?;
        let parts = &self.0.parts;
        let all: Vec<_> = self.0.known.lock().sealed_otherwise(&parts.vault).cloned().collect();
        let mut resealed = 0;
        for tenant in all {
            let Some((revision, text)) = self.document(&tenant) else { continue };
            let Ok(definition) = tidewire_tenant::parse(&tenant, &text, parts.history) else {
                continue;
            };
            let marks = definition.keys.marks(&parts.vault);
            let unchanged = (&tenant, Condition::Revision(revision));
            match self.write(edge, unchanged, Some((&text, &marks))).await {
                Ok(_) => resealed += 1,
                Err(RegistryError::Store(error)) => return Err(error.into()),
                // Whoever was first has sealed it with the newest key, or will be asked again.
                Err(error) => tracing::warn!(%tenant, %error, "a document was not sealed anew"),
            }
            if resealed == RESEALED_AT_ONCE {
                break;
            }
        }
        Ok(resealed)
    }

    async fn write(
        &self,
        edge: &Edge,
        (tenant, condition): (&Tenant, Condition),
        content: Option<(&[u8], &[[u8; 16]])>,
    ) -> Result<(u64, bool), RegistryError> {
        // What other nodes have written is known, as far as the store can be reached.
        self.read().await?;
        let parts = &self.0.parts;
        for _ in 0..TRIES {
            let (known, is_there) = {
                let known = self.0.known.lock();
                (known.revision(tenant), known.sealed(tenant).is_some())
            };
            match condition {
                Condition::Absent if is_there => {
                    return Err(RegistryError::Conflict { revision: known });
                }
                _ if content.is_none() && !is_there => return Err(RegistryError::Missing),
                Condition::Revision(wanted) if wanted != known || !is_there => {
                    return Err(RegistryError::Conflict { revision: known });
                }
                _ => {}
            }
            let revision = known + 1;
            let before = self.opened(tenant).map(|(_, incarnation, _)| incarnation);
            let incarnation = before.unwrap_or_else(new_incarnation);
            let number = (revision, incarnation);
            let sealed =
                content.map(|(text, _)| tidewire_tenant::seal(&parts.vault, tenant, number, text));
            let written = parts.store.write(TenantWrite {
                tenant,
                expects: Expects::Revision(known),
                revision,
                sealed: sealed.as_deref(),
                marks: content.map(|(_, marks)| marks).unwrap_or_default(),
                nonce: nonce(),
                most: parts.most,
            });
            match written.await? {
                Written::Done => {
                    edge.0.node.announce_news(News::Tenants);
                    self.0.written.notify_one();
                    self.read().await?;
                    return Ok((revision, !is_there));
                }
                Written::Conflict { .. } => self.read().await?,
                Written::Taken { by } => return Err(RegistryError::KeyInUse { by }),
                Written::Full => return Err(RegistryError::Full),
            }
        }
        Err(RegistryError::Conflict { revision: self.0.known.lock().revision(tenant) })
    }
}

fn new_incarnation() -> Incarnation {
    Incarnation::from_random(getrandom::u64().expect("the system has random numbers"))
}

pub(super) fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).expect("the system has random numbers");
    nonce
}
