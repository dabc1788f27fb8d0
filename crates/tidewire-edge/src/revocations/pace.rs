use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_model::{Bucket, Pace, Tenant};

/// How fast the servers of each tenant may revoke on this node: what is revoked is written, told to all
/// nodes, and held there against everybody who is connected.
#[derive(Debug, Default)]
pub(crate) struct Paces(Mutex<HashMap<Tenant, Bucket>>);

const PACE: Pace = Pace { per_second: 20, burst: 200 };
/// Tenants that are kept before those are forgotten that have rested.
const MANY: usize = 256;

impl Paces {
    /// Takes one turn of a tenant's.
    ///
    /// # Errors
    ///
    /// When it has had too many lately: how long until the next.
    pub(crate) fn take(&self, tenant: &Tenant, now: Duration) -> Result<(), Duration> {
        let mut buckets = self.0.lock();
        if buckets.len() >= MANY {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        buckets.entry(tenant.clone()).or_default().take(PACE, 1, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> Tenant {
        Tenant::parse(&format!("tenant-{number}")).expect("valid")
    }

    #[test]
    fn one_tenants_haste_is_not_anothers_and_who_has_rested_is_forgotten() {
        let (paces, now) = (Paces::default(), Duration::from_secs(1));

        let taken = (0..300).filter(|_| paces.take(&tenant(0), now).is_ok()).count();

        assert_eq!(taken, 200);
        assert!(paces.take(&tenant(1), now).is_ok());
        assert!(paces.take(&tenant(0), now).is_err_and(|wait| wait <= Duration::from_millis(50)));
        let later = now + Duration::from_mins(1);
        for number in 0..=MANY {
            assert!(paces.take(&tenant(number), later).is_ok());
        }
        let rested = later + Duration::from_mins(1);
        assert!(paces.take(&tenant(0), rested).is_ok());
        assert_eq!(paces.0.lock().len(), 1);
    }
}
