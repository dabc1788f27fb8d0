//! Values of options, parsed at the door.

use std::str::FromStr;

use tidewire_auth::{Algorithm, InvalidKey, KeyId, UnknownAlgorithm};
use tidewire_model::{
    Action, Channel, Epoch, Filter, InvalidChannel, InvalidFilter, InvalidId, InvalidPublicationId,
    InvalidTenant, InvalidUserId, NodeId, Position, PublicationId, Tenant, UserId,
};

/// A pattern of channels and what may be done with them, written `chat/*=subscribe,publish`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    pub filter: Filter,
    pub actions: Vec<Action>,
}

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        // From the right: `=` may stand in a channel's name, but in no action's.
        let (pattern, actions) = text.rsplit_once('=').ok_or(InvalidGrant::Form)?;
        let filter = Filter::parse(pattern)?;
        let actions = actions.split(',').map(parse_action).collect::<Result<_, _>>()?;
        Ok(Self { filter, actions })
    }
}

/// A channel and what may be done with it, written `chat/7=subscribe,publish`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChannelActions {
    pub channel: Channel,
    pub actions: Vec<Action>,
}

impl FromStr for ChannelActions {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let (channel, actions) = text.rsplit_once('=').ok_or(InvalidGrant::Form)?;
        let channel = Channel::parse(channel)?;
        let actions = actions.split(',').map(parse_action).collect::<Result<_, _>>()?;
        Ok(Self { channel, actions })
    }
}

fn parse_action(name: &str) -> Result<Action, InvalidGrant> {
    Action::ALL.into_iter().find(|action| action.as_str() == name).ok_or(InvalidGrant::Action)
}

/// What an API key may be used for, as documents call it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ScopeName(&'static str);

impl ScopeName {
    const ALL: [&str; 5] = ["publish", "history", "presence", "tickets", "revoke"];

    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for ScopeName {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::ALL.into_iter().find(|name| *name == text).map(Self).ok_or(InvalidScope)
    }
}

#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("a scope is one of publish, history, presence, tickets and revoke")]
pub struct InvalidScope;

#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidGrant {
    #[error("expected PATTERN=ACTIONS, such as `chat/*=subscribe,publish`")]
    Form,
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    #[error(transparent)]
    Channel(#[from] InvalidChannel),
    #[error("an action is one of subscribe, publish, history and presence")]
    Action,
}

pub(super) fn parse_tenant(text: &str) -> Result<Tenant, InvalidTenant> {
    Tenant::parse(text)
}

pub(super) fn parse_node(text: &str) -> Result<NodeId, InvalidId> {
    NodeId::parse(text)
}

pub(super) fn parse_user(text: &str) -> Result<UserId, InvalidUserId> {
    UserId::parse(text)
}

pub(super) fn parse_channel(text: &str) -> Result<Channel, InvalidChannel> {
    Channel::parse(text)
}

pub(super) fn parse_publication_id(text: &str) -> Result<PublicationId, InvalidPublicationId> {
    PublicationId::parse(text)
}

pub(super) fn parse_key_id(text: &str) -> Result<KeyId, InvalidKey> {
    KeyId::parse(text)
}

pub(super) fn parse_algorithm(text: &str) -> Result<Algorithm, UnknownAlgorithm> {
    text.parse()
}

pub(super) fn parse_position(text: &str) -> Result<Position, InvalidPosition> {
    let (epoch, offset) = text.split_once(':').ok_or(InvalidPosition)?;
    let epoch = Epoch::parse(epoch).map_err(|_| InvalidPosition)?;
    let offset = offset.parse().map_err(|_| InvalidPosition)?;
    if offset > Position::MAX_OFFSET {
        Err(InvalidPosition)
    } else {
        Ok(Position::new(epoch, offset))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("expected EPOCH:OFFSET, as `sub` and `history` print it")]
pub(super) struct InvalidPosition;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_pattern_and_its_actions() {
        let grant: Grant = "a=b/*=subscribe,history".parse().expect("valid");

        assert_eq!(grant.filter.as_str(), "a=b/*");
        assert_eq!(grant.actions, [Action::Subscribe, Action::History]);
    }

    #[test]
    fn a_token_of_one_channel_is_of_no_pattern() {
        let only: ChannelActions = "a=b/7=subscribe".parse().expect("valid");

        assert_eq!((only.channel.as_str(), only.actions), ("a=b/7", vec![Action::Subscribe]));
        let pattern = "chat/*=subscribe".parse::<ChannelActions>();
        assert!(matches!(pattern, Err(InvalidGrant::Channel(_))));
    }

    #[test]
    fn half_a_grant_is_none() {
        assert_eq!("chat/*".parse::<Grant>(), Err(InvalidGrant::Form));
        assert_eq!("chat/*=".parse::<Grant>(), Err(InvalidGrant::Action));
        assert_eq!("chat/*=subscribe,".parse::<Grant>(), Err(InvalidGrant::Action));
        assert_eq!("chat/*=Subscribe".parse::<Grant>(), Err(InvalidGrant::Action));
        assert!(matches!("a-*=publish".parse::<Grant>(), Err(InvalidGrant::Filter(_))));
    }
}
