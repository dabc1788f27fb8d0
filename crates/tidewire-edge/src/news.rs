use tidewire_broker::News;
use tokio::sync::Notify;

/// Where whoever follows what is kept in the store learns that something has changed.
#[derive(Default)]
pub(crate) struct NewsDesk {
    tenants: Notify,
    revocations: Notify,
}

impl NewsDesk {
    /// Wakes whoever waits for it, or who does so next.
    pub(crate) fn tell(&self, news: News) {
        self.desk(news).notify_one();
    }

    /// Waits until it has been told since the last time. Cancel-safe.
    pub(crate) async fn told(&self, news: News) {
        self.desk(news).notified().await;
    }

    fn desk(&self, news: News) -> &Notify {
        match news {
            News::Tenants => &self.tenants,
            News::Revocations => &self.revocations,
        }
    }
}
