//! What every [`TicketStore`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{LONG, until};
use crate::{TicketName, TicketStore};

/// Makes the stores of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait TicketStoreFactory {
    type Store: TicketStore + 'static;

    /// Two ways to one store, as two nodes have them.
    async fn open(&self) -> [Arc<Self::Store>; 2];
}

/// Makes a `#[tokio::test]` of every behaviour of a store of tickets. `$factory` is an expression of a
/// [`TicketStoreFactory`](crate::conformance::TicketStoreFactory), evaluated for each test, and may
/// await.
#[macro_export]
macro_rules! ticket_store_conformance {
    ($factory:expr) => {
        $crate::ticket_store_conformance! { $factory =>
            a_ticket_that_was_never_put_is_not_there
            what_is_put_on_one_node_is_taken_once_on_another
            of_many_who_take_one_at_once_one_has_it
            tickets_are_apart
            a_name_is_used_once
            every_record_survives
            a_ticket_is_gone_when_its_time_is_over
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::ticket_store::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn a_ticket_that_was_never_put_is_not_there(factory: &impl TicketStoreFactory) {
    let [store, _] = factory.open().await;

    assert_eq!(store.take(&name(1)).await.expect("taken"), None);
}

pub async fn what_is_put_on_one_node_is_taken_once_on_another(factory: &impl TicketStoreFactory) {
    let [here, there] = factory.open().await;
    here.put(&name(1), b"ada", LONG).await.expect("put");

    assert_eq!(there.take(&name(1)).await.expect("taken").as_deref(), Some(&b"ada"[..]));
    assert_eq!(there.take(&name(1)).await.expect("taken"), None);
    assert_eq!(here.take(&name(1)).await.expect("taken"), None);
}

pub async fn of_many_who_take_one_at_once_one_has_it(factory: &impl TicketStoreFactory) {
    let stores = factory.open().await;
    for round in 0..20 {
        let (name, [here, there]) = (name(round), &stores);
        here.put(&name, b"ada", LONG).await.expect("put");

        let taken =
            tokio::join!(here.take(&name), there.take(&name), here.take(&name), there.take(&name),);

        let taken = [taken.0, taken.1, taken.2, taken.3].map(|one| one.expect("taken"));
        assert_eq!(taken.iter().flatten().count(), 1);
    }
}

pub async fn tickets_are_apart(factory: &impl TicketStoreFactory) {
    let [store, _] = factory.open().await;
    let [other, _] = factory.open().await;
    store.put(&name(1), b"ada", LONG).await.expect("put");
    store.put(&name(2), b"bob", LONG).await.expect("put");

    assert_eq!(other.take(&name(1)).await.expect("taken"), None, "of another store");
    assert_eq!(store.take(&name(2)).await.expect("taken").as_deref(), Some(&b"bob"[..]));
    assert_eq!(store.take(&name(1)).await.expect("taken").as_deref(), Some(&b"ada"[..]));
}

pub async fn a_name_is_used_once(factory: &impl TicketStoreFactory) {
    let [store, _] = factory.open().await;
    store.put(&name(1), b"ada", LONG).await.expect("put");

    store.put(&name(1), b"bob", LONG).await.expect_err("there is one of that name");

    assert_eq!(store.take(&name(1)).await.expect("taken").as_deref(), Some(&b"ada"[..]));
}

pub async fn every_record_survives(factory: &impl TicketStoreFactory) {
    let [store, _] = factory.open().await;
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
    for (number, record) in [&b""[..], b"\r\n\0", &bytes].into_iter().enumerate() {
        let number = u8::try_from(number).expect("three");
        store.put(&name(number), record, LONG).await.expect("put");

        assert_eq!(store.take(&name(number)).await.expect("taken").as_deref(), Some(record));
    }
}

pub async fn a_ticket_is_gone_when_its_time_is_over(factory: &impl TicketStoreFactory) {
    let [store, _] = factory.open().await;
    store.put(&name(1), b"ada", Duration::from_millis(50)).await.expect("put");
    store.put(&name(2), b"bob", LONG).await.expect("put");

    // Taking it to look whether it is there would take it.
    until(async || store.put(&name(1), b"new", LONG).await.is_ok()).await;

    assert_eq!(store.take(&name(1)).await.expect("taken").as_deref(), Some(&b"new"[..]));
    assert_eq!(store.take(&name(2)).await.expect("taken").as_deref(), Some(&b"bob"[..]));
}

fn name(number: u8) -> TicketName {
    TicketName::from_digest([number; 32])
}
