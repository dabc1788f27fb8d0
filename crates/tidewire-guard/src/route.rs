//! A worker's routing table: who is on a channel's list.

use std::hint::black_box;
use std::ops::Range;

use tidewire_hub::{Hub, Subscriber};
use tidewire_model::{ConnectionId, JoinId, TenantChannel, Tenure};

use crate::samples;

/// Channels that are there already, each with one subscriber.
const CHANNELS: u32 = 2_000;
/// Channels that somebody comes to whom nobody else has.
const NEWCOMERS: u32 = 1_000;
const CROWD: u32 = 1_000;
const TENURE: Tenure = Tenure(1);

pub(crate) fn look_up(times: u32) {
    let channels = channels(0..CHANNELS);
    let hub = hub(&channels);
    for channel in channels.iter().cycle().take(times as usize) {
        let subscribers = hub.subscribers(black_box(channel));
        assert_eq!(black_box(subscribers).map(|list| list.len()), Some(1));
    }
}

/// Somebody comes to a channel that nobody has, is found there, and goes.
pub(crate) fn come_and_go(times: u32) {
    let mut hub = hub(&channels(0..CHANNELS));
    let newcomers = channels(CHANNELS..CHANNELS + NEWCOMERS);
    for (channel, number) in newcomers.iter().cycle().zip(0..times) {
        let Subscriber { connection, join } = subscriber(number);
        hub.add(black_box(channel), TENURE, subscriber(number));
        black_box(hub.subscribers(channel));
        assert_eq!(hub.remove(channel, connection, join), Some(TENURE));
    }
}

/// Somebody comes to the list of a crowd, and the one who came first of all goes.
pub(crate) fn change_crowd(times: u32) {
    let mut hub = Hub::default();
    let channel = samples::channel();
    for number in 0..CROWD {
        hub.add(&channel, TENURE, subscriber(number));
    }
    for number in CROWD..CROWD + times {
        let Subscriber { connection, join } = subscriber(number - CROWD);
        hub.add(black_box(&channel), TENURE, subscriber(number));
        assert_eq!(hub.remove(&channel, connection, join), Some(TENURE));
    }
}

fn channels(numbers: Range<u32>) -> Vec<TenantChannel> {
    numbers.map(samples::numbered_channel).collect()
}

fn hub(channels: &[TenantChannel]) -> Hub {
    let mut hub = Hub::default();
    for (channel, number) in channels.iter().zip(0..) {
        hub.add(channel, TENURE, subscriber(number));
    }
    hub
}

fn subscriber(number: u32) -> Subscriber {
    Subscriber { connection: ConnectionId(u64::from(number)), join: JoinId(1) }
}
