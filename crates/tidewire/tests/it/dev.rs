//! A node in memory that is stopped, or killed, and started again under its clients.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use tidewire_client::{Channel, Client, Happening, Options, Payload, Since};
use tidewire_model::{Gap, GapReason, Recovery, Subscribed};
use tidewire_testkit::services::free_port;
use tidewire_transport::http::request;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::command::{path, program, text};

/// Whatever has not happened by then will not.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many publications before the node is stopped, and after it is back.
const MANY: u64 = 100;
/// Unacknowledged publications under way.
const WINDOW: usize = 16;
const REST: Duration = Duration::from_millis(2);
const LAST: &str = "\"last\"";

#[tokio::test]
async fn clients_of_a_node_in_memory_that_is_restarted_resume_and_miss_nothing() {
    let directory = TempDir::new().expect("a directory");
    let state = directory.path().join("state");
    let node = Node::start(&address_to_keep(), &state);
    let mut subscriber = node.client().await;
    subscriber.subscribe(channel(), Since::Now);
    until(&mut subscriber, |happening| matches!(happening, Happening::Subscribed(_))).await;
    let (progress, mut acknowledged) = watch::channel(0);
    let (restarted, has_restarted) = watch::channel(false);
    let publisher = node.client().await;

    let restart = async {
        acknowledged.wait_for(|count| *count >= MANY).await.expect("it publishes");
        let address = node.address.clone();
        let status = node.stop().await;
        let left = std::fs::read_to_string(&state).expect("it has left its state");
        let node = Node::start(&address, &state);
        restarted.send_replace(true);
        (node, status, left)
    };
    let ((_node, status, left), (last, sent), heard) =
        tokio::join!(restart, publish_on(publisher, progress, has_restarted), hear(subscriber));

    assert!(status.success(), "{status}");
    assert!(left.contains("\"publication\""));
    assert_eq!((heard.gaps, heard.begun_anew, sent.begun_anew), (vec![], 0, 1));
    assert!(heard.resumed >= 1 && sent.resumed >= 1);
    assert_eq!(heard.numbers, (1..=last).collect::<Vec<_>>());
    let kept = std::fs::read_to_string(&state).expect("it is there");
    assert!(!kept.contains("\"publication\""), "a crash must not bring it back");
}

#[tokio::test]
async fn after_a_crash_clients_of_a_node_in_memory_are_told_that_its_state_is_lost() {
    let directory = TempDir::new().expect("a directory");
    let state = directory.path().join("state");
    let node = Node::start(&address_to_keep(), &state);
    let address = node.address.clone();
    let mut client = node.client().await;
    client.subscribe(channel(), Since::Now);
    until(&mut client, |happening| matches!(happening, Happening::Subscribed(_))).await;
    say(&mut client, 1).await;
    node.stop().await;

    // It goes on from its state, which must not come back after that.
    let mut node = Node::start(&address, &state);
    say(&mut client, 2).await;
    node.child.kill().expect("it runs");
    node.child.wait().expect("it has gone");
    let _node = Node::start(&address, &state);
    let told = until(&mut client, |happening| {
        matches!(happening, Happening::Subscribed(_) | Happening::Publication { .. })
    });

    let Happening::Subscribed(told) = told.await else { panic!("told before anything else") };
    assert_eq!(told.recovery, Recovery::Failed(GapReason::Reset));
}

#[tokio::test]
async fn a_state_that_cannot_be_used_is_put_aside_with_a_warning_and_the_node_starts() {
    let directory = TempDir::new().expect("a directory");
    let state = directory.path().join("state");
    let newer = "{\"header\":{\"version\":2}}\n";
    std::fs::write(&state, newer).expect("written");

    let mut node = Node::start_with("127.0.0.1:0", &state, Stdio::piped());
    node.client().await;
    let log = node.child.stderr.take().expect("piped");
    let status = node.stop().await;
    let log = std::io::read_to_string(log).expect("text");

    assert!(status.success(), "{status}");
    assert!(log.contains("it is of version 2, and this program reads version 1"), "{log}");
    let aside = std::fs::read_to_string(directory.path().join("state.unread"));
    assert_eq!(aside.expect("it is kept"), newer);
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_state_and_a_second_node_does_not_share_it() {
    let directory = TempDir::new().expect("a directory");
    let state = directory.path().join("state");
    let node = Node::start("127.0.0.1:0", &state);
    let mut client = node.client().await;
    client.subscribe(channel(), Since::Now);
    until(&mut client, |happening| matches!(happening, Happening::Subscribed(_))).await;
    say(&mut client, 1).await;

    let of_first = node.address.clone();
    let second = crate::command::tidewire(&["dev", "--listen", &of_first, "--state", path(&state)]);
    node.stop().await;
    let left = std::fs::read(&state).expect("it has left its state");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = taken.local_addr().expect("bound").to_string();
    let failed = crate::command::tidewire(&["dev", "--listen", &listen, "--state", path(&state)]);

    assert_eq!([second.status.code(), failed.status.code()], [Some(1); 2]);
    let said = [second, failed].map(|output| text(&output.stderr));
    assert!(said[0].contains("another node uses it"), "{}", said[0]);
    assert!(said[1].contains(&format!("cannot listen on {listen}")), "{}", said[1]);
    assert_eq!(std::fs::read(&state).expect("it is there"), left);
}

#[test]
fn a_state_that_could_not_be_written_is_no_start() {
    // Taken, so that whoever got so far would not stay.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = listener.local_addr().expect("bound").to_string();

    let output =
        crate::command::tidewire(&["dev", "--listen", &listen, "--state", "/nowhere/at/all"]);

    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("--state /nowhere/at/all: cannot be written"), "{said}");
}

#[tokio::test]
async fn a_node_that_serves_and_has_not_said_so_yet_leaves_when_it_is_told_to() {
    let (output, mut said) = pipe::pipe().expect("a pipe");
    // It serves before it can write what it has to say.
    output.writable().await.expect("a pipe");
    while output.try_write(&[b'\n'; 4_096]).is_ok() {}
    let listen = address_to_keep();
    let mut dev = tokio::process::Command::from(program());
    dev.args(["dev", "--listen", &listen]).kill_on_drop(true);
    let output = output.into_blocking_fd().expect("a pipe");
    let mut child = dev.stdout(output).stderr(Stdio::null()).spawn().expect("it starts");
    drop(dev);
    until_it_serves(&listen).await;

    terminate(child.id().expect("it runs"));
    let mut text = String::new();
    let leaving = async { tokio::join!(said.read_to_string(&mut text), child.wait()) };
    let (read, status) = timeout(PATIENCE, leaving).await.expect("it leaves");

    let status = status.expect("it can be waited for");
    assert!(status.success(), "{status}");
    assert!(read.is_ok() && text.contains(TOKEN), "{text}");
}

/// Where a node that is started again finds it free: of the ports that the system gives out, a client that
/// keeps trying there may be given that very one, and then be connected to itself.
fn address_to_keep() -> String {
    format!("127.0.0.1:{}", free_port())
}

async fn until_it_serves(address: &str) {
    let url = format!("http://{address}/healthz");
    let asking = async {
        while request(Method::GET, &url, &[], "").await.is_err() {
            tokio::time::sleep(REST).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it serves");
}

/// SIGTERM.
fn terminate(process: u32) {
    let sent = Command::new("kill").args(["-TERM", &process.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// What a client was told.
#[derive(Debug, Default)]
struct Heard {
    numbers: Vec<u64>,
    acknowledged: u64,
    gaps: Vec<GapReason>,
    resumed: u32,
    begun_anew: u32,
}

impl Heard {
    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Publication { publication, .. } => {
                let text = String::from_utf8(publication.payload.bytes().to_vec()).expect("text");
                self.numbers.push(text.parse().expect("a number"));
            }
            Happening::Published { .. } => self.acknowledged += 1,
            Happening::Gap { gap: Gap { reason, .. }, .. }
            | Happening::Subscribed(Subscribed { recovery: Recovery::Failed(reason), .. }) => {
                self.gaps.push(reason);
            }
            Happening::Connected { resumed: true, .. } => self.resumed += 1,
            Happening::Connected { resumed: false, .. } => self.begun_anew += 1,
            _ => {}
        }
    }
}

/// Hears until the last publication has come.
async fn hear(mut client: Client) -> Heard {
    let mut heard = Heard::default();
    loop {
        let happening = next(&mut client).await;
        let is_last = matches!(&happening, Happening::Publication { publication, .. }
            if publication.payload.bytes() == LAST);
        if is_last {
            return heard;
        }
        heard.take(happening);
    }
}

/// Publishes 1, 2 and so on until the node has been restarted, and some after that, and says how many.
async fn publish_on(
    mut client: Client,
    progress: watch::Sender<u64>,
    has_restarted: watch::Receiver<bool>,
) -> (u64, Heard) {
    let (mut heard, mut count, mut last) = (Heard::default(), 0, None);
    while last != Some(count) {
        if *has_restarted.borrow() {
            last.get_or_insert(count + MANY);
        }
        if client.unacknowledged() < WINDOW {
            count += 1;
            publish(&mut client, &count.to_string());
        }
        heard.take(next(&mut client).await);
        progress.send_replace(heard.acknowledged);
        // No faster, so that it is still at it when the node stops.
        tokio::time::sleep(REST).await;
    }
    publish(&mut client, LAST);
    while client.unacknowledged() > 0 {
        heard.take(next(&mut client).await);
    }
    (count, heard)
}

/// Publishes a number and waits until it has come back and is acknowledged.
async fn say(client: &mut Client, number: u64) {
    publish(client, &number.to_string());
    let mut heard = Heard::default();
    while heard.numbers != [number] || heard.acknowledged == 0 {
        heard.take(next(client).await);
    }
}

async fn until(client: &mut Client, is_it: impl Fn(&Happening) -> bool) -> Happening {
    loop {
        let happening = next(client).await;
        if is_it(&happening) {
            return happening;
        }
    }
}

async fn next(client: &mut Client) -> Happening {
    timeout(PATIENCE, client.next()).await.expect("in time").expect("it may go on")
}

fn publish(client: &mut Client, text: &str) {
    let payload = Payload::json(text.to_owned().into()).expect("JSON");
    client.publish(channel(), payload).expect("there is room");
}

fn channel() -> Channel {
    Channel::parse("room").expect("valid")
}

/// A `tidewire dev` of its own. Dropping it kills the process.
struct Node {
    child: Child,
    address: String,
    token: String,
    /// Closed, it would end what writes to it.
    _stdout: BufReader<ChildStdout>,
}

impl Node {
    fn start(listen: &str, state: &Path) -> Self {
        Self::start_with(listen, state, Stdio::null())
    }

    fn start_with(listen: &str, state: &Path, stderr: Stdio) -> Self {
        let mut dev = program();
        dev.args(["dev", "--listen", listen, "--state", path(state)]);
        let mut child = dev.stdout(Stdio::piped()).stderr(stderr).spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (mut address, mut token) = (String::new(), String::new());
        while token.is_empty() {
            let mut line = String::new();
            assert_ne!(stdout.read_line(&mut line).expect("text"), 0, "it does not start");
            if let Some((url, bearer)) =
                line.trim().strip_prefix(URL).and_then(|rest| rest.split_once(TOKEN))
            {
                (address, token) = (url.to_owned(), bearer.to_owned());
            }
        }
        Self { child, address, token, _stdout: stdout }
    }

    async fn client(&self) -> Client {
        let options = Options::new(format!("ws://{}", self.address), self.token.clone());
        Client::connect(options).await.expect("it connects")
    }

    /// SIGTERM. Waits until it has gone.
    async fn stop(mut self) -> ExitStatus {
        terminate(self.child.id());
        let gone = tokio::task::spawn_blocking(move || self.child.wait());
        gone.await.expect("no panic").expect("it can be waited for")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The line with both, which is there to be pasted.
const URL: &str = "export TIDEWIRE_URL=ws://";
const TOKEN: &str = " TIDEWIRE_TOKEN=";
