use tidewire_broker::Appended;
use tidewire_model::{Event, Failure, HistoryPage, RequestId};
use tidewire_store::{Saved, StoreError};
use tokio::time::Duration;

/// What an effect came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Published { request: RequestId, took: Duration, verdict: Result<Appended, Failure> },
    Read { request: RequestId, page: Result<HistoryPage, Failure> },
    Saved(Result<Saved, StoreError>),
}

pub(crate) fn published(request: RequestId, verdict: Result<Appended, Failure>) -> Event {
    match verdict {
        Ok(Appended { position, duplicate, .. }) => {
            Event::Published { request, position, duplicate }
        }
        Err(failure) => Event::Failed { request: Some(request), failure },
    }
}

pub(crate) fn read(request: RequestId, page: Result<HistoryPage, Failure>) -> Event {
    match page {
        Ok(page) => Event::History { request, page },
        Err(failure) => Event::Failed { request: Some(request), failure },
    }
}
