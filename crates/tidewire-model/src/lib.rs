//! The nouns every other crate shares.
//!
//! Start from [`Publication`], what is delivered, and [`Position`], where it stands in its
//! [`TenantChannel`]. What a client asks is a [`Command`], what it hears is an [`Event`], in
//! whatever protocol it speaks.
//!
//! Holding a value of these types is proof that it was checked: a [`Channel`] has a valid name, a
//! [`Payload`] that says it is JSON is JSON. Nothing here performs I/O, reads a clock or knows a
//! wire format.

mod actions;
mod by_tenant;
mod channel;
mod channel_grant;
mod channel_limits;
mod command;
mod delivery;
mod delta;
mod disconnect;
mod envelope;
mod error_code;
mod event;
mod exceeded;
mod filter;
mod id;
mod identity;
mod limits;
mod live;
mod pace;
mod payload;
mod permissions;
mod position;
mod presence;
mod provenance;
mod publication;
mod quota;
mod random;
mod rules;
mod session_kind;
mod tenant;
mod token;
mod turns;
mod when_slow;

pub use actions::Actions;
pub use by_tenant::ByTenant;
pub use channel::{Channel, InvalidChannel, TenantChannel};
pub use channel_grant::ChannelGrant;
pub use channel_limits::ChannelLimits;
pub use command::{Command, Connect, Direction, HistoryQuery, Publish, Request, Resume, Since};
pub use delivery::{Delivery, JoinId, Joined, Published, Tenure};
pub use delta::{DeltaFormat, Deltas};
pub use disconnect::Disconnect;
pub use envelope::{Encoding, Envelope};
pub use error_code::{ErrorCode, Failure};
pub use event::{Connected, Event, Gap, GapReason, HistoryPage, Recovery, Subscribed};
pub use exceeded::{Exceeded, Limit};
pub use filter::{Filter, InvalidFilter};
pub use id::{
    ConnectionId, Generation, InvalidId, NodeId, RequestId, SessionId, SessionNonce, Slot,
};
pub use identity::{Identity, InvalidUserId, UserId};
pub use limits::TenantLimits;
pub use live::{Live, LiveRules, Reader};
pub use pace::{Bucket, Pace, SharedBucket};
pub use payload::{InvalidPayload, Payload};
pub use permissions::{Action, Grants, Permissions};
pub use position::{Epoch, Incarnation, InvalidEpoch, Position};
pub use presence::{
    ChangePosition, FormerMember, Member, MemberId, MemberPage, MemberWord, Occupancy, PageMark,
    PresenceChange, PresenceMode, PresenceRule,
};
pub use provenance::{Provenance, Trace};
pub use publication::{InvalidPublicationId, Publication, PublicationId};
pub use quota::{Quotas, Rates};
pub use random::Random;
pub use rules::{ChannelRule, ChannelRules, DeliveryClass, Handing, Retention};
pub use session_kind::SessionKind;
pub use tenant::{InvalidTenant, Tenant};
pub use token::Token;
pub use turns::Turns;
pub use when_slow::WhenSlow;
