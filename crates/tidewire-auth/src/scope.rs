/// What a server may ask with an API key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    Publish,
    /// Read what a channel keeps.
    History,
    /// Read who is there.
    Presence,
    /// Fetch tickets for users.
    Tickets,
    /// Revoke what was issued.
    Revoke,
}

/// Several [`Scope`]s. Those of a key that says nothing are what is bounded by its channels; what makes
/// somebody else's credential, or ends one, has to be said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scopes(u8);

impl Scopes {
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }
}

impl Default for Scopes {
    fn default() -> Self {
        [Scope::Publish, Scope::History, Scope::Presence].into_iter().collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | bit(scope)))
    }
}

fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_there_and_nothing_said_is_not_everything() {
        let said: Scopes = [Scope::Tickets, Scope::Tickets].into_iter().collect();

        assert!(said.contains(Scope::Tickets) && !said.contains(Scope::Publish));
        assert!(!Scopes::from_iter([]).contains(Scope::Publish));
        assert!(Scopes::default().contains(Scope::Publish));
        assert!(!Scopes::default().contains(Scope::Tickets));
        assert!(!Scopes::default().contains(Scope::Revoke));
    }
}
