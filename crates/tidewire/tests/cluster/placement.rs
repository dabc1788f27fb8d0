//! Nodes that send clients where they are better off.

use std::time::Duration;

use serde_json::Value;
use tidewire_transport::http::request;

use crate::cluster::{Cluster, NodeProcess};
use crate::crowd::{Crowd, Size};
use crate::ledger::Verdict;
use crate::scenarios::until_members;

const SMALL: Size =
    Size { subscribers: 60, channels: 10, publications: 4_000, rest: Duration::from_millis(25) };
/// Its subscribers and two publishers for each channel.
const SESSIONS: usize = 60 + 20;
/// Half of them, less what is tolerated above a share: 10, and some more by the time they are few.
const SHED: usize = 25;
/// Subscribers of one tenant, at least: there are three.
const OF_A_TENANT: usize = 18;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_land_elsewhere_find_their_tenants_home_and_lose_nothing() {
    let cluster = Cluster::start().await;
    let nodes = ["one", "two", "three"].map(|slot| node_in(slot, "redirect = \"on\"\n", &cluster));
    for node in &nodes {
        until_members(node, 3).await;
    }
    // A tenant has two homes, so that one of the three is none.
    let homes = homes_of("acme", &nodes[0]).await;
    let elsewhere = nodes.iter().find(|node| !homes.contains(&node.name)).expect("two are homes");

    let crowd = Crowd::gather_at(SMALL, &[elsewhere]).await;
    let report = crowd.disperse().await;

    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert!(report.resumed >= OF_A_TENANT, "they have moved: {report:?}");
    assert_eq!(report.begun_anew, SESSIONS, "with their sessions: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_all_clients_sheds_half_of_them_and_nobody_loses_anything() {
    let cluster = Cluster::start().await;
    let hasty = "rebalance = \"on\"\nrebalance_rate = 10000\nrebalance_after = \"1s\"\n";
    let [full, empty] = ["one", "two"].map(|slot| node_in(slot, hasty, &cluster));
    until_members(&full, 2).await;
    // At work for long enough that shedding, which others that do not keep up hold up, is through.
    let size = Size { publications: 6_000, rest: Duration::from_millis(100), ..SMALL };

    let crowd = Crowd::gather_at(size, &[&full]).await;
    let report = crowd.disperse().await;

    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert!(report.resumed >= SHED, "they have moved: {report:?}");
    assert_eq!(report.begun_anew, SESSIONS, "with their sessions: {report:?}");
    drop(empty);
}

/// A node that clients can be sent to, with these settings of placement.
fn node_in(slot: &str, placement: &str, cluster: &Cluster) -> NodeProcess {
    let settings = format!("[node]\nslot = \"{slot}\"\n[placement]\n{placement}");
    cluster.advertised_node_with(&settings)
}

async fn homes_of(tenant: &str, node: &NodeProcess) -> Vec<String> {
    let url = node.ops(&format!("/placement/{tenant}"));
    let answer = request(http::Method::GET, &url, &[], "").await.expect("the node answers");
    let placed: Value = serde_json::from_slice(&answer.body).expect("json");
    let homes = placed["homes"].as_array().expect("a list").iter();
    homes.map(|home| home["node"].as_str().expect("a name").to_owned()).collect()
}
