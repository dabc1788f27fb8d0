//! A keeper with a clock of its own and a publisher that says what a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tidewire_auth::{Issuer, IssuerName, KeyRing, TenantKeys};
use tidewire_model::{ChannelRules, Permissions};
use tidewire_tenant::{Change, Definition, TenantDetails};
use tokio::time::{advance, sleep};
use tokio_util::task::TaskTracker;

use super::*;

const PACE: JwksPace = JwksPace { fresh: FRESH, retry: Duration::from_secs(30), apart: APART };
const FRESH: Duration = Duration::from_mins(10);
const APART: Duration = Duration::from_secs(30);
/// From RFC 7515 appendix A.3: a key of P-256, as `first`.
const SET: &str = r#"{"keys":[{"kid":"first","kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

struct Bench {
    tenants: Tenants,
    jwks: Arc<Jwks>,
    publisher: Arc<Publisher>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Publisher {
    answer: Mutex<Option<&'static str>>,
    asked: AtomicUsize,
    takes: Mutex<Duration>,
    /// Whether the one of this URL keeps whoever asks waiting for so long, and then says nothing.
    hangs: Mutex<Option<(&'static str, Duration)>>,
    /// What was said of each issuer when it was asked.
    standings: Mutex<Vec<Standing>>,
}

impl Publisher {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Bench {
    /// Tenants `t0`, `t1` and so on, each with an issuer.
    fn start(count: usize, answer: Option<&'static str>) -> Self {
        let tenants = Tenants::new(KeyRing::default(), ChannelRules::default(), []);
        let bench = Self {
            tenants,
            jwks: Arc::default(),
            publisher: Arc::default(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        *bench.publisher.answer.lock() = answer;
        (0..count).for_each(|index| bench.set(index, "https://idp.example/keys"));
        let publisher = Arc::clone(&bench.publisher);
        let fetch: Fetch = Box::new(move |url, standing| {
            publisher.asked.fetch_add(1, Ordering::Relaxed);
            publisher.standings.lock().push(standing);
            let mut answer = publisher.answer.lock().ok_or_else(|| "it is down".to_owned());
            let mut takes = *publisher.takes.lock();
            if let Some((_, hangs_for)) = publisher.hangs.lock().filter(|hangs| hangs.0 == url) {
                (answer, takes) = (Err("it hangs".to_owned()), hangs_for);
            }
            async move {
                sleep(takes).await;
                answer.map(Bytes::from)
            }
            .boxed()
        });
        let keeper =
            Keeper::new(&bench.jwks, bench.tenants.clone(), (fetch, PACE)).expect("the first");
        bench.tracker.spawn(keeper.run(bench.stop.clone()));
        bench
    }

    fn set(&self, index: usize, url: &str) {
        let issuer = IssuerName::parse(&format!("issuer-{index}")).expect("a name");
        let source = KeySource { issuer: issuer.clone(), url: url.into() };
        let keys = TenantKeys {
            tenant: tenant(index),
            keys: Vec::new(),
            api_keys: Vec::new(),
            issuer: Some(Issuer {
                name: issuer,
                audience: None,
                permissions: Permissions::default(),
            }),
        };
        let details = TenantDetails { key_source: Some(source), ..TenantDetails::default() };
        let definition = Definition { keys, rules: Vec::new(), details };
        self.tenants.apply([Change::Set(Box::new(definition))]);
    }

    /// Published keys, of all issuers.
    fn keys(&self) -> usize {
        self.tenants.ring().load().published_keys()
    }

    fn say(&self, answer: Option<&'static str>) {
        *self.publisher.answer.lock() = answer;
    }

    /// Lets time pass in steps that the keeper notices.
    async fn pass(&self, period: Duration) {
        let until = Instant::now() + period;
        while Instant::now() < until {
            advance(LOOK_EVERY.min(until - Instant::now())).await;
            settle().await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn tenant(index: usize) -> Tenant {
    Tenant::parse(&format!("t{index}")).expect("a tenant")
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_new_issuer_are_there_before_anybody_asks() {
    let bench = Bench::start(1, Some(SET));
    settle().await;
    assert_eq!((bench.keys(), bench.publisher.asked()), (1, 1));

    bench.set(1, "https://other.example/keys");
    bench.pass(LOOK_EVERY).await;

    assert_eq!((bench.keys(), bench.publisher.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_after_ten_minutes_give_or_take_one() {
    let bench = Bench::start(1, Some(SET));

    bench.pass(FRESH.mul_f64(0.89)).await;
    assert_eq!(bench.publisher.asked(), 1);
    bench.pass(FRESH.mul_f64(0.22)).await;
    assert_eq!(bench.publisher.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_fetched_again_are_used_for_a_day() {
    let bench = Bench::start(1, Some(SET));
    settle().await;

    bench.say(None);
    bench.pass(Duration::from_mins(24 * 60 - 1)).await;
    assert_eq!(bench.keys(), 1);
    bench.pass(FRESH.mul_f64(1.4)).await;
    assert_eq!(bench.keys(), 0);
    bench.say(Some(SET));
    bench.pass(FRESH.mul_f64(1.2)).await;
    assert_eq!(bench.keys(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_failed_is_repeated_after_longer_and_longer() {
    let bench = Bench::start(1, None);

    bench.pass(Duration::from_mins(4)).await;
    // At 0, 30 s, 90 s and 210 s, each give or take a tenth.
    assert_eq!(bench.publisher.asked(), 4);
    bench.pass(Duration::from_hours(1)).await;
    let asked = bench.publisher.asked();
    assert!((9..=11).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_set_of_keys_or_has_none_leaves_those_before() {
    let bench = Bench::start(1, Some(SET));
    settle().await;

    for odd in ["{", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","kid":"k","k":"AA"}]}"#] {
        bench.say(Some(odd));
        bench.pass(FRESH.mul_f64(1.2)).await;
        assert_eq!(bench.keys(), 1, "{odd}");
    }
    assert!(bench.publisher.asked() > 4);
}

#[tokio::test(start_paused = true)]
async fn five_hundred_who_wait_for_one_issuer_cause_one_fetch() {
    let bench = Bench::start(1, Some(SET));
    settle().await;
    bench.pass(APART).await;
    *bench.publisher.takes.lock() = Duration::from_secs(1);

    let asking = (0..64).map(|_| bench.jwks.ask(tenant(0)));
    let mut told = futures_util::future::join_all(asking).await;
    let more = (0..436).map(|_| bench.jwks.ask(tenant(0)));
    told.extend(futures_util::future::join_all(more).await);

    assert_eq!(bench.publisher.asked(), 2);
    assert_eq!(told.iter().filter(|is_fetched| **is_fetched).count(), 64);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_unknown_keys_cause_a_fetch_in_half_a_minute() {
    let bench = Bench::start(1, Some(SET));
    settle().await;

    for _ in 0..10_000 {
        bench.jwks.ask(tenant(0)).await;
    }
    assert_eq!(bench.publisher.asked(), 1, "the first was a moment ago");
    bench.pass(APART).await;
    for _ in 0..10_000 {
        bench.jwks.ask(tenant(0)).await;
    }

    assert_eq!(bench.publisher.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_an_issuer_that_does_not_answer_is_sent_away_after_three_seconds() {
    let bench = Bench::start(1, Some(SET));
    settle().await;
    bench.pass(APART).await;
    *bench.publisher.takes.lock() = Duration::from_mins(1);
    let started = Instant::now();

    let is_fetched = bench.jwks.ask(tenant(0)).await;

    assert!(!is_fetched);
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    assert!(!bench.jwks.ask(Tenant::parse("nobody").expect("a tenant")).await);
}

/// Row 39.
#[tokio::test(start_paused = true)]
async fn however_many_issuers_hang_the_keys_of_one_that_answers_are_fetched_at_once() {
    let bench = Bench::start(1, Some(SET));
    settle().await;
    *bench.publisher.hangs.lock() = Some(("https://hangs.example/keys", Duration::from_secs(5)));
    (1..200).for_each(|index| bench.set(index, "https://hangs.example/keys"));

    // While they are new, and when each of them has failed.
    for _ in 0..4 {
        bench.pass(APART).await;
        let started = Instant::now();
        assert!(bench.jwks.ask(tenant(0)).await);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
    assert!(bench.publisher.asked() > 200, "{}", bench.publisher.asked());
}

/// Row 39.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_issuer_that_has_just_not_answered() {
    let bench = Bench::start(1, None);
    settle().await;
    *bench.publisher.takes.lock() = Duration::from_mins(1);
    bench.pass(APART).await;
    let (asked, started) = (bench.publisher.asked(), Instant::now());

    assert!(!bench.jwks.ask(tenant(0)).await);

    assert_eq!(started.elapsed(), Duration::ZERO);
    settle().await;
    assert!(bench.publisher.asked() >= asked, "it may be asked all the same");
}

/// Row 39.
#[tokio::test(start_paused = true)]
async fn a_fetch_is_told_whether_its_issuer_has_answered_last_time() {
    let bench = Bench::start(1, Some(SET));
    bench.pass(FRESH.mul_f64(1.2)).await;
    bench.say(None);
    bench.pass(FRESH.mul_f64(1.2)).await;

    let standings = bench.publisher.standings.lock().clone();
    assert_eq!(standings[..3], [Standing::New, Standing::Sound, Standing::Sound]);
    assert!(standings.len() > 3, "{standings:?}");
    assert!(standings[3..].iter().all(|standing| *standing == Standing::Failing));
}

#[tokio::test(start_paused = true)]
async fn so_many_are_fetched_at_once_and_all_in_the_end() {
    let bench = Bench::start(40, Some(SET));
    *bench.publisher.takes.lock() = Duration::from_secs(2);

    settle().await;
    assert_eq!(bench.publisher.asked(), queue::MOST_UNPROVEN);
    bench.pass(Duration::from_secs(10)).await;

    assert_eq!(bench.publisher.asked(), 40);
    assert_eq!(bench.keys(), 40);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_where_the_keys_were_before_is_not_taken() {
    let bench = Bench::start(1, Some(SET));
    settle().await;
    bench.pass(FRESH.mul_f64(0.85)).await;
    *bench.publisher.takes.lock() = Duration::from_secs(200);
    bench.pass(FRESH.mul_f64(0.3)).await;
    assert_eq!(bench.publisher.asked(), 2, "under way");

    bench.say(None);
    *bench.publisher.takes.lock() = Duration::ZERO;
    bench.set(0, "https://moved.example/keys");
    bench.pass(Duration::from_mins(5)).await;

    assert!(bench.publisher.asked() > 2);
    assert_eq!(bench.keys(), 0);
}
