//! Channels whose class becomes another while they are followed.

use std::time::Duration;

use tidewire_model::{
    ChannelRule, ChannelRules, Delivery, DeliveryClass, Filter, Gap, GapReason, LiveRules,
    Position, Since,
};

use crate::fleet::{self, Fleet, Subscriber, channel, draft, publish};

#[tokio::test(start_paused = true)]
async fn who_listens_to_a_recoverable_channel_that_becomes_ephemeral_is_told_and_hears_on() {
    let (fleet, [rules]) = fleet::<2, 1>([DeliveryClass::Recoverable]);
    let Fleet { nodes: [a, b], log, .. } = &fleet;
    let mut here = Subscriber::live(a, "ticker/1").await;
    let mut there = Subscriber::live(b, "ticker/1").await;
    publish(a, "ticker/1", draft("kept")).await;
    here.hear(1).await;
    there.hear(1).await;

    rules.replace(of(DeliveryClass::Ephemeral));
    let gaps = [gap(&mut here).await, gap(&mut there).await];
    log.switch(false);
    let position = publish(a, "ticker/1", draft("fleeting")).await;
    here.hear(1).await;
    there.hear(1).await;

    assert_eq!(gaps.map(|gap| (gap.reason, gap.position.offset)), [(GapReason::Reset, 0); 2]);
    assert_eq!(position, Position::NONE);
    assert_eq!(here.payloads(), ["kept", "fleeting"]);
    assert_eq!(there.payloads(), ["kept", "fleeting"]);
}

#[tokio::test(start_paused = true)]
async fn who_listens_to_an_ephemeral_channel_that_becomes_recoverable_is_told_and_misses_nothing() {
    let (fleet, [rules]) = fleet::<2, 1>([DeliveryClass::Ephemeral]);
    let Fleet { nodes: [a, b], network, .. } = &fleet;
    let mut here = Subscriber::live(a, "ticker/1").await;
    let mut there = Subscriber::live(b, "ticker/1").await;

    rules.replace(of(DeliveryClass::Durable));
    let gaps = [gap(&mut here).await, gap(&mut there).await];
    network.lose_next(1);
    publish(a, "ticker/1", draft("lost on its way")).await;
    here.hear(1).await;
    there.hear(1).await;

    assert_eq!(gaps.map(|gap| (gap.reason, gap.position.offset)), [(GapReason::Reset, 0); 2]);
    assert_eq!(here.payloads(), ["lost on its way"]);
    assert_eq!(there.payloads(), ["lost on its way"]);
}

#[tokio::test(start_paused = true)]
async fn while_nodes_disagree_about_a_class_nobody_is_left_in_silence() {
    for (before, after) in BOTH_WAYS {
        let (fleet, [early, late]) = fleet::<2, 2>([before, before]);
        let Fleet { nodes: [a, b], .. } = &fleet;
        let mut here = Subscriber::live(a, "ticker/1").await;
        let mut there = Subscriber::live(b, "ticker/1").await;

        early.replace(of(after));
        gap(&mut here).await;
        publish(a, "ticker/1", draft("of an early one")).await;
        publish(b, "ticker/1", draft("of a late one")).await;
        until_heard_or_told(&mut here, "of a late one").await;
        until_heard_or_told(&mut there, "of an early one").await;
        late.replace(of(after));
        tokio::time::sleep(A_WHILE).await;
        publish(a, "ticker/1", draft("at last")).await;

        until_heard(&mut here, "at last").await;
        until_heard(&mut there, "at last").await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_log_is_let_in_once_none_is_needed() {
    let (fleet, [rules]) = fleet::<1, 1>([DeliveryClass::Recoverable]);
    let Fleet { nodes: [a], log, .. } = &fleet;
    log.switch(false);

    let (answer, ()) = tokio::join!(Subscriber::join(a, "ticker/1", Since::Now), async {
        tokio::time::sleep(A_WHILE).await;
        rules.replace(of(DeliveryClass::Ephemeral));
    });
    let (mut newcomer, outcome) = answer;
    publish(a, "ticker/1", draft("fleeting")).await;
    newcomer.hear(1).await;

    assert!(outcome.expect("joined").live);
    assert_eq!(newcomer.payloads(), ["fleeting"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_to_the_log_meanwhile_is_acknowledged_and_delivered() {
    let (fleet, [rules]) = fleet::<2, 1>([DeliveryClass::Recoverable]);
    let Fleet { nodes: [a, b], log, .. } = &fleet;
    let mut here = Subscriber::live(a, "ticker/1").await;
    let mut there = Subscriber::live(b, "ticker/1").await;
    log.hold(true);
    let publishing = a.publish(channel("ticker/1"), draft("on its way")).await;
    while log.waiting() == 0 {
        tokio::task::yield_now().await;
    }

    rules.replace(of(DeliveryClass::Ephemeral));
    gap(&mut here).await;
    gap(&mut there).await;
    log.hold(false);
    let appended = publishing.finish().await.expect("kept");
    here.hear(1).await;
    there.hear(1).await;

    assert_eq!(appended.position.offset, 1);
    assert_eq!(here.payloads(), ["on its way"]);
    assert_eq!(there.payloads(), ["on its way"]);
}

#[tokio::test(start_paused = true)]
async fn of_many_channels_each_goes_on() {
    let (fleet, [rules]) = fleet::<1, 1>([DeliveryClass::Recoverable]);
    let Fleet { nodes: [a], .. } = &fleet;
    let names: Vec<_> = (0..600).map(|number| format!("ticker/{number}")).collect();
    let mut subscribers = Vec::new();
    for name in &names {
        subscribers.push(Subscriber::live(a, name).await);
    }

    rules.replace(of(DeliveryClass::Ephemeral));

    for subscriber in &mut subscribers {
        assert_eq!(gap(subscriber).await.reason, GapReason::Reset);
    }
}

/// In which nodes look at their rules.
const A_WHILE: Duration = Duration::from_secs(2);

const BOTH_WAYS: [(DeliveryClass, DeliveryClass); 2] = [
    (DeliveryClass::Recoverable, DeliveryClass::Ephemeral),
    (DeliveryClass::Ephemeral, DeliveryClass::Recoverable),
];

/// Nodes to which `ticker/*` is of a class that can be changed: by all of them at once, or by each.
fn fleet<const N: usize, const M: usize>(
    classes: [DeliveryClass; M],
) -> (Fleet<N>, [LiveRules; M]) {
    let rules = classes.map(|class| LiveRules::new(of(class)));
    (Fleet::with_live_rules(|index| rules[index % M].clone()), rules)
}

fn of(class: DeliveryClass) -> ChannelRules {
    let filter = Filter::parse("ticker/*").expect("filter");
    fleet::rules(vec![ChannelRule { class, ..ChannelRule::new(filter) }])
}

/// Waits for what comes next, which is to be a gap.
async fn gap(subscriber: &mut Subscriber) -> Gap {
    match subscriber.hear(1).await {
        [Delivery::Gap { gap, .. }] => *gap,
        other => unreachable!("a gap, not {other:?}"),
    }
}

async fn until_heard(subscriber: &mut Subscriber, text: &str) {
    while !subscriber.payloads().iter().any(|payload| payload == text) {
        subscriber.hear(1).await;
    }
}

/// Waits until a publication has come, or word that something has not.
async fn until_heard_or_told(subscriber: &mut Subscriber, text: &str) {
    loop {
        match subscriber.hear(1).await {
            [Delivery::Gap { .. }] => return,
            [Delivery::Publication(envelope)] if envelope.payload.bytes() == text => return,
            _ => {}
        }
    }
}
