//! Which settings of Redis would break a promise, or waste memory.

use std::cmp::Ordering;
use std::collections::HashMap;

use redis::{FromRedisValue, Value};
use tidewire_store::StoreError;

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::secure;

/// Something an operator should change in the configuration of Redis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    pub severity: Severity,
    /// A sentence that names the server, the setting and why.
    pub text: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Served like this, Redis throws away what was acknowledged, and nobody would notice.
    Refuse,
    Warn,
}

impl RedisConnection {
    /// What should be changed at the primary, or at every primary of a cluster; empty when all is
    /// well. As long as something is to be refused, the log and the stores of this connection are
    /// not healthy.
    ///
    /// # Errors
    ///
    /// When Redis cannot be reached. That it does not tell its settings is only a warning.
    pub async fn check_settings(&self) -> Result<Vec<Finding>, StoreError> {
        let findings = match self.try_check().await {
            Ok(findings) => findings,
            Err(CallError::Refused(reason)) => {
                let text = format!("the settings of {} are not known: {reason}", self.address());
                vec![Finding { severity: Severity::Warn, text }]
            }
            Err(error) => return Err(error.into_store_error(self.address())),
        };
        let refused = findings.iter().find(|finding| finding.severity == Severity::Refuse);
        self.refuse(refused.map(|finding| finding.text.clone()));
        Ok(findings)
    }

    async fn try_check(&self) -> Result<Vec<Finding>, CallError> {
        let replication = self.send_to_primaries(redis::cmd("INFO").arg("replication")).await?;
        let replicas: HashMap<_, _> = replication
            .into_iter()
            .map(|(server, replication)| (server, count_replicas(replication)))
            .collect();
        let settings =
            self.send_to_primaries(redis::cmd("CONFIG").arg("GET").arg(SETTINGS)).await?;
        let mut findings = Vec::new();
        for (server, settings) in settings {
            let replicas = replicas.get(&server).copied().unwrap_or_default();
            let mut judged = judge(&read(settings), replicas > 0);
            let wanted = self.copies().expected();
            judged.extend(wanted.and_then(|wanted| judge_copies(replicas, wanted)));
            findings.extend(judged.into_iter().map(|(severity, text)| {
                let text = format!("at {server}, {text}");
                Finding { severity, text }
            }));
        }
        Ok(findings)
    }
}

const SETTINGS: &[&str] = &[
    "maxmemory-policy",
    "maxmemory",
    "appendonly",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "stream-node-max-bytes",
];

/// In seconds: for so long at most a primary that was cut off goes on taking writes.
const LONGEST_LAG: u64 = 10;

fn read(settings: Value) -> HashMap<String, String> {
    HashMap::from_redis_value(settings).unwrap_or_default()
}

fn count_replicas(replication: Value) -> u32 {
    let text = String::from_redis_value(replication).unwrap_or_default();
    secure::connected(&text).unwrap_or_default()
}

fn judge_copies(replicas: u32, wanted: u32) -> Option<(Severity, &'static str)> {
    let too_many = "add replicas, or set redis.durable_copies to how many there are, be it 0, or the \
                    class of durable channels to recoverable: with fewer replicas than copies asked \
                    for, no publication of a durable channel is acknowledged";
    let too_few = "set redis.durable_copies to how many replicas there are: with fewer, a failover may \
                   promote one that has not got what a durable channel has acknowledged";
    match replicas.cmp(&wanted) {
        Ordering::Less => Some((Severity::Warn, too_many)),
        Ordering::Equal => None,
        Ordering::Greater => Some((Severity::Warn, too_few)),
    }
}

fn judge(settings: &HashMap<String, String>, has_replica: bool) -> Vec<(Severity, &'static str)> {
    let is = |name: &str, wrong: &dyn Fn(&str) -> bool| {
        settings.get(name).is_some_and(|value| wrong(value))
    };
    let number = |value: &str| value.parse::<u64>().unwrap_or_default();
    let mut findings = Vec::new();
    if is("maxmemory-policy", &|policy| policy != "noeviction") {
        findings.push(if is("maxmemory", &|bytes| number(bytes) > 0) {
            let text = "set maxmemory-policy to noeviction: with maxmemory set, Redis evicts what \
                        was acknowledged";
            (Severity::Refuse, text)
        } else {
            let text = "set maxmemory-policy to noeviction: once maxmemory is set, Redis would evict \
                        what was acknowledged";
            (Severity::Warn, text)
        });
    }
    if is("appendonly", &|value| value != "yes") {
        let text = "set appendonly to yes: a restart loses everything without it";
        findings.push((Severity::Warn, text));
    }
    if has_replica && is("min-replicas-to-write", &|count| count == "0") {
        let text = "set min-replicas-to-write to 1 and min-replicas-max-lag to 10: a primary that \
                    was cut off goes on taking writes that will be lost";
        findings.push((Severity::Warn, text));
    } else if has_replica
        && is("min-replicas-max-lag", &|lag| !(1..=LONGEST_LAG).contains(&number(lag)))
    {
        let text = "set min-replicas-max-lag to 10: for that many seconds a primary that was cut \
                    off goes on taking writes that will be lost, and with 0 for ever";
        findings.push((Severity::Warn, text));
    }
    if is("stream-node-max-bytes", &|bytes| number(bytes) > 1_024) {
        let text = "set stream-node-max-bytes to 1024: a quiet channel takes three times the memory \
                    at the default";
        findings.push((Severity::Warn, text));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: [(&str, &str); 6] = [
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "1073741824"),
        ("appendonly", "yes"),
        ("min-replicas-to-write", "1"),
        ("min-replicas-max-lag", "10"),
        ("stream-node-max-bytes", "1024"),
    ];

    #[test]
    fn what_is_set_well_raises_no_warning() {
        assert_eq!(judge(&settings(&[]), true), []);
        assert_eq!(judge(&HashMap::new(), true), []);
    }

    #[test]
    fn each_bad_setting_is_named_and_weighed() {
        use Severity::{Refuse, Warn};
        for (bad, severity) in [
            (&[("maxmemory-policy", "allkeys-lru")][..], Refuse),
            (&[("maxmemory-policy", "volatile-ttl"), ("maxmemory", "0")], Warn),
            (&[("appendonly", "no")], Warn),
            (&[("min-replicas-to-write", "0")], Warn),
            (&[("min-replicas-max-lag", "0")], Warn),
            (&[("min-replicas-max-lag", "60")], Warn),
            (&[("stream-node-max-bytes", "4096")], Warn),
        ] {
            let findings = judge(&settings(bad), true);

            let [(found, text)] = findings[..] else { panic!("{findings:?}") };
            assert_eq!(found, severity, "{bad:?}");
            assert!(text.contains(bad[0].0), "{text}");
        }
    }

    #[test]
    fn without_a_replica_nothing_is_said_about_replicas() {
        let settings = settings(&[("min-replicas-to-write", "0"), ("min-replicas-max-lag", "0")]);

        assert_eq!(judge(&settings, false), []);
    }

    #[test]
    fn replicas_that_are_not_as_many_as_the_copies_asked_for_are_named() {
        let wanting =
            |replicas, wanted| judge_copies(replicas, wanted).map(|(severity, _)| severity);

        assert_eq!(wanting(0, 0), None);
        assert_eq!(wanting(2, 2), None);
        assert_eq!(wanting(1, 0), Some(Severity::Warn));
        assert_eq!(wanting(2, 1), Some(Severity::Warn));
        assert_eq!(wanting(0, 1), Some(Severity::Warn));
        assert_eq!(wanting(1, 2), Some(Severity::Warn));
    }

    fn settings(changed: &[(&str, &str)]) -> HashMap<String, String> {
        let pairs = WELL.iter().chain(changed);
        pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}
