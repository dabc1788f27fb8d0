//! Waiting for the replicas.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};
use tidewire_broker::Secured;
use tokio::time::{Instant, timeout};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::reply::unexpected;

/// How much longer than asked to wait Redis may take to say so.
const ANSWER: Duration = Duration::from_millis(200);

impl RedisConnection {
    /// Waits until every replica that is connected has what this process has written, `within` at
    /// most.
    ///
    /// `WAIT` tells of the writes of its own connection only, and of none on one that has written
    /// nothing. So a write goes before it: in the order of replication everything of this process is
    /// older than that, by whichever connection it went. In a cluster that holds for one primary; for
    /// the others it takes that the connection to them was not made anew since they were written to.
    ///
    /// Redis keeps whatever else this process asks waiting meanwhile.
    pub(crate) async fn secure(&self, within: Duration) -> Result<Secured, CallError> {
        let until = Instant::now() + within;
        let answer = timeout(within + ANSWER, async {
            let wanted = self.replicas().await?;
            if wanted == 0 {
                return Ok(Secured::Alone);
            }
            let mut mark = redis::cmd("SET");
            mark.arg(self.keys().mark()).arg(1).arg("PX").arg(MARK_TTL_MS);
            self.tell(&mark).await?;
            let patience = (until - Instant::now()).as_millis().max(1);
            let mut wait = redis::cmd("WAIT");
            wait.arg(wanted).arg(u64::try_from(patience).unwrap_or(u64::MAX));
            let reached = u32::from_redis_value(self.tell(&wait).await?);
            let reached = reached.map_err(|_| unexpected("a count of replicas"))?;
            Ok(if reached < wanted {
                Secured::Behind { wanted, reached }
            } else {
                Secured::Copied { replicas: reached }
            })
        });
        answer.await.unwrap_or_else(|_| {
            Err(CallError::Unanswered(format!("no answer about replicas within {within:?}")))
        })
    }

    /// How many replicas are connected; of a cluster, to the primary that has the fewest.
    async fn replicas(&self) -> Result<u32, CallError> {
        let mut info = redis::cmd("INFO");
        let answer = self.tell(info.arg("replication")).await?;
        let texts = if self.is_cluster() {
            HashMap::<String, String>::from_redis_value(answer).map(|of| of.into_values().collect())
        } else {
            String::from_redis_value(answer).map(|text| vec![text])
        };
        let texts: Vec<_> = texts.map_err(|_| unexpected("information about replicas"))?;
        texts
            .iter()
            .map(|text| connected(text))
            .min()
            .flatten()
            .ok_or_else(|| unexpected("a count of replicas"))
    }

    /// Sends a command that is nobody's call: it takes no turn and has no deadline of its own.
    async fn tell(&self, command: &Cmd) -> Result<Value, CallError> {
        let mut connection = self.established().await?;
        connection.send(command).await.map_err(|error| CallError::of_call(&error))
    }
}

/// How many replicas a server says it has.
pub(crate) fn connected(info: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix("connected_slaves:"))?.trim().parse().ok()
}

/// What was written to wait for it is of no other use.
const MARK_TTL_MS: u32 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_replicas_is_found_among_the_rest() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=::1\r\n";

        assert_eq!(connected(info), Some(2));
        assert_eq!(connected("# Replication\r\nrole:slave\r\n"), None);
    }
}
