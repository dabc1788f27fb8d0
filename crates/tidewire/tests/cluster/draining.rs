//! Nodes that leave, one way or another, while a crowd is at work.

use std::process::Stdio;
use std::time::Duration;

use tidewire_testkit::services::free_port;
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::crowd::{Crowd, Size};
use crate::ledger::Verdict;
use crate::scenarios::until_members;

/// At work for some seconds.
const SMALL: Size =
    Size { subscribers: 60, channels: 10, publications: 3_000, rest: Duration::from_millis(25) };
/// Its subscribers and two publishers for each channel.
const SESSIONS: usize = 60 + 20;

/// Row 4 of the failure matrix.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_in_any_state_of_its_drain_loses_nothing() {
    for state in ["announced", "refusing", "migrating", "settling", "flushing"] {
        let cluster = Cluster::start().await;
        let (mut a, b) = (cluster.node(), cluster.node());
        let mut crowd = Crowd::gather(SMALL, &a, &b).await;
        crowd.progress(0.2).await;

        a.terminate();
        if state == "settling" {
            a.line_with("drain: migrating");
            a.terminate();
        }
        a.line_with(&format!("drain: {state}"));
        a.kill();
        let report = crowd.disperse().await;

        assert_eq!(report.verdict, Verdict::default(), "{state}: {report:?}");
        // A publisher may have been through by then.
        assert!(report.resumed >= 30, "its subscribers moved: {state}: {report:?}");
        assert_eq!(report.begun_anew, SESSIONS, "every session went on: {state}: {report:?}");
    }
}

/// Row 5 of the failure matrix.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_restarted_node_by_node_and_nobody_loses_anything() {
    let cluster = Cluster::start().await;
    let ports: Vec<_> = (0..3).map(|_| free_port()).collect();
    let mut nodes: Vec<_> = ports.iter().map(|port| cluster.node_at(*port)).collect();
    // Long enough for three restarts, so that each finds everybody at work.
    let size = Size { publications: 4_000, rest: Duration::from_millis(100), ..SMALL };
    let mut crowd = Crowd::gather_at(size, &nodes.iter().collect::<Vec<_>>()).await;
    crowd.progress(0.1).await;

    for (place, port) in ports.into_iter().enumerate() {
        nodes[place].terminate();
        let status = nodes[place].ended().await;
        assert!(status.success(), "{status}");
        nodes[place] = cluster.node_at(port);
        until_members(&nodes[place], 3).await;
    }
    let report = crowd.disperse().await;

    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert!(report.resumed >= 60, "every subscriber had to move: {report:?}");
    assert_eq!(report.begun_anew, SESSIONS, "every session went on: {report:?}");
}

/// As Kubernetes ends a pod: its hook, then SIGTERM.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_after_an_operators_wish_hurries_nobody() {
    let cluster = Cluster::start().await;
    let (mut a, b) = (cluster.node(), cluster.node());
    until_members(&b, 2).await;
    let mut crowd = Crowd::gather(SMALL, &a, &b).await;
    crowd.progress(0.2).await;

    let hook = Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(["drain", "--url", &a.ops("")])
        .kill_on_drop(true)
        .output()
        .await
        .expect("the program runs");
    a.line_with("leaving: an operator");
    a.terminate();
    let heeded = a.line_with("SIGTERM");
    let status = a.ended().await;
    let report = crowd.disperse().await;

    assert!(hook.status.success(), "{hook:?}");
    assert!(heeded.contains("leaving already"), "{heeded}");
    assert!(status.success(), "{status}");
    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert_eq!(report.begun_anew, SESSIONS, "every session went on: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_know_one_node_are_told_of_the_other_and_lose_nothing() {
    let cluster = Cluster::start().await;
    let (mut a, b) = (cluster.advertised_node(), cluster.advertised_node());
    until_members(&a, 2).await;
    let mut crowd = Crowd::gather_at(SMALL, &[&a]).await;
    crowd.progress(0.2).await;

    a.terminate();
    let status = a.ended().await;
    let report = crowd.disperse().await;

    assert!(status.success(), "{status}");
    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    // A publisher may have been through by then.
    assert!(report.resumed >= 60, "every subscriber found the other: {report:?}");
    assert_eq!(report.begun_anew, SESSIONS, "every session went on: {report:?}");
    drop(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_by_name_through_another() {
    let cluster = Cluster::start().await;
    let (mut a, b) = (cluster.node(), cluster.node());
    until_members(&b, 2).await;
    let mut crowd = Crowd::gather(SMALL, &a, &b).await;
    crowd.progress(0.2).await;

    let told = Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(["drain", &a.name, "--wait", "--url", &b.ops("")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the program runs");
    let status = a.ended().await;
    let report = crowd.disperse().await;

    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&told.stdout), format!("{}\n", a.name));
    assert!(said.contains("draining"), "{said}");
    assert!(status.success(), "{status}");
    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert_eq!(report.begun_anew, SESSIONS, "every session went on: {report:?}");

    let unknown = Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(["drain", "nobody", "--url", &b.ops("")])
        .output()
        .await
        .expect("the program runs");
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody"), "{unknown:?}");
}
