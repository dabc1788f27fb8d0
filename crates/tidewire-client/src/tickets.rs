use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tidewire_model::Token;

use crate::NoToken;

/// Where a client gets a ticket from for each connection that it opens.
#[derive(Clone)]
pub struct Tickets(Arc<dyn Fn() -> Fetching + Send + Sync>);

type Fetching = Pin<Box<dyn Future<Output = Result<Token, NoToken>> + Send>>;

impl Tickets {
    /// `source` is asked once for each attempt to connect, before that, and has ten seconds together with it. That
    /// it has no ticket is one more attempt that has failed: the client tries again later, but for its first
    /// one.
    pub fn new<F>(source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Token, NoToken>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(source())))
    }

    pub(crate) async fn next(&self) -> Result<Token, NoToken> {
        (self.0)().await
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}
