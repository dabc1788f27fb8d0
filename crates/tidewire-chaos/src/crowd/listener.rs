use std::sync::Arc;

use tidewire_client::{Client, Happening, Options, Since};
use tidewire_witness::Stamp;
use tokio::sync::watch;

use super::{Phase, Shared, name};

/// A client that listens to one channel, and tells what it hears.
pub(super) struct Listener {
    pub(super) number: u32,
    pub(super) channel: u32,
    pub(super) options: Options,
    pub(super) shared: Arc<Shared>,
}

impl Listener {
    pub(super) async fn run(self, mut phases: watch::Receiver<Phase>) {
        let mut client = match Client::connect(self.options.clone()).await {
            Ok(client) => client,
            Err(error) => return self.shared.end("a listener", &error),
        };
        client.subscribe(name(self.channel), Since::Now);
        let mut has_subscribed = false;
        loop {
            let happening = tokio::select! {
                happening = client.next() => happening,
                _ = phases.wait_for(|phase| *phase == Phase::Over) => break,
            };
            let happening = match happening {
                Ok(happening) => happening,
                Err(error) => return self.shared.end("a listener", &error),
            };
            self.shared.note(&happening);
            if matches!(happening, Happening::Subscribed(_)) && !has_subscribed {
                has_subscribed = true;
                self.shared.subscribed.send_modify(|count| *count += 1);
            }
            self.tell(&mut client, &happening);
        }
        self.tell_last(&mut client);
        client.close().await;
    }

    /// Puts what came again after the last happening into the account.
    fn tell_last(&self, client: &mut Client) {
        let mut account = self.shared.account.lock();
        while let Some((_, position)) = client.next_repeat() {
            account.repeat((self.number, self.channel), position);
        }
    }

    /// Puts what happened into the account.
    fn tell(&self, client: &mut Client, happening: &Happening) {
        let to = (self.number, self.channel);
        let at = self.shared.clock();
        let mut account = self.shared.account.lock();
        // What is kept from the application came before this, or right after it: its place tells.
        let mut repeats: Vec<_> = std::iter::from_fn(|| client.next_repeat()).collect();
        if let Happening::Publication { publication, .. } = happening {
            let offset = publication.position.offset;
            repeats.retain(|(_, position)| {
                let is_before = position.offset < offset;
                if is_before {
                    account.repeat(to, *position);
                }
                !is_before
            });
        }
        match happening {
            Happening::Subscribed(subscribed) => {
                account.subscribe(self.number, self.channel, subscribed);
            }
            Happening::Gap { gap, .. } => account.announce(self.number, self.channel, gap),
            Happening::Publication { publication, .. } => {
                let stamp = Stamp::read(&publication.payload)
                    .filter(|stamp| stamp.run == self.shared.run(self.channel));
                account.hear(to, publication.position, stamp.as_ref(), at);
            }
            _ => {}
        }
        for (_, position) in repeats {
            account.repeat(to, position);
        }
    }
}
