use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidewire_edge::CONTROL_HEADER;
use tidewire_model::NodeId;
use tidewire_store::{NodeLease, NodeState};
use tidewire_transport::http::request;

use crate::cli::Drain;
use crate::output;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks in a row that may fail before it is said so.
const FAILURES: u32 = 20;

/// Exit code 0 when the node was told, or with `--wait` when it has gone.
pub(crate) fn run(drain: &Drain) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let operators = Operators { url: drain.url.trim_end_matches('/').to_owned() };
        let asked: Progress = operators.get("drain").await?;
        let node = operators.tell(drain.node.as_ref()).await?;
        let is_own = node == asked.node;
        if drain.wait {
            operators.until_gone(&node, is_own).await?;
        } else if drain.wait_announced {
            operators.until_announced(&node, is_own).await?;
        }
        output::data(&format!("{node}\n"))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The operators' listener of a node.
struct Operators {
    url: String,
}

/// How the drain of the node that is asked goes.
#[derive(Deserialize)]
struct Progress {
    node: NodeId,
    state: String,
}

#[derive(Deserialize)]
struct Told {
    node: NodeId,
}

impl Operators {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = format!("{}/{path}", self.url);
        let answer = request(Method::GET, &url, &[], "").await?;
        if !answer.status.is_success() {
            bail!("{url} answered {}", answer.status);
        }
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("{url} is no operators' listener"))
    }

    /// Makes a node leave, this one without a name. Yields its name. May be repeated.
    async fn tell(&self, node: Option<&NodeId>) -> anyhow::Result<NodeId> {
        let url = match node {
            Some(node) => format!("{}/drain?node={node}", self.url),
            None => format!("{}/drain", self.url),
        };
        let answer = request(Method::POST, &url, &[(CONTROL_HEADER, "1")], "").await?;
        if !answer.status.is_success() {
            bail!("{}", String::from_utf8_lossy(&answer.body).trim());
        }
        let told: Told = serde_json::from_slice(&answer.body)?;
        Ok(told.node)
    }

    async fn lease(&self, node: &NodeId) -> anyhow::Result<Option<NodeLease>> {
        let members: Vec<NodeLease> = self.get("nodes").await?;
        Ok(members.into_iter().find(|lease| lease.node == *node))
    }

    /// Waits until the node has no lease any more, and says meanwhile how it goes. If it is the node
    /// that is asked, it has gone when it does not answer any more.
    async fn until_gone(&self, node: &NodeId, is_own: bool) -> anyhow::Result<()> {
        let (mut said, mut failures) = (String::new(), 0);
        loop {
            match self.lease(node).await {
                Ok(Some(lease)) => {
                    failures = 0;
                    say(&lease, &mut said);
                    self.repeat(&lease).await;
                }
                Ok(None) if is_own => failures = 0,
                Ok(None) => return Ok(()),
                Err(_) if is_own && failures > 0 => return Ok(()),
                Err(error) if failures == FAILURES => return Err(error),
                Err(_) => failures += 1,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What nodes tell each other may be lost.
    async fn repeat(&self, lease: &NodeLease) {
        if lease.state == NodeState::Ready {
            // If it fails, so does the next look.
            drop(self.tell(Some(&lease.node)).await);
        }
    }

    /// Waits until the node takes nobody new; of another node than the one that is asked, until its
    /// lease says that it leaves.
    async fn until_announced(&self, node: &NodeId, is_own: bool) -> anyhow::Result<()> {
        loop {
            if is_own {
                let progress: Progress = self.get("drain").await?;
                if !matches!(progress.state.as_str(), "serving" | "announced") {
                    return Ok(());
                }
            } else {
                match self.lease(node).await? {
                    Some(lease) if lease.state == NodeState::Ready => self.repeat(&lease).await,
                    Some(_) | None => return Ok(()),
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Says how it goes, unless that is what was said before.
fn say(lease: &NodeLease, said: &mut String) {
    let state = match lease.state {
        NodeState::Ready => "has yet to hear of it",
        NodeState::Draining => "draining",
    };
    let now = format!("{}: {state}, {} left", lease.node, lease.connections);
    if now != *said {
        output::talk(&now);
        *said = now;
    }
}
