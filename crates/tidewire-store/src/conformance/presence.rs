//! What every [`Presence`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{
    Channel, Generation, Incarnation, MemberWord, NodeId, PageMark, SessionId, Tenant,
    TenantChannel, UserId,
};

use super::{LONG, until};
use crate::{
    Age, Applied, Departed, Entry, Expired, Fate, Life, MOST_MOVES, Move, Presence, Standing,
    Telling, Terms,
};

/// Makes the stores of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait PresenceFactory {
    type Presence: Presence + 'static;

    async fn open(&self) -> Self::Presence;
}

/// Makes a `#[tokio::test]` of every behaviour of a store of presence. `$factory` is an expression
/// of a [`PresenceFactory`](crate::conformance::PresenceFactory), evaluated for each test, and may
/// await.
#[macro_export]
macro_rules! presence_conformance {
    ($factory:expr) => {
        $crate::presence_conformance! { $factory =>
            at_first_nobody_is_there
            who_enters_joins_and_is_counted
            who_enters_again_is_kept_or_updated
            every_word_and_name_survives
            a_resume_elsewhere_is_neither_a_leave_nor_a_join
            what_comes_late_changes_nothing
            who_is_away_counts_until_the_time_is_up_and_leaves_once
            who_comes_back_in_time_stays
            being_away_twice_does_not_prolong_it
            who_leaves_is_gone_and_may_enter_again
            who_is_away_can_leave
            a_new_owner_that_never_entered_can_say_that_its_session_is_away
            two_channels_and_two_tenants_never_meet
            each_change_takes_one_position_and_nothing_else_does
            some_moves_are_one_step_in_their_order
            moves_whose_answer_was_lost_may_be_repeated
            pages_bring_everybody
            pages_go_on_while_members_come_and_go
            a_mark_of_another_life_of_the_store_begins_anew
            a_life_has_the_channels_where_its_members_are
            subscribers_of_all_lives_are_added_up
            a_dead_lifes_subscribers_are_forgotten
            the_first_and_the_last_are_told_at_once_and_others_in_time
            of_a_large_channel_only_the_number_is_told_until_it_is_small_again
            one_of_many_is_told_to_tell_how_many_there_are
            only_a_dead_lifes_entries_are_orphaned
            many_orphans_go_in_steps
            an_orphan_that_its_life_claims_again_stays
            lives_are_listed_until_they_are_forgotten
            two_that_expire_at_once_tell_of_each_leave_once
            nobody_leaves_unnoticed_among_many
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::presence::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn at_first_nobody_is_there(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let room = room("a");

    let page = store.page(&room, None, 10).await.expect("there");

    assert_eq!((page.entries, page.next, page.occupancy.count), (vec![], None, 0));
    assert_eq!(count(&store, &room).await, 0);
    assert_eq!(store.lives(None).await.expect("there"), []);
    assert_eq!(store.expire(store.part_of(&room), 10).await.expect("there"), Expired::default());
    assert!(store.part_of(&room) < store.parts());
}

pub async fn who_enters_joins_and_is_counted(factory: &impl PresenceFactory) {
    let store = factory.open().await;

    let first = apply(&store, &life("n"), &[enter(1, 1), enter(2, 1)]).await;
    let second = apply(&store, &life("m"), &[enter(3, 1)]).await;

    assert_eq!((first.fates, first.occupancy.count), (vec![Fate::Joined; 2], 2));
    assert_eq!((second.fates, second.occupancy.count), (vec![Fate::Joined], 3));
    let page = store.page(&room("a"), None, 10).await.expect("there");
    let mut found = page.entries;
    found.sort_by_key(|(_, entry)| entry.session);
    let expected = [("n", 1), ("n", 2), ("m", 3)].map(|(name, of)| (life(name), entry(of, None)));
    assert_eq!(found, expected);
    assert_eq!((page.next, page.occupancy), (None, second.occupancy));
}

pub async fn who_enters_again_is_kept_or_updated(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let says = |version, word| Move::Enter { entry: entry(1, word), age: age(1, version) };

    let mut fates = Vec::new();
    for (version, word) in [(1, None), (2, None), (3, Some("1")), (4, Some("1")), (5, Some("2"))] {
        fates.extend(apply(&store, &life("n"), &[says(version, word)]).await.fates);
    }

    assert_eq!(fates, [Fate::Joined, Fate::Kept, Fate::Updated, Fate::Kept, Fate::Updated]);
    assert_eq!(entries(&store, &room("a")).await, [entry(1, Some("2"))]);
}

pub async fn every_word_and_name_survives(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let words = ["null", "\"\\u0000 ü\"", " { \"a\" : 1.50e0 } ", "[]"];
    let users = ["a b", "größe 房间", "\"'%", "0"];
    let odd = TenantChannel::new(tenant("a-b_c"), channel("room:42/größe {x}"));
    let expected: Vec<_> = (0..4)
        .map(|index| Entry {
            session: SessionId::from_bytes([[0, 10, 13, 255][index]; 16]),
            user: UserId::parse(users[index]).expect("valid"),
            word: MemberWord::parse(words[index].into()).ok(),
        })
        .collect();

    let moves: Vec<_> =
        expected.iter().map(|entry| Move::Enter { entry: entry.clone(), age: age(1, 1) }).collect();
    store.apply(&odd, &life("N_-0"), &moves, TERMS).await.expect("there");
    let channels = store.channels_of(store.part_of(&odd), &life("N_-0")).await.expect("there");

    assert_eq!(entries(&store, &odd).await, expected);
    assert_eq!(channels, [odd]);
}

pub async fn a_resume_elsewhere_is_neither_a_leave_nor_a_join(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let first = apply(&store, &life("n"), &[enter(1, 1)]).await;

    let moved = apply(&store, &life("m"), &[enter(1, 2)]).await;
    let late = apply(&store, &life("n"), &[away(1, 1)]).await;

    assert_eq!((moved.fates, moved.occupancy), (vec![Fate::Kept], first.occupancy));
    assert_eq!((late.fates, late.occupancy), (vec![Fate::Stale], first.occupancy));
    let page = store.page(&room("a"), None, 10).await.expect("there");
    assert_eq!(page.entries, [(life("m"), entry(1, None))]);
}

pub async fn what_comes_late_changes_nothing(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let newest = Move::Enter { entry: entry(1, Some("2")), age: age(2, 7) };
    let before = apply(&store, &life("m"), &[newest]).await;

    let late = [
        Move::Enter { entry: entry(1, Some("1")), age: age(1, 9) },
        Move::Enter { entry: entry(1, Some("1")), age: age(2, 6) },
        Move::Away { session: session(1), age: age(2, 6) },
        Move::Leave { session: session(1), age: age(1, 9) },
    ];
    let after = apply(&store, &life("n"), &late).await;

    assert_eq!((after.fates, after.occupancy), (vec![Fate::Stale; 4], before.occupancy));
    assert_eq!(entries(&store, &room("a")).await, [entry(1, Some("2"))]);
}

pub async fn who_is_away_counts_until_the_time_is_up_and_leaves_once(
    factory: &impl PresenceFactory,
) {
    let store = factory.open().await;
    apply(&store, &life("n"), &[enter(1, 1), enter(2, 1)]).await;

    let away_long = apply(&store, &life("n"), &[away(1, 1)]).await;
    let early = expire(&store).await;
    let away_now = store.apply(&room("a"), &life("n"), &[away(2, 1)], AT_ONCE).await;
    let mut gone = Vec::new();
    until(async || {
        gone.extend(expire(&store).await);
        !gone.is_empty()
    })
    .await;

    assert_eq!((away_long.fates, away_long.occupancy.count), (vec![Fate::Away], 2));
    assert_eq!(early, []);
    let away_now = away_now.expect("there");
    let (occupancy, telling) = (gone[0].occupancy, Telling::Names);
    let sessions = vec![(session(2), entry(2, None).user)];
    assert_eq!(gone, [Departed { channel: room("a"), sessions, occupancy, telling }]);
    let offset = away_now.occupancy.position.offset + 1;
    assert_eq!((occupancy.count, occupancy.position.offset), (1, offset));
    assert_eq!(expire(&store).await, []);
    assert_eq!(entries(&store, &room("a")).await, [entry(1, None)]);
}

pub async fn who_comes_back_in_time_stays(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let moves = [enter(1, 1), enter(2, 1), away(1, 1), away(2, 1)];
    store.apply(&room("a"), &life("n"), &moves, AT_ONCE).await.expect("there");

    let back = apply(&store, &life("m"), &[enter(1, 2)]).await;
    let mut gone = Vec::new();
    until(async || {
        gone.extend(expire(&store).await);
        !gone.is_empty()
    })
    .await;

    assert_eq!((back.fates, back.occupancy.count), (vec![Fate::Kept], 2));
    assert_eq!(gone[0].sessions, [(session(2), entry(2, None).user)]);
    assert_eq!(expire(&store).await, []);
    assert_eq!(entries(&store, &room("a")).await, [entry(1, None)]);
}

pub async fn being_away_twice_does_not_prolong_it(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let away_at_once = [enter(1, 1), away(1, 1)];
    store.apply(&room("a"), &life("n"), &away_at_once, AT_ONCE).await.expect("there");

    let again = apply(&store, &life("n"), &[away(1, 1)]).await;

    assert_eq!(again.fates, [Fate::Away]);
    until(async || !expire(&store).await.is_empty()).await;
}

pub async fn who_leaves_is_gone_and_may_enter_again(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let at = |version| Move::Enter { entry: entry(1, None), age: age(1, version) };

    let moves = [at(1), leave(1, 1), leave(1, 1), at(2)];
    let applied = apply(&store, &life("n"), &moves).await;

    assert_eq!(applied.fates, [Fate::Joined, Fate::Left, Fate::Unknown, Fate::Joined]);
    assert_eq!(applied.occupancy.count, 1);
}

pub async fn who_is_away_can_leave(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let moves = [enter(1, 1), away(1, 1), leave(1, 1), away(1, 1), enter(2, 1)];

    let applied = store.apply(&room("a"), &life("n"), &moves, AT_ONCE).await;

    let expected = [Fate::Joined, Fate::Away, Fate::Left, Fate::Unknown, Fate::Joined];
    let applied = applied.expect("there");
    assert_eq!((&applied.fates[..], applied.occupancy.count), (&expected[..], 1));
    assert_eq!(expire(&store).await, []);
}

pub async fn a_new_owner_that_never_entered_can_say_that_its_session_is_away(
    factory: &impl PresenceFactory,
) {
    let store = factory.open().await;
    apply(&store, &life("n"), &[enter(1, 1)]).await;

    let away = store.apply(&room("a"), &life("m"), &[away(1, 2)], AT_ONCE).await;

    assert_eq!(away.expect("there").fates, [Fate::Away]);
    assert_eq!(apply(&store, &life("n"), &[enter(1, 1)]).await.fates, [Fate::Stale]);
    until(async || !expire(&store).await.is_empty()).await;
}

pub async fn two_channels_and_two_tenants_never_meet(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let others = [room("b"), TenantChannel::new(tenant("globex"), channel("a"))];
    apply(&store, &life("n"), &[enter(1, 1), enter(2, 1)]).await;

    for other in &others {
        let entered = store.apply(other, &life("n"), &[enter(1, 1), leave(2, 1)], TERMS).await;
        assert_eq!(entered.expect("there").fates, [Fate::Joined, Fate::Unknown], "{other}");
    }

    let all = [room("a"), others[0].clone(), others[1].clone()];
    let standings = store.occupancies(&all).await.expect("there");
    let counts: Vec<_> = standings.iter().map(|standing| standing.occupancy.count).collect();
    assert_eq!(counts, [2, 1, 1]);
}

pub async fn each_change_takes_one_position_and_nothing_else_does(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let first = apply(&store, &life("n"), &[enter(1, 1)]).await.occupancy.position;

    let mut steps = Vec::new();
    let mut last = first.offset;
    for one in [
        enter(2, 1),
        enter(2, 2),
        Move::Enter { entry: entry(2, Some("1")), age: age(3, 0) },
        enter(2, 1),
        away(2, 3),
        leave(2, 3),
        leave(2, 3),
    ] {
        let position = apply(&store, &life("n"), &[one]).await.occupancy.position;
        assert_eq!(position.epoch, first.epoch);
        steps.push(position.offset - last);
        last = position.offset;
    }

    assert_eq!(steps, [1, 0, 1, 0, 0, 1, 0]);
    let occupancy = store.occupancies(&[room("a")]).await.expect("there")[0].occupancy;
    assert_eq!((occupancy.position.offset, occupancy.position.epoch), (last, first.epoch));
}

pub async fn some_moves_are_one_step_in_their_order(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let moves: Vec<_> = (0..MOST_MOVES / 2)
        .flat_map(|of| {
            let of = u8::try_from(of).expect("64");
            [enter(of, 1), Move::Enter { entry: entry(of, Some("1")), age: age(1, 2) }]
        })
        .collect();

    let (life, rooms) = (life("n"), [room("a")]);
    let (one, other) = tokio::join!(apply(&store, &life, &moves), store.occupancies(&rooms));
    let other = other.expect("there")[0].occupancy;

    let expected = [Fate::Joined, Fate::Updated].repeat(MOST_MOVES / 2);
    assert_eq!((one.fates, one.occupancy.count), (expected, 64));
    assert!([0, 64].contains(&other.count), "{other:?}");
}

pub async fn moves_whose_answer_was_lost_may_be_repeated(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let moves = [enter(1, 1), enter(2, 1), leave(1, 1), away(2, 1)];
    let first = apply(&store, &life("n"), &moves[1..2]).await;

    let again = apply(&store, &life("n"), &moves[1..2]).await;

    assert_eq!((again.fates, again.occupancy), (vec![Fate::Kept], first.occupancy));
}

pub async fn pages_bring_everybody(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    fill(&store, 0..1_000).await;

    let (mut found, mut pages, mut from) = (Vec::new(), 0, None);
    loop {
        let page = store.page(&room("a"), from, 100).await.expect("there");
        assert!(page.entries.len() <= 612 && !page.is_anew, "{}", page.entries.len());
        assert_eq!(page.occupancy.count, 1_000);
        found.extend(page.entries.into_iter().map(|(_, entry)| entry.session));
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }

    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (0..1_000).map(numbered).collect::<Vec<_>>());
    assert!(pages >= 5, "{pages}");
}

pub async fn pages_go_on_while_members_come_and_go(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    fill(&store, 0..600).await;

    let (mut found, mut from) = (BTreeSet::new(), None);
    for turn in 0_u32.. {
        let page = store.page(&room("a"), from, 50).await.expect("there");
        found.extend(page.entries.into_iter().map(|(_, entry)| entry.session));
        from = page.next;
        if from.is_none() {
            break;
        }
        if turn < 10 {
            fill(&store, 1_000 + turn * 100..1_000 + (turn + 1) * 100).await;
        }
        let gone = Move::Leave { session: numbered(300 + turn), age: age(1, 1) };
        apply(&store, &life("n"), &[gone]).await;
    }

    let missing: Vec<_> = (0..300).filter(|number| !found.contains(&numbered(*number))).collect();
    assert_eq!(missing, [0; 0]);
}

pub async fn a_mark_of_another_life_of_the_store_begins_anew(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    apply(&store, &life("n"), &[enter(1, 1)]).await;
    let mark = PageMark { incarnation: Incarnation::ZERO, place: 5 };

    let page = store.page(&room("a"), Some(mark), 10).await.expect("there");

    assert_eq!((page.entries.len(), page.is_anew), (1, true));
}

pub async fn a_life_has_the_channels_where_its_members_are(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let (room, other) = (room("a"), room("b"));
    let (own, next) = (life("n"), Life { started_at_ms: 8, ..life("n") });
    store.apply(&other, &own, &[enter(9, 1)], TERMS).await.expect("there");
    // Each with who has entered there since, and whether it is one of either's channels then.
    let steps = [
        (&own, vec![enter(1, 1), enter(2, 1)], [true, false]),
        (&own, vec![enter(1, 1), enter(2, 1)], [true, false]),
        (&own, vec![leave(1, 1)], [true, false]),
        (&own, vec![away(2, 1)], [false, false]),
        (&own, vec![away(2, 1)], [false, false]),
        (&own, vec![enter(2, 1), enter(3, 1)], [true, false]),
        (&next, vec![enter(2, 2)], [true, true]),
        (&own, vec![away(2, 1), away(3, 1)], [false, true]),
        (&next, vec![enter(3, 2)], [false, true]),
        (&own, vec![away(3, 3)], [false, true]),
        (&next, vec![leave(2, 2), leave(3, 3)], [false, false]),
    ];

    for (number, (life, moves, expected)) in steps.into_iter().enumerate() {
        store.apply(&room, life, &moves, TERMS).await.expect("there");
        let mut found = [false; 2];
        for (found, life) in found.iter_mut().zip([&own, &next]) {
            let channels = store.channels_of(store.part_of(&room), life).await.expect("there");
            *found = channels.contains(&room);
        }
        assert_eq!(found, expected, "after step {number}");
    }
    let channels = store.channels_of(store.part_of(&other), &own).await.expect("there");
    assert_eq!(channels, [other]);
}

pub async fn subscribers_of_all_lives_are_added_up(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let room = room("a");
    let nobody = store.tally(&room, &life("n"), 0).await.expect("there");

    let mut seen = Vec::new();
    for (name, subscribers) in [("n", 3), ("m", 4), ("n", 3), ("n", 1), ("m", 0), ("m", 0)] {
        seen.push(store.tally(&room, &life(name), subscribers).await.expect("there").occupancy);
    }

    let counts: Vec<_> = seen.iter().map(|occupancy| occupancy.count).collect();
    let offsets = seen.iter().map(|one| one.position.offset - seen[0].position.offset);
    assert_eq!((nobody.occupancy.count, nobody.telling), (0, Telling::Names));
    assert_eq!(counts, [3, 7, 7, 5, 1, 1]);
    assert_eq!(offsets.collect::<Vec<_>>(), [0, 1, 1, 2, 3, 3]);
    let standings = store.occupancies(std::slice::from_ref(&room)).await.expect("there");
    assert_eq!(standings, [Standing { occupancy: seen[5], is_counted: true }]);
    let page = store.page(&room, None, 10).await.expect("there");
    assert_eq!((page.entries, page.next, page.occupancy.count), (vec![], None, 1));
    for (name, expected) in [("n", vec![room.clone()]), ("m", vec![])] {
        let channels = store.channels_of(store.part_of(&room), &life(name)).await;
        assert_eq!(channels.expect("there"), expected, "{name}");
    }
}

pub async fn a_dead_lifes_subscribers_are_forgotten(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let room = room("a");
    for (name, subscribers) in [("n", 3), ("m", 4)] {
        store.tally(&room, &life(name), subscribers).await.expect("there");
    }

    let first = store.orphan(&room, &life("n"), 0, LONG).await.expect("there");
    let second = store.orphan(&room, &life("m"), 0, LONG).await.expect("there");

    let counts = [&first, &second].map(|orphaned| orphaned.tally.occupancy.count);
    assert_eq!((counts, first.next, second.next), ([4, 0], None, None));
    assert_eq!(second.tally.telling, Telling::Count, "nobody is there any more");
    let channels = store.channels_of(store.part_of(&room), &life("n")).await;
    assert_eq!(channels.expect("there"), []);
}

pub async fn the_first_and_the_last_are_told_at_once_and_others_in_time(
    factory: &impl PresenceFactory,
) {
    let store = factory.open().await;

    let told = quickly(async |attempt| {
        let (room, mut told) = (numbered_room(attempt), Vec::new());
        for subscribers in [1, 2, 2, 0, 5, 6, 5, 9] {
            told.push(store.tally(&room, &life("n"), subscribers).await.expect("there").telling);
        }
        (room, told)
    });
    let (room, told) = told.await;
    until(async || {
        let asked = store.apply(&room, &life("m"), &[], COUNTED).await.expect("there");
        assert_eq!(asked.occupancy.count, 9);
        asked.telling == Telling::Count
    })
    .await;
    let after = store.apply(&room, &life("n"), &[], COUNTED).await.expect("there").telling;

    let at_once = [0, 3, 4].map(|step| told[step]);
    assert_eq!((at_once, told[6]), ([Telling::Count; 3], Telling::Nothing));
    for later in [1, 2, 5, 7].map(|step| told[step]) {
        let is_soon = matches!(later, Telling::CountLater(wait) if wait <= Duration::from_secs(1));
        assert!(is_soon, "{later:?}");
    }
    assert_eq!(after, Telling::Nothing, "once is enough");
}

pub async fn of_a_large_channel_only_the_number_is_told_until_it_is_small_again(
    factory: &impl PresenceFactory,
) {
    let (store, life) = (factory.open().await, life("n"));
    let terms = Terms { listed: 10, ..TERMS };
    let (enters, leaves): (Vec<_>, Vec<_>) = (0..12).map(|of| (enter(of, 1), leave(of, 1))).unzip();

    let (applied, standings) = quickly(async |attempt| {
        let (rooms, mut applied) = ([numbered_room(attempt)], Vec::new());
        let mut standings = Vec::new();
        for moves in [&enters[..10], &enters[10..], &leaves[..4], &leaves[4..5], &enters[4..5], &[]]
        {
            applied.push(store.apply(&rooms[0], &life, moves, terms).await.expect("there"));
            standings.extend(store.occupancies(&rooms).await.expect("there"));
        }
        (applied, standings)
    })
    .await;

    let told = [0, 1, 3, 4, 5].map(|step: usize| applied[step].telling);
    let names = Telling::Names;
    assert_eq!(told, [names, Telling::Count, Telling::NamesAgain, names, names]);
    assert!(matches!(applied[2].telling, Telling::CountLater(_)), "{:?}", applied[2]);
    let counted: Vec<_> = standings.iter().map(|standing| standing.is_counted).collect();
    assert_eq!(counted, [false, true, true, false, false, false]);
    let counts = standings.iter().map(|standing| standing.occupancy.count);
    assert_eq!(counts.collect::<Vec<_>>(), [10, 12, 8, 7, 8, 8]);
}

/// However many come and go at once, at whatever nodes, one of them is to say so each second.
pub async fn one_of_many_is_told_to_tell_how_many_there_are(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let lives = ["1", "2", "3", "4"].map(life);
    let [one, two, three, four] = &lives;

    let (room, told) = quickly(async |attempt| {
        let room = numbered_room(attempt);
        store.tally(&room, &life("n"), 1).await.expect("there");
        let tally = async |life| store.tally(&room, life, 2).await.expect("there").telling;
        let told = tokio::join!(tally(one), tally(two), tally(three), tally(four));
        (room, told)
    })
    .await;
    let ask = async |life| store.apply(&room, life, &[], COUNTED).await.expect("there").telling;
    let mut asked = Vec::new();
    until(async || {
        let all = tokio::join!(ask(one), ask(two), ask(three), ask(four));
        asked = [all.0, all.1, all.2, all.3].into();
        asked.contains(&Telling::Count)
    })
    .await;

    let is_later = |telling: &Telling| matches!(telling, Telling::CountLater(_));
    assert!([told.0, told.1, told.2, told.3].iter().all(is_later), "{told:?}");
    let told_now = asked.iter().filter(|telling| **telling == Telling::Count);
    assert_eq!(told_now.count(), 1, "{asked:?}");
    assert_eq!(count(&store, &room).await, 9);
}

/// Takes steps that have to be over in a second; again, where this machine is too slow for that.
async fn quickly<T>(steps: impl AsyncFn(u32) -> T) -> T {
    for attempt in 0..100 {
        let began = tokio::time::Instant::now();
        let found = steps(attempt).await;
        if began.elapsed() < Duration::from_millis(900) {
            return found;
        }
    }
    unreachable!("a few calls take a second");
}

fn numbered_room(number: u32) -> TenantChannel {
    room(&format!("quick/{number}"))
}

pub async fn only_a_dead_lifes_entries_are_orphaned(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let (dead, again) = (life("n"), Life { started_at_ms: 8, ..life("n") });
    apply(&store, &dead, &[enter(1, 1), enter(2, 1), enter(3, 1), enter(4, 1)]).await;
    apply(&store, &again, &[enter(2, 2)]).await;
    apply(&store, &life("m"), &[enter(5, 1)]).await;
    apply(&store, &dead, &[away(3, 1), leave(4, 1)]).await;
    let part = store.part_of(&room("a"));

    assert_eq!(store.channels_of(part, &dead).await.expect("there"), [room("a")]);
    let orphaned = store.orphan(&room("a"), &dead, 0, Duration::ZERO).await.expect("there");

    assert_eq!((orphaned.marked, orphaned.next), (1, None));
    assert_eq!(store.channels_of(part, &dead).await.expect("there"), []);
    assert_eq!(store.channels_of(part, &again).await.expect("there"), [room("a")]);
    let mut gone = Vec::new();
    until(async || {
        gone.extend(expire(&store).await);
        !gone.is_empty()
    })
    .await;
    assert_eq!(gone[0].sessions, [(session(1), entry(1, None).user)]);
    assert_eq!(count(&store, &room("a")).await, 3);
}

pub async fn many_orphans_go_in_steps(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    fill(&store, 0..1_500).await;

    let (mut marked, mut steps, mut from) = (0, 0, 0);
    loop {
        let step = store.orphan(&room("a"), &life("n"), from, Duration::ZERO).await.expect("there");
        marked += step.marked;
        steps += 1;
        match step.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let mut left = 0;
    until(async || {
        let expired = store.expire(store.part_of(&room("a")), 100).await.expect("there");
        left += expired.channels.iter().map(|departed| departed.sessions.len()).sum::<usize>();
        left == 1_500 && !expired.has_more
    })
    .await;

    assert_eq!(marked, 1_500);
    assert!(steps >= 2, "{steps}");
    assert_eq!(count(&store, &room("a")).await, 0);
}

pub async fn an_orphan_that_its_life_claims_again_stays(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    apply(&store, &life("n"), &[enter(1, 1), enter(2, 1)]).await;
    store.orphan(&room("a"), &life("n"), 0, Duration::ZERO).await.expect("there");

    let claimed = apply(&store, &life("n"), &[enter(1, 1)]).await;

    assert_eq!(claimed.fates, [Fate::Kept]);
    until(async || !expire(&store).await.is_empty()).await;
    assert_eq!(entries(&store, &room("a")).await, [entry(1, None)]);
    let part = store.part_of(&room("a"));
    assert_eq!(store.channels_of(part, &life("n")).await.expect("there"), [room("a")]);
}

pub async fn lives_are_listed_until_they_are_forgotten(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let [one, other] = [life("n"), Life { started_at_ms: 8, ..life("n") }];

    store.lives(Some(&one)).await.expect("there");
    let mut both = store.lives(Some(&other)).await.expect("there");
    store.forget(&one).await.expect("there");

    both.sort();
    assert_eq!(both, [one, other.clone()]);
    assert_eq!(store.lives(None).await.expect("there"), [other]);
}

pub async fn two_that_expire_at_once_tell_of_each_leave_once(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let moves: Vec<_> = (0..50).flat_map(|of| [enter(of, 1), away(of, 1)]).collect();
    store.apply(&room("a"), &life("n"), &moves, AT_ONCE).await.expect("there");

    let part = store.part_of(&room("a"));
    let mut gone = Vec::new();
    until(async || {
        let (one, other) = tokio::join!(store.expire(part, 7), store.expire(part, 7));
        for expired in [one, other] {
            let channels = expired.expect("there").channels;
            gone.extend(channels.into_iter().flat_map(|departed| departed.sessions));
        }
        gone.len() >= 50
    })
    .await;

    gone.sort();
    gone.dedup();
    assert_eq!(gone.len(), 50);
    assert_eq!(expire(&store).await, []);
}

pub async fn nobody_leaves_unnoticed_among_many(factory: &impl PresenceFactory) {
    let store = factory.open().await;
    let first = apply(&store, &life("n"), &[enter(255, 1)]).await.occupancy.position.offset;

    let (one, two, three, four) = tokio::join!(
        come_and_go(&store, 0),
        come_and_go(&store, 1),
        come_and_go(&store, 2),
        come_and_go(&store, 3)
    );

    let mut seen = [one, two, three, four].concat();
    seen.sort_unstable();
    assert_eq!(seen, (first + 1..=first + 80).collect::<Vec<_>>());
    assert_eq!(count(&store, &room("a")).await, 1);
}

/// Enters and leaves ten times. Yields where each change stands.
async fn come_and_go(store: &impl Presence, of: u8) -> Vec<u64> {
    let mut seen = Vec::new();
    for generation in 1..=10 {
        for one in [enter(of, generation), leave(of, generation)] {
            seen.push(apply(store, &life("n"), &[one]).await.occupancy.position.offset);
        }
    }
    seen
}

async fn fill(store: &impl Presence, numbers: std::ops::Range<u32>) {
    let moves: Vec<_> = numbers
        .map(|number| {
            let entry = Entry { session: numbered(number), ..entry(1, None) };
            Move::Enter { entry, age: age(1, 1) }
        })
        .collect();
    for some in moves.chunks(MOST_MOVES) {
        apply(store, &life("n"), some).await;
    }
}

const TERMS: Terms = Terms { debounce: LONG, listed: 100_000 };
const AT_ONCE: Terms = Terms { debounce: Duration::ZERO, ..TERMS };
/// Of a channel that nobody enters.
const COUNTED: Terms = Terms { listed: 0, ..TERMS };

async fn apply(store: &impl Presence, life: &Life, moves: &[Move]) -> Applied {
    store.apply(&room("a"), life, moves, TERMS).await.expect("the store is there")
}

async fn expire(store: &impl Presence) -> Vec<Departed> {
    let expired = store.expire(store.part_of(&room("a")), 1_000).await.expect("the store is there");
    assert!(!expired.has_more);
    expired.channels
}

async fn entries(store: &impl Presence, channel: &TenantChannel) -> Vec<Entry> {
    let page = store.page(channel, None, 100).await.expect("the store is there");
    let mut entries: Vec<_> = page.entries.into_iter().map(|(_, entry)| entry).collect();
    entries.sort_by_key(|entry| entry.session);
    entries
}

async fn count(store: &impl Presence, channel: &TenantChannel) -> u64 {
    let all = store.occupancies(std::slice::from_ref(channel)).await.expect("the store is there");
    all[0].occupancy.count
}

fn enter(of: u8, generation: u64) -> Move {
    Move::Enter { entry: entry(of, None), age: age(generation, 1) }
}

fn away(of: u8, generation: u64) -> Move {
    Move::Away { session: session(of), age: age(generation, 1) }
}

fn leave(of: u8, generation: u64) -> Move {
    Move::Leave { session: session(of), age: age(generation, 1) }
}

fn entry(of: u8, word: Option<&'static str>) -> Entry {
    Entry {
        session: session(of),
        user: UserId::parse(&format!("user {of}")).expect("valid"),
        word: word.map(|text| MemberWord::parse(text.into()).expect("JSON")),
    }
}

fn age(generation: u64, version: u32) -> Age {
    Age { generation: Generation(generation), version }
}

fn session(of: u8) -> SessionId {
    SessionId::from_bytes([of; 16])
}

/// Told apart by its first bytes, as those drawn at random are.
fn numbered(number: u32) -> SessionId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    SessionId::from_bytes(bytes)
}

fn life(name: &str) -> Life {
    Life { node: NodeId::parse(name).expect("valid"), started_at_ms: 7 }
}

fn room(name: &str) -> TenantChannel {
    TenantChannel::new(tenant("acme"), channel(name))
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("valid")
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("valid")
}
