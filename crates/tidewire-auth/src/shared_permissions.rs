use std::collections::HashSet;

use parking_lot::Mutex;
use tidewire_model::Permissions;

/// What the identities of a node are allowed, each set of permissions once.
///
/// Many users have the same few sets, and a node has many users. The sets seen lately are kept: at
/// most [`MAX_SETS`](Self::MAX_SETS), each as large as a token can carry. A set that only one user
/// ever has, such as one that names the user's own channel, passes through without pushing those out
/// that keep being asked for. One short lock per call.
#[derive(Debug, Default)]
pub(crate) struct SharedPermissions(Mutex<Generations>);

/// Sets move to `young` when they are asked for; a full `young` becomes `old`, and what was in that
/// is forgotten.
#[derive(Debug, Default)]
struct Generations {
    young: HashSet<Permissions>,
    old: HashSet<Permissions>,
}

impl SharedPermissions {
    /// The most sets that are kept.
    pub(crate) const MAX_SETS: usize = 1_024;

    /// The same permissions, in one place with equal ones that were asked for lately.
    pub(crate) fn share(&self, permissions: Permissions) -> Permissions {
        let mut sets = self.0.lock();
        if let Some(known) = sets.young.get(&permissions) {
            return known.clone();
        }
        let shared = sets.old.take(&permissions).unwrap_or(permissions);
        let forgotten = if sets.young.len() < Self::MAX_SETS / 2 {
            HashSet::new()
        } else {
            let full = std::mem::take(&mut sets.young);
            std::mem::replace(&mut sets.old, full)
        };
        sets.young.insert(shared.clone());
        drop(sets);
        // Hundreds of maps are freed here, which nobody needs to wait for.
        drop(forgotten);
        shared
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let sets = self.0.lock();
        sets.young.len() + sets.old.len()
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Action, Filter};

    use super::*;

    #[test]
    fn equal_permissions_are_kept_once() {
        let shared = SharedPermissions::default();

        let first = shared.share(only("room/1"));
        let second = shared.share(only("room/1"));
        let other = shared.share(only("room/2"));

        assert_eq!(first, only("room/1"));
        assert!(second.is_shared_with(&first));
        assert_eq!(other, only("room/2"));
    }

    #[test]
    fn no_more_than_the_limit_are_kept() {
        let shared = SharedPermissions::default();
        let mut most = 0;

        for number in 0..SharedPermissions::MAX_SETS * 3 {
            let name = format!("inbox/{number}");
            assert_eq!(shared.share(only(&name)), only(&name));
            most = most.max(shared.len());
        }

        assert_eq!(most, SharedPermissions::MAX_SETS);
    }

    #[test]
    fn what_keeps_being_asked_for_outlives_any_number_of_sets_that_come_once() {
        let shared = SharedPermissions::default();
        let first = shared.share(only("room/1"));

        for number in 0..SharedPermissions::MAX_SETS * 3 {
            shared.share(only(&format!("inbox/{number}")));
            if number % 100 == 0 {
                assert!(shared.share(only("room/1")).is_shared_with(&first), "{number}");
            }
        }
    }

    fn only(filter: &str) -> Permissions {
        let filter = Filter::parse(filter).expect("filter");
        Permissions::default().grant(filter, [Action::Subscribe])
    }
}
