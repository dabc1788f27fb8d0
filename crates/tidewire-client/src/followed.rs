use tidewire_model::{Position, Since};
use tidewire_protocol_native::client::Received;

use crate::seen::Seen;

/// A channel the application wants, and how far it has been read.
pub(crate) struct Followed {
    since: Since,
    pub(crate) position: Option<Position>,
    seen: Seen,
}

impl Followed {
    pub(crate) fn new(since: Since) -> Self {
        let position = match since {
            Since::Position(position) => Some(position),
            Since::Now | Since::Last(_) => None,
        };
        Self { since, position, seen: Seen::default() }
    }

    /// Where to go on from when no session brings it back.
    pub(crate) fn go_on(&self) -> Since {
        self.position.map_or(self.since, Since::Position)
    }

    /// Reads a publication; says whether the application has not had it before.
    pub(crate) fn read(&mut self, publication: &Received) -> bool {
        let is_old = self.position.is_some_and(|position| {
            position.epoch == publication.position.epoch
                && publication.position.offset <= position.offset
        });
        if is_old {
            return false;
        }
        self.position = Some(publication.position);
        publication.id.as_ref().is_none_or(|id| self.seen.insert(id))
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Incarnation, Payload, PublicationId};

    use super::*;

    #[test]
    fn what_was_read_is_not_read_again() {
        let mut followed = Followed::new(Since::Now);

        assert!(followed.read(&received(1, None)));
        assert!(followed.read(&received(2, None)));
        assert!(!followed.read(&received(2, None)));
        assert!(!followed.read(&received(1, None)));
        assert_eq!(followed.position, Some(position(2)));
    }

    #[test]
    fn a_known_id_under_a_new_offset_moves_the_position_only() {
        let mut followed = Followed::new(Since::Now);

        assert!(followed.read(&received(1, Some("a"))));
        assert!(!followed.read(&received(2, Some("a"))));
        assert_eq!(followed.go_on(), Since::Position(position(2)));
    }

    fn position(offset: u64) -> Position {
        Position::new(Incarnation::ZERO.epoch(1), offset)
    }

    fn received(offset: u64, id: Option<&str>) -> Received {
        Received {
            position: position(offset),
            time_ms: 0,
            id: id.map(|id| PublicationId::parse(id).expect("valid")),
            publisher: None,
            payload: Payload::binary("".into()),
        }
    }
}
