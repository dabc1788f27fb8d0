//! Who follows docs/tenants.md to the letter.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::command::{path, program, text};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tenants.md");

#[test]
fn what_the_page_on_tenants_says_is_what_happens() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let directory = TempDir::new().expect("a directory");
    let node = Node::start();

    let mut steps = 0;
    for (command, expected) in blocks(&page) {
        let said = node.run(&command, directory.path());
        assert!(is_as(&said, &expected), "$ {command}\n{said}\ninstead of\n{expected}");
        steps += 1;
    }

    assert!(steps >= 20, "only {steps} steps were found");
}

/// Commands of `console` blocks, each with what it is to say.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("it ends");
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push((command.to_owned(), String::new()));
                continue;
            }
            let (_, expected) = steps.last_mut().expect("a command comes first");
            expected.push_str(line);
            expected.push('\n');
        }
    }
    steps
}

/// Whether it was said, where `…` stands for anything within a line.
fn is_as(said: &str, expected: &str) -> bool {
    let (said, expected): (Vec<_>, Vec<_>) = (said.lines().collect(), expected.lines().collect());
    let is_line = |(said, expected): (&&str, &&str)| {
        let mut rest = *said;
        let mut parts = expected.split('…');
        let starts = parts.next().is_some_and(|first| match rest.strip_prefix(first) {
            Some(after) => {
                rest = after;
                true
            }
            None => false,
        });
        let goes_on = parts.all(|part| match (part, rest.rfind(part)) {
            ("", _) => {
                rest = "";
                true
            }
            (part, Some(at)) => {
                rest = &rest[at + part.len()..];
                true
            }
            (_, None) => false,
        });
        starts && goes_on && rest.is_empty()
    };
    said.len() == expected.len() && said.iter().zip(&expected).all(is_line)
}

#[test]
fn dots_stand_for_anything_within_a_line_and_for_nothing_else() {
    assert!(is_as("abc:1\nx\n", "…:1\nx"));
    assert!(is_as("{\"epoch\":\"e\",\"offset\":2}", "{\"epoch\":\"…\",\"offset\":2}"));
    assert!(is_as("dev-1", "dev-…") && is_as("", ""));
    for (said, expected) in
        [("abc:2", "…:1"), ("abc:1x", "…:1"), ("a\nb", "a"), ("", "a"), ("xdev-1", "dev-…")]
    {
        assert!(!is_as(said, expected), "{said} for {expected}");
    }
}

/// A node that the page's reader has left running.
struct Node {
    child: Child,
    clients: String,
    admin: String,
}

impl Node {
    fn start() -> Self {
        let mut child = program()
            .args(["dev", "--listen", "127.0.0.1:0"])
            .env("TIDEWIRE_LOG__LEVEL", "error")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut exported = |name: &str| {
            let mut lines = lines.by_ref().map(|line| line.expect("text"));
            let value = |line: String| {
                let (_, value) = line.split_once(&format!("export {name}="))?;
                value.split(' ').next().map(str::to_owned)
            };
            lines.find_map(value).expect("it says where it is")
        };
        let (clients, admin) = (exported("TIDEWIRE_URL"), exported("TIDEWIRE_ADMIN"));
        Self { child, clients, admin }
    }

    /// What a command says, on either output.
    fn run(&self, command: &str, directory: &Path) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_tidewire")).parent().expect("a directory");
        let usual = std::env::var("PATH").unwrap_or_default();
        let http = self.clients.replace("ws://", "http://");
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {command}; }} 2>&1").replace("http://127.0.0.1:8000", &http)])
            .current_dir(directory)
            .env_clear()
            .env("PATH", format!("{}:{usual}", path(program)))
            .env("TIDEWIRE_URL", &self.clients)
            .env("TIDEWIRE_ADMIN", &self.admin)
            .output()
            .expect("a shell");
        text(&output.stdout)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
