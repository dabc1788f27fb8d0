use sha2::{Digest, Sha256};
use tidewire_model::{Channel, Payload, PublicationId, UserId};

/// A publication before the log has given it a position.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub id: Option<PublicationId>,
    /// `None` for a server's API key.
    pub publisher: Option<UserId>,
    pub payload: Payload,
}

impl Draft {
    /// What makes two drafts for `channel` the same publication; `None` without an id.
    pub fn dedupe_key(&self, channel: &Channel) -> Option<DedupeKey> {
        self.id.as_ref().map(|id| DedupeKey::new(self.publisher.as_ref(), channel, id))
    }

    /// What it takes in a queue or a batch, in bytes.
    pub fn weight(&self) -> usize {
        const ALLOWANCE: usize = 128;
        self.payload.len() + ALLOWANCE
    }
}

/// Names a publication by publisher, channel and id.
///
/// The publisher is part of it, or one client could suppress another's publication by guessing its
/// id; and it is a cryptographic hash, or it could do so by making a collision.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DedupeKey([u8; 16]);

impl DedupeKey {
    fn new(publisher: Option<&UserId>, channel: &Channel, id: &PublicationId) -> Self {
        // A zero byte can stand in none of the three, so no two triples give the same text. No
        // publisher and a publisher differ in the first byte.
        let mut hash = Sha256::new();
        match publisher {
            None => hash.update([0]),
            Some(user) => {
                hash.update([1]);
                hash.update(user.as_str());
            }
        }
        hash.update([0]);
        hash.update(channel.as_str());
        hash.update([0]);
        hash.update(id.as_str());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }

    /// A key that was kept as these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_publisher_channel_and_id_give_the_same_key() {
        let key = |user: Option<&str>, channel: &str, id: &str| {
            DedupeKey::new(
                user.map(|user| UserId::parse(user).expect("user")).as_ref(),
                &Channel::parse(channel).expect("channel"),
                &PublicationId::parse(id).expect("id"),
            )
        };
        let same = key(Some("ann"), "c", "1");

        assert_eq!(same, key(Some("ann"), "c", "1"));
        for other in [
            key(Some("bob"), "c", "1"),
            key(None, "c", "1"),
            key(Some("ann"), "d", "1"),
            key(Some("ann"), "c", "2"),
            key(Some("annc"), "c", "1"),
        ] {
            assert_ne!(same, other);
        }
    }
}
