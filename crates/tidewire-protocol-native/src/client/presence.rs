//! Presence as it stands in protobuf, read by the client.

use tidewire_model::{
    ChangePosition, FormerMember, Member, MemberPage, MemberWord, Occupancy, PresenceChange, UserId,
};
use tidewire_protocol::ProtocolError;

use super::checked;
use super::protobuf::position;
use crate::parse;
use crate::protobuf::wire;

pub(super) fn change(body: wire::PresenceChange) -> Result<PresenceChange, ProtocolError> {
    let place = body.position.as_ref().map(|place| position(Some(place))).transpose()?;
    let left = body.left.into_iter().map(|one| {
        let Member { id, user, .. } = member(one)?;
        Ok(FormerMember { id, user })
    });
    Ok(PresenceChange {
        position: place.map(|place| ChangePosition { epoch: place.epoch, offset: place.offset }),
        joined: members(body.joined)?,
        updated: members(body.updated)?,
        left: left.collect::<Result<_, ProtocolError>>()?,
        count: body.count,
        lost: body.lost,
    })
}

pub(super) fn page(body: wire::MemberPage) -> Result<MemberPage, ProtocolError> {
    let occupancy = Occupancy { count: body.count, position: position(body.position.as_ref())? };
    Ok(MemberPage {
        members: members(body.items)?,
        occupancy,
        next: checked(body.next.as_deref().map(parse::mark).transpose())?,
    })
}

fn members(all: Vec<wire::Member>) -> Result<Vec<Member>, ProtocolError> {
    all.into_iter().map(member).collect()
}

fn member(body: wire::Member) -> Result<Member, ProtocolError> {
    Ok(Member {
        id: checked(body.member.parse())?,
        user: checked(UserId::parse(&body.user))?,
        data: checked(body.data.map(MemberWord::parse).transpose())?,
    })
}
