use std::collections::BTreeMap;

use tidewire_model::{ChangePosition, Member, MemberId, MemberPage, PageMark, PresenceChange};

/// Who is in a channel, kept from pages of its list and the changes that are told.
///
/// Give it every page and every change of the channel, in the order in which they come, and ask for the pages
/// that it needs, before anything else happens. It cannot tell a page of the list that it loads from one that
/// was asked for before; [`Client::members`](crate::Client::members) keeps those from it.
#[derive(Debug, Default)]
pub struct MemberList {
    members: BTreeMap<MemberId, Member>,
    count: u64,
    stage: Stage,
    /// Changes that cannot be applied yet.
    waiting: Vec<PresenceChange>,
}

/// What is to be asked for, by [`Client::members`](crate::Client::members).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Needed {
    Nothing,
    /// The page that begins there.
    Page(Option<PageMark>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    /// Pages are under way; the first of them was of this position.
    #[default]
    Loading,
    LoadingSince(ChangePosition),
    /// Everybody is known, as of this position.
    Whole(ChangePosition),
    /// Only how many there are is told.
    Counted,
}

/// Changes that may wait for others before the list is loaded again instead.
const MOST_WAITING: usize = 64;
/// The same while it is loaded, which takes as long as there are pages.
const MOST_WHILE_LOADING: usize = 4_096;

impl MemberList {
    /// Everybody who is known to be there.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// How many are there; they may be more than are known.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether everybody is known.
    pub fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Whole(_))
    }

    /// Forgets everybody, and begins to load the list: after [`Happening::Watching`](crate::Happening::Watching).
    pub fn load(&mut self) -> Needed {
        *self = Self { count: self.count, ..Self::default() };
        Needed::Page(None)
    }

    /// Takes a page.
    pub fn page(&mut self, page: MemberPage) -> Needed {
        let MemberPage { members, occupancy, next } = page;
        let (epoch, offset) = (occupancy.position.epoch, occupancy.position.offset);
        let since = match self.stage {
            Stage::Loading => ChangePosition { epoch, offset },
            Stage::LoadingSince(since) if since.epoch == epoch => since,
            Stage::LoadingSince(_) => return self.load(),
            Stage::Whole(_) | Stage::Counted => return Needed::Nothing,
        };
        self.stage = Stage::LoadingSince(since);
        self.members.extend(members.into_iter().map(|member| (member.id, member)));
        if next.is_some() {
            return Needed::Page(next);
        }
        self.count = occupancy.count;
        self.stage = Stage::Whole(since);
        self.catch_up()
    }

    /// Takes a change.
    pub fn change(&mut self, change: PresenceChange) -> Needed {
        if change.lost {
            return self.load();
        }
        if change.is_empty() {
            return self.take_count(change.count);
        }
        if self.stage == Stage::Counted {
            // Names are told again, and that this is so has been missed.
            return self.load();
        }
        self.waiting.push(change);
        self.catch_up()
    }

    /// Keeps the number alone: no name will be told.
    fn take_count(&mut self, count: Option<u64>) -> Needed {
        if let Some(count) = count {
            *self = Self { count, stage: Stage::Counted, ..Self::default() };
        }
        Needed::Nothing
    }

    /// Applies what can be, in order.
    fn catch_up(&mut self) -> Needed {
        let Stage::Whole(mut at) = self.stage else {
            let is_much = self.waiting.len() > MOST_WHILE_LOADING;
            return if is_much { self.load() } else { Needed::Nothing };
        };
        self.waiting.sort_by_key(|change| change.position.map(|position| position.offset));
        for change in std::mem::take(&mut self.waiting) {
            let Some(position) = change.position else { continue };
            let changes = u64::try_from(change.len()).unwrap_or(u64::MAX);
            if position.epoch != at.epoch {
                return self.load();
            }
            if position.offset <= at.offset {
                continue;
            }
            if position.offset - changes.min(position.offset) > at.offset {
                self.waiting.push(change);
                continue;
            }
            self.apply(change);
            at = position;
        }
        self.stage = Stage::Whole(at);
        if self.waiting.len() > MOST_WAITING { self.load() } else { Needed::Nothing }
    }

    fn apply(&mut self, change: PresenceChange) {
        let PresenceChange { joined, updated, left, count, .. } = change;
        let there = joined.into_iter().chain(updated);
        self.members.extend(there.map(|member| (member.id, member)));
        for former in left {
            self.members.remove(&former.id);
        }
        let known = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        self.count = count.unwrap_or(known);
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::{FormerMember, Incarnation, Occupancy, SessionId, UserId};

    use super::*;

    #[test]
    fn changes_that_follow_are_applied_in_whatever_order_they_come_and_others_are_not() {
        let mut list = listed(10, &[1, 2]);

        assert_eq!(list.change(joined(12, 4)), Needed::Nothing);
        assert_eq!(found(&list), [1, 2], "11 is missing");
        assert_eq!(list.change(joined(11, 3)), Needed::Nothing);
        assert_eq!(list.change(joined(10, 9)), Needed::Nothing);
        assert_eq!(list.change(left(13, 1)), Needed::Nothing);

        assert_eq!((found(&list), list.count()), (vec![2, 3, 4], 3));
    }

    #[test]
    fn what_changes_while_pages_come_is_applied_after_the_last() {
        let mut list = MemberList::default();
        let next = PageMark { incarnation: Incarnation::ZERO, place: 7 };

        assert_eq!(list.load(), Needed::Page(None));
        assert_eq!(list.page(page(10, &[1, 2], Some(next))), Needed::Page(Some(next)));
        list.change(left(11, 1));
        list.change(joined(12, 5));
        assert!(!list.is_whole());
        // The second page knows of one of the two already.
        assert_eq!(list.page(page(12, &[3, 5], None)), Needed::Nothing);

        assert_eq!((found(&list), list.count()), (vec![2, 3, 5], 3));
        assert!(list.is_whole());
    }

    #[test]
    fn pages_that_begin_anew_before_the_last_make_the_same_list() {
        let mut list = MemberList::default();
        let next = PageMark { incarnation: Incarnation::ZERO, place: 7 };
        list.load();
        list.page(page(10, &[1, 2], Some(next)));
        list.change(left(11, 1));

        assert_eq!(list.page(page(11, &[2], Some(next))), Needed::Page(Some(next)));
        assert_eq!(list.page(page(11, &[3], None)), Needed::Nothing);

        assert_eq!((found(&list), list.is_whole()), (vec![2, 3], true));
    }

    #[test]
    fn the_list_is_loaded_again_after_a_loss_and_in_another_life_of_the_store() {
        let elsewhere = Occupancy::new(3, Incarnation::new(7, 7), 11);
        let elsewhere = PresenceChange { joined: vec![member(3)], ..PresenceChange::at(elsewhere) };

        for change in [PresenceChange::loss(), elsewhere] {
            let mut list = listed(10, &[1, 2]);
            assert_eq!(list.change(change), Needed::Page(None));
            assert_eq!((found(&list), list.is_whole()), (vec![], false));
        }
    }

    #[test]
    fn more_than_can_wait_is_loaded_instead() {
        let mut list = listed(10, &[]);

        let needed: Vec<_> = (0..=64).map(|number| list.change(joined(12 + number, 3))).collect();

        assert!(needed[..64].iter().all(|needed| *needed == Needed::Nothing));
        assert_eq!(needed[64], Needed::Page(None));
    }

    #[test]
    fn a_count_takes_the_place_of_the_list_until_names_are_told_again() {
        let mut list = listed(10, &[1, 2]);

        assert_eq!(list.change(count(1_200)), Needed::Nothing);
        assert_eq!((found(&list), list.count(), list.is_whole()), (vec![], 1_200, false));
        assert_eq!(list.page(page(10, &[1], None)), Needed::Nothing);
        assert_eq!(found(&list), [0; 0]);
        assert_eq!(list.change(joined(90, 3)), Needed::Page(None));
    }

    /// A whole list as of this offset.
    fn listed(offset: u64, members: &[u8]) -> MemberList {
        let mut list = MemberList::default();
        list.load();
        assert_eq!(list.page(page(offset, members, None)), Needed::Nothing);
        list
    }

    fn page(offset: u64, members: &[u8], next: Option<PageMark>) -> MemberPage {
        let occupancy = Occupancy::new(members.len() as u64, Incarnation::ZERO, offset);
        MemberPage { members: members.iter().map(|of| member(*of)).collect(), occupancy, next }
    }

    fn joined(offset: u64, of: u8) -> PresenceChange {
        PresenceChange { joined: vec![member(of)], ..at(offset) }
    }

    fn left(offset: u64, of: u8) -> PresenceChange {
        let Member { id, user, .. } = member(of);
        PresenceChange { left: vec![FormerMember { id, user }], ..at(offset) }
    }

    fn count(count: u64) -> PresenceChange {
        PresenceChange::at(Occupancy::new(count, Incarnation::ZERO, 50))
    }

    fn at(offset: u64) -> PresenceChange {
        let change = PresenceChange::at(Occupancy::new(0, Incarnation::ZERO, offset));
        PresenceChange { count: None, ..change }
    }

    fn member(of: u8) -> Member {
        let user = UserId::parse(&of.to_string()).expect("valid");
        Member { id: MemberId::of(&SessionId::from_bytes([of; 16])), user, data: None }
    }

    fn found(list: &MemberList) -> Vec<u8> {
        let users = list.members().map(|member| member.user.as_str().parse().expect("a number"));
        let mut users: Vec<_> = users.collect();
        users.sort_unstable();
        users
    }
}
