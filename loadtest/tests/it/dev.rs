use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ExitStatus, Stdio};

use serde_json::Value;

use crate::{Dev, loadtest};

#[test]
fn every_publication_reaches_every_subscriber_in_json() {
    assert_all_arrives("json");
}

#[test]
fn every_publication_reaches_every_subscriber_in_protobuf() {
    assert_all_arrives("protobuf");
}

fn assert_all_arrives(codec: &str) {
    let dev = Dev::start();
    // 80 subscriptions, evenly on 8 channels: each publication goes to 10 subscribers.
    let arguments = "--dev --clients 40 --channels 8 --subscriptions-per-client 2 --publishers 3 \
                     --rate 0 --count 3000 --warmup 0 --settle 60 --json --quiet";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.extend(["--url", &dev.url, "--codec", codec]);

    let output = loadtest(&arguments).output().expect("it runs");

    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(output.stderr, b"", "quiet is quiet");
    assert_eq!(report["publish"]["acknowledged"], 3_000);
    assert_eq!(report["connect"]["ready"], 43);
    assert_eq!(report["check"]["received"], 30_000);
    for wrong in ["lost", "duplicated", "reordered", "altered", "gaps"] {
        assert_eq!(report["check"][wrong], 0, "{wrong}");
    }
}

#[test]
fn a_rate_is_kept_and_the_server_observed() {
    let dev = Dev::start();
    let pid = dev.pid();
    let arguments = "--dev --clients 20 --channels 2 --rate 200 --warmup 1 --duration 2 --json";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.extend(["--url", &dev.url, "--pid", &pid]);

    let output = loadtest(&arguments).output().expect("it runs");

    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    // Two seconds of 200 a second to 10 subscribers each.
    assert_eq!(report["publish"]["published"], 600);
    assert_eq!(report["deliver"]["latency_from_due"]["count"], 4_000);
    assert_eq!(report["seconds"].as_array().map(Vec::len), Some(3));
    assert!(report["server"]["resident_bytes_connected"].as_u64() > Some(1 << 20));
    assert!(report["server"]["cpu_us_per_delivery"].is_f64());
}

#[test]
fn a_server_that_dies_fails_the_run() {
    let mut dev = Dev::start();
    let arguments = "--dev --clients 20 --rate 200 --warmup 0 --duration 4 --settle 1 --json";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    let url = dev.url.clone();
    arguments.extend(["--url", &url]);

    let (status, report) = run_until_first_second(&arguments, || dev.kill());

    assert_eq!(status.code(), Some(1), "{report:#}");
    assert_eq!(report["holds"], false);
    assert!(report["publish"]["unacknowledged"].as_u64() > Some(0), "{report:#}");
    assert_eq!(report["connections"]["lost"], 22);
}

/// Runs the program, and does something when it has shown its first second.
fn run_until_first_second(arguments: &[&str], act: impl FnOnce()) -> (ExitStatus, Value) {
    let mut run =
        loadtest(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stderr = BufReader::new(run.stderr.take().expect("it is piped")).lines();
    let second = stderr.find(|line| line.as_ref().is_ok_and(|line| line.contains("1 s")));
    assert!(second.is_some(), "it shows its seconds");
    act();
    let mut report = String::new();
    let mut stdout = run.stdout.take().expect("it is piped");
    // Reading on keeps it from waiting for room.
    stderr.for_each(drop);
    stdout.read_to_string(&mut report).expect("a report is text");
    let status = run.wait().expect("a child can be waited for");
    (status, serde_json::from_str(&report).expect("a report"))
}
