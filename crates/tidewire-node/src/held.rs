use std::collections::BTreeMap;
use std::sync::Arc;

use tidewire_model::{Envelope, Epoch, Incarnation, Position};

/// Publications that came before those they follow, bounded in number and bytes. When it is full,
/// what arrives is dropped; the log has it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) publications: BTreeMap<(Epoch, u64), Arc<Envelope>>,
    bytes: usize,
}

impl Held {
    pub(crate) const MOST: usize = 256;
    const MOST_BYTES: usize = 1 << 20;

    /// Says whether there was room.
    pub(crate) fn insert(&mut self, envelope: Arc<Envelope>) -> bool {
        if self.publications.len() >= Self::MOST || self.bytes >= Self::MOST_BYTES {
            return false;
        }
        let Position { epoch, offset } = envelope.position;
        let weight = envelope.weight();
        if self.publications.insert((epoch, offset), envelope).is_none() {
            self.bytes += weight;
        }
        true
    }

    pub(crate) fn remove(&mut self, position: Position) -> Option<Arc<Envelope>> {
        let envelope = self.publications.remove(&(position.epoch, position.offset))?;
        self.bytes -= envelope.weight();
        Some(envelope)
    }

    /// Drops what is at or before `at`, and whatever an older life of the log has written.
    pub(crate) fn forget_before(&mut self, at: Position) {
        self.publications.retain(|(epoch, offset), _| {
            if *epoch == at.epoch {
                *offset > at.offset
            } else {
                epoch.incarnation() >= at.epoch.incarnation()
            }
        });
        self.bytes = self.publications.values().map(|envelope| envelope.weight()).sum();
    }

    /// Drops what no later life of the log than `newest` has written, under another epoch than the
    /// one that life is in: it will never be confirmed.
    pub(crate) fn forget_unconfirmed(&mut self, current: Epoch, newest: Incarnation) {
        self.publications.retain(|(epoch, _), _| *epoch == current || epoch.incarnation() > newest);
        self.bytes = self.publications.values().map(|envelope| envelope.weight()).sum();
    }

    /// Whether nothing is held of any other epoch.
    pub(crate) fn is_all_of(&self, epoch: Epoch) -> bool {
        let ends = [self.publications.first_key_value(), self.publications.last_key_value()];
        ends.into_iter().flatten().all(|((held, _), _)| *held == epoch)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }
}
