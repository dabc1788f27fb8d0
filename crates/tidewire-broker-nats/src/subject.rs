//! The subjects on NATS: the only place that spells one.
//!
//! | Subject | Carries |
//! |---|---|
//! | `<prefix>.m.<tenant>.<partition>` | publications and announcements of a partition, which is two hexadecimal digits |
//! | `<prefix>.c.n.<node>` | notices to a node, and its own probes |
//! | `<prefix>.c.all` | news for all nodes |
//! | `<prefix>.c.b` | the beats of all nodes |
//!
//! Tenants and nodes hold no character that means anything in a subject, so nothing is escaped.

use std::sync::Arc;

use async_nats::Subject;
use tidewire_broker::Partition;
use tidewire_model::NodeId;

#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    prefix: Arc<str>,
}

impl Subjects {
    /// The longest prefix, in bytes.
    const MAX_PREFIX: usize = 64;

    /// `None` unless `prefix` is made of levels of `a-z`, `A-Z`, `0-9`, `_`, `-`, separated by dots.
    pub(crate) fn parse(prefix: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let valid = prefix.len() <= Self::MAX_PREFIX
            && prefix.split('.').all(|level| !level.is_empty() && level.bytes().all(allowed));
        valid.then(|| Self { prefix: prefix.into() })
    }

    pub(crate) fn partition(&self, partition: &Partition) -> Subject {
        format!("{}.m.{}.{:02x}", self.prefix, partition.tenant, partition.index).into()
    }

    pub(crate) fn node(&self, node: &NodeId) -> Subject {
        format!("{}.c.n.{node}", self.prefix).into()
    }

    pub(crate) fn all(&self) -> Subject {
        format!("{}.c.all", self.prefix).into()
    }

    pub(crate) fn beats(&self) -> Subject {
        format!("{}.c.b", self.prefix).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidewire_model::Tenant;

    use super::*;

    #[test]
    fn a_partition_a_node_all_nodes_and_all_beats_have_one_subject_each() {
        let subjects = Subjects::parse("tw.eu-1").unwrap();
        let partition = Partition { tenant: Tenant::parse("acme_1").unwrap(), index: 10 };
        let node = NodeId::parse("edge-1_X").unwrap();

        assert_eq!(subjects.partition(&partition).as_str(), "tw.eu-1.m.acme_1.0a");
        assert_eq!(subjects.node(&node).as_str(), "tw.eu-1.c.n.edge-1_X");
        assert_eq!(subjects.all().as_str(), "tw.eu-1.c.all");
        assert_eq!(subjects.beats().as_str(), "tw.eu-1.c.b");
    }

    proptest! {
        #[test]
        fn no_two_partitions_or_nodes_have_one_subject(
            (one, at) in ("[mc]{1,2}|m-c", any::<u8>()),
            (other, there) in ("[mc]{1,2}|m-c", any::<u8>()),
        ) {
            let subjects = Subjects::parse("tw").unwrap();
            let of = |tenant: &str, index| {
                let tenant = Tenant::parse(tenant).unwrap();
                subjects.partition(&Partition { tenant, index })
            };
            let (a, b) = (of(&one, at), of(&other, there));
            let node = subjects.node(&NodeId::parse(&one).unwrap());

            prop_assert_eq!(a == b, (&one, at) == (&other, there));
            prop_assert!(![&a, &b].contains(&&node) && node != subjects.all());
            // A tenant means nothing to who subscribes.
            prop_assert!(a.split('.').count() == 4 && !a.contains(['*', '>']));
        }
    }

    #[test]
    fn a_prefix_that_would_change_the_meaning_of_a_subject_is_refused() {
        for prefix in ["", ".", "a.", ".a", "a..b", "*", "a.>", "a b", "a\r\nPUB", &"a".repeat(65)]
        {
            assert!(Subjects::parse(prefix).is_none(), "{prefix:?}");
        }
    }
}
