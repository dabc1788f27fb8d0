//! Somebody who has nothing to do with it.

use std::time::Duration;

use tidewire_client::{Channel, Client, Happening, Options, Payload, Since};
use tidewire_model::Tenant;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::victim::{PATIENCE, Victim};

/// Below what a connection may publish in a second.
const REST: Duration = Duration::from_millis(50);
/// Heard at least, so that a short attack has a witness too.
const LEAST: u64 = 5;

/// A client that publishes to itself, all the time, and hears each publication before the next.
pub(crate) struct Bystander(Client);

impl Bystander {
    pub(crate) async fn connect(victim: &Victim) -> Self {
        let mut options =
            Options::new(format!("ws://{}", victim.clients), victim.token("bystander"));
        options.tenant = Some(Tenant::parse("acme").expect("a tenant"));
        let mut client = Client::connect(options).await.expect("it connects");
        client.subscribe(channel(), Since::Now);
        while !matches!(next(&mut client).await, Happening::Subscribed(_)) {}
        Self(client)
    }

    /// Goes on until `is_done` is dropped.
    ///
    /// # Panics
    ///
    /// If a publication does not come back, or the connection is lost.
    pub(crate) async fn talk(mut self, mut is_done: watch::Receiver<()>) {
        for number in 1.. {
            say(&mut self.0, number).await;
            if timeout(REST, is_done.changed()).await.is_ok() && number >= LEAST {
                return;
            }
        }
    }
}

/// Publishes a number and waits until it has come back.
async fn say(client: &mut Client, number: u64) {
    let payload = Payload::json(number.to_string().into()).expect("JSON");
    client.publish(channel(), payload).expect("there is room");
    loop {
        match next(client).await {
            Happening::Publication { publication, .. } => {
                assert_eq!(publication.payload.bytes(), number.to_string().as_bytes());
                return;
            }
            Happening::Published { .. } => {}
            disturbed => unreachable!("before publication {number}: {disturbed:?}"),
        }
    }
}

async fn next(client: &mut Client) -> Happening {
    timeout(PATIENCE, client.next()).await.expect("in time").expect("it may go on")
}

fn channel() -> Channel {
    Channel::parse("bystander").expect("valid")
}
