use tidewire_auth::Refusal;
use tidewire_model::{
    Channel, ChannelGrant, Event, Failure, HistoryPage, Identity, MemberPage, Published, RequestId,
};
use tidewire_session::Wish;
use tidewire_store::{Saved, StoreError};

use crate::handshake::{Claimed, Rejected};

/// What a connection's future came to.
pub(crate) enum Outcome {
    Claimed(Box<Result<Claimed, Rejected>>),
    Read {
        request: RequestId,
        page: Result<HistoryPage, Failure>,
    },
    Members {
        request: RequestId,
        channel: Channel,
        page: Result<MemberPage, Failure>,
    },
    /// Who bears the token of a `refresh`.
    Verified {
        request: RequestId,
        verdict: Box<Result<Identity, Refusal>>,
    },
    /// What a token of one channel allows.
    Examined(Box<(Wish, Result<ChannelGrant, Refusal>)>),
    Saved(Result<Saved, StoreError>),
    Released,
}

pub(crate) fn published(request: RequestId, outcome: Result<Published, Failure>) -> Event {
    match outcome {
        Ok(Published { position, duplicate }) => Event::Published { request, position, duplicate },
        Err(failure) => Event::Failed { request: Some(request), failure },
    }
}

pub(crate) fn read(request: RequestId, page: Result<HistoryPage, Failure>) -> Event {
    match page {
        Ok(page) => Event::History { request, page },
        Err(failure) => Event::Failed { request: Some(request), failure },
    }
}

pub(crate) fn members(
    request: RequestId,
    channel: Channel,
    page: Result<MemberPage, Failure>,
) -> Event {
    match page {
        Ok(page) => Event::Members { request, channel, page },
        Err(failure) => Event::Failed { request: Some(request), failure },
    }
}
