//! The suites that every [`SessionStore`](crate::SessionStore), [`Membership`](crate::Membership),
//! [`TenantStore`](crate::TenantStore), [`RevocationStore`](crate::RevocationStore),
//! [`TicketStore`](crate::TicketStore), [`Presence`](crate::Presence) and
//! [`QuotaStore`](crate::QuotaStore) passes: one function per behaviour,
//! each against a store of its own.
//!
//! [`session_store_conformance!`](crate::session_store_conformance),
//! [`membership_conformance!`](crate::membership_conformance),
//! [`tenant_store_conformance!`](crate::tenant_store_conformance),
//! [`ticket_store_conformance!`](crate::ticket_store_conformance),
//! [`presence_conformance!`](crate::presence_conformance),
//! [`quota_store_conformance!`](crate::quota_store_conformance) and
//! [`revocation_store_conformance!`](crate::revocation_store_conformance) make a test of every one of
//! them.

pub mod membership;
pub mod presence;
pub mod quota_store;
pub mod revocation_store;
pub mod session_store;
pub mod tenant_store;
pub mod ticket_store;

use std::time::Duration;

pub use membership::MembershipFactory;
pub use presence::PresenceFactory;
pub use quota_store::QuotaStoreFactory;
pub use revocation_store::RevocationStoreFactory;
pub use session_store::SessionStoreFactory;
pub use tenant_store::TenantStoreFactory;
pub use ticket_store::TicketStoreFactory;

/// Long enough that nothing runs out during a test.
const LONG: Duration = Duration::from_mins(1);

/// Asks every 5 ms until it is so; fails after 10 s.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it becomes so in 10 s");
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_behaviour_is_left_out_of_the_lists() {
        for source in [
            include_str!("conformance/membership.rs"),
            include_str!("conformance/presence.rs"),
            include_str!("conformance/quota_store.rs"),
            include_str!("conformance/revocation_store.rs"),
            include_str!("conformance/session_store.rs"),
            include_str!("conformance/tenant_store.rs"),
            include_str!("conformance/ticket_store.rs"),
        ] {
            let behaviours: Vec<_> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
                .collect();

            let is_listed = |name: &&str| source.lines().any(|line| line.trim() == *name);

            assert!(behaviours.len() > 5);
            let unlisted: Vec<_> = behaviours.iter().filter(|name| !is_listed(name)).collect();
            assert_eq!(unlisted, [&""; 0]);
        }
    }
}
