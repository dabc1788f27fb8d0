use std::collections::VecDeque;

use tidewire_model::Tenant;

/// Fetches under way at once, of all tenants.
pub(super) const MOST_FETCHES: usize = 16;
/// Those of them that are for issuers which have not answered last time, or never been asked. One that
/// hangs takes its place for seconds, and however many do, some are left for the others.
pub(super) const MOST_UNPROVEN: usize = 12;

/// What is known of how an issuer answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It has answered last time.
    Sound,
    /// It has not been asked yet.
    New,
    /// It has not answered last time.
    Failing,
}

/// Whose keys are to be fetched, and how many are being fetched: each tenant is in it once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    sound: VecDeque<Tenant>,
    new: VecDeque<Tenant>,
    failing: VecDeque<Tenant>,
    under_way: usize,
    unproven: usize,
}

impl Queue {
    pub(super) fn push(&mut self, tenant: Tenant, standing: Standing) {
        match standing {
            Standing::Sound => self.sound.push_back(tenant),
            Standing::New => self.new.push_back(tenant),
            Standing::Failing => self.failing.push_back(tenant),
        }
    }

    /// Whose fetch may begin now, in turn: those first who are likely to answer. When it has ended,
    /// [`end`](Self::end) is to be called with what comes with the name.
    pub(super) fn begin(&mut self) -> Option<(Tenant, Standing)> {
        if self.under_way == MOST_FETCHES {
            return None;
        }
        let begun = match self.sound.pop_front() {
            Some(tenant) => (tenant, Standing::Sound),
            None if self.unproven == MOST_UNPROVEN => return None,
            None => match self.new.pop_front() {
                Some(tenant) => (tenant, Standing::New),
                None => (self.failing.pop_front()?, Standing::Failing),
            },
        };
        self.under_way += 1;
        self.unproven += usize::from(begun.1 != Standing::Sound);
        Some(begun)
    }

    /// A fetch has ended that began in this standing.
    pub(super) fn end(&mut self, standing: Standing) {
        self.under_way -= 1;
        self.unproven -= usize::from(standing != Standing::Sound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).expect("a tenant")
    }

    #[test]
    fn who_answers_goes_before_who_is_new_and_who_is_new_before_who_does_not() {
        let mut queue = Queue::default();
        let order = [Standing::Failing, Standing::New, Standing::Sound, Standing::Sound];
        for (name, standing) in ["a", "b", "c", "d"].into_iter().zip(order) {
            queue.push(tenant(name), standing);
        }

        let begun: Vec<_> = std::iter::from_fn(|| queue.begin()).map(|begun| begun.0).collect();

        assert_eq!(begun, ["c", "d", "b", "a"].map(tenant));
    }

    #[test]
    fn those_that_do_not_answer_leave_places_to_the_others() {
        let mut queue = Queue::default();
        for number in 0..100 {
            let standing = if number % 2 == 0 { Standing::New } else { Standing::Failing };
            queue.push(tenant(&format!("t{number}")), standing);
        }
        let begun: Vec<_> = std::iter::from_fn(|| queue.begin()).collect();
        (0..100).for_each(|number| queue.push(tenant(&format!("s{number}")), Standing::Sound));

        let sound = std::iter::from_fn(|| queue.begin()).count();
        queue.end(begun[0].1);
        let next = [queue.begin(), queue.begin()];

        assert_eq!((begun.len(), sound), (MOST_UNPROVEN, MOST_FETCHES - MOST_UNPROVEN));
        assert_eq!(next, [Some((tenant("s4"), Standing::Sound)), None]);
    }
}
