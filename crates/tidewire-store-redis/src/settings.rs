//! Which settings of Redis would break a promise, or waste memory.

use std::collections::HashMap;

use redis::{FromRedisValue, Value};

use crate::connection::RedisConnection;

impl RedisConnection {
    /// What an operator should change in the configuration of Redis, a sentence each; empty when
    /// all is well. Of a cluster, one server is asked.
    pub async fn check_settings(&self) -> Vec<String> {
        let settings = self.send(redis::cmd("CONFIG").arg("GET").arg(SETTINGS)).await;
        let replication = self.send(redis::cmd("INFO").arg("replication")).await;
        match (settings, replication) {
            (Ok(settings), Ok(replication)) => judge(&read(settings), has_replica(replication)),
            (Err(error), _) | (_, Err(error)) => {
                vec![format!("the settings of redis at {} are not known: {error}", self.address())]
            }
        }
    }
}

const SETTINGS: &[&str] =
    &["maxmemory-policy", "appendonly", "min-replicas-to-write", "stream-node-max-bytes"];

fn read(settings: Value) -> HashMap<String, String> {
    HashMap::from_redis_value(settings).unwrap_or_default()
}

fn has_replica(replication: Value) -> bool {
    let text = String::from_redis_value(replication).unwrap_or_default();
    text.lines()
        .any(|line| line.strip_prefix("connected_slaves:").is_some_and(|count| count.trim() != "0"))
}

fn judge(settings: &HashMap<String, String>, has_replica: bool) -> Vec<String> {
    let is = |name: &str, wrong: &dyn Fn(&str) -> bool| {
        settings.get(name).is_some_and(|value| wrong(value))
    };
    let mut warnings = Vec::new();
    if is("maxmemory-policy", &|policy| policy != "noeviction") {
        warnings.push("set maxmemory-policy to noeviction: an evicted key is lost data".into());
    }
    if is("appendonly", &|value| value != "yes") {
        warnings.push("set appendonly to yes: a restart loses everything without it".into());
    }
    if has_replica && is("min-replicas-to-write", &|count| count == "0") {
        warnings.push(
            "set min-replicas-to-write to 1 and min-replicas-max-lag to 10: a primary that was \
             cut off goes on taking writes that will be lost"
                .into(),
        );
    }
    if is("stream-node-max-bytes", &|bytes| bytes.parse().is_ok_and(|bytes: u64| bytes > 1024)) {
        warnings.push(
            "set stream-node-max-bytes to 1024: a quiet channel takes three times the memory \
             at the default"
                .into(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: [(&str, &str); 4]) -> HashMap<String, String> {
        pairs.map(|(name, value)| (name.into(), value.into())).into()
    }

    #[test]
    fn what_is_set_well_raises_no_warning() {
        let well = settings([
            ("maxmemory-policy", "noeviction"),
            ("appendonly", "yes"),
            ("min-replicas-to-write", "1"),
            ("stream-node-max-bytes", "1024"),
        ]);

        assert_eq!(judge(&well, true), [""; 0]);
        assert_eq!(judge(&HashMap::new(), true), [""; 0]);
    }

    #[test]
    fn each_bad_setting_raises_a_warning_that_names_it() {
        let bad = settings([
            ("maxmemory-policy", "allkeys-lru"),
            ("appendonly", "no"),
            ("min-replicas-to-write", "0"),
            ("stream-node-max-bytes", "4096"),
        ]);

        let warnings = judge(&bad, true);

        assert_eq!(warnings.len(), 4);
        assert_eq!(judge(&bad, false).len(), 3);
        for name in SETTINGS {
            assert!(warnings.iter().any(|warning| warning.contains(name)), "{name}");
        }
    }
}
