use tidewire_protocol_native::client::{Content, Received};
use tidewire_protocol_native::fossil::BadDelta;

/// What the next delta in a channel is applied to.
#[derive(Default)]
pub(crate) enum Base {
    /// The server sends no deltas.
    #[default]
    Unneeded,
    /// The server may send deltas, and will send one publication in full before the first.
    Awaited,
    Held(Box<Received>),
    /// What comes before the next confirmation is of a subscription that was given up, as after a
    /// delta that could not be applied: its publications come again after that.
    Lost,
}

impl Base {
    /// Gives the publication with its whole payload; `None` for one that is to be ignored, because it
    /// will come again.
    pub(crate) fn restore(
        &mut self,
        publication: Received<Content>,
    ) -> Result<Option<Received>, BadDelta> {
        let base = match &*self {
            Self::Lost => return Ok(None),
            Self::Unneeded | Self::Awaited => None,
            Self::Held(base) => Some(base.as_ref()),
        };
        let whole = publication.restored(base)?;
        if !matches!(self, Self::Unneeded) {
            *self = Self::Held(Box::new(whole.clone()));
        }
        Ok(Some(whole))
    }
}
