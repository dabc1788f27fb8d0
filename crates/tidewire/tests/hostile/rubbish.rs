//! Bytes that nobody meant, from a seed.

use futures_util::future::join_all;
use tidewire_testkit::services::free_port;

use crate::raw::{Raw, TEXT, frame};
use crate::victim::Victim;

/// `SplitMix64` (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[tokio::test]
async fn random_bytes_and_damaged_frames_end_their_own_connection_at_most() {
    let victim = Victim::with("connect_timeout = \"1s\"\n").await;
    let token = victim.token("rubbish");
    let good = [
        format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#),
        r#"{"id":2,"subscribe":{"channel":"room:42","last":3}}"#.into(),
        r#"{"id":3,"publish":{"channel":"room:42","id":"c1-1","data":{"text":"hello"}}}"#.into(),
        r#"{"id":4,"history":{"channel":"room:42","limit":5}}"#.into(),
    ];
    // Any number will do: what counts is that a failure names it.
    let seed = u64::from(free_port());
    println!("seed {seed}");

    victim
        .withstands(16 << 20, async {
            let mut random = Random(seed);
            for _ in 0..60 {
                let wave: Vec<_> = (0..10).map(|_| attack_of(&mut random, &good)).collect();
                join_all(wave.into_iter().map(|attack| send(&victim, attack))).await;
            }
        })
        .await;

    assert!(!victim.log().contains(&token), "a token is in the log (seed {seed})");
}

async fn send(victim: &Victim, (is_upgraded, bytes): (bool, Vec<u8>)) {
    let mut raw = if is_upgraded { Raw::upgraded(victim).await } else { Raw::open(victim).await };
    // It may hang up in the middle.
    drop(raw.send(&bytes).await);
}

/// Whether to upgrade first, and what to send then.
fn attack_of(random: &mut Random, good: &[String]) -> (bool, Vec<u8>) {
    let count = random.below(2_000);
    match random.below(3) {
        0 => (false, random.bytes(count)),
        1 => (true, random.bytes(count)),
        _ => {
            let mut bytes: Vec<u8> =
                good.iter().flat_map(|text| frame(TEXT, text.as_bytes())).collect();
            for _ in 0..=random.below(4) {
                let place = random.below(bytes.len());
                bytes[place] ^= random.next().to_le_bytes()[0];
            }
            (true, bytes)
        }
    }
}
