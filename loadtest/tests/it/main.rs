//! The program as a person runs it.

mod dev;
mod help;
mod options;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The program under test.
fn loadtest(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A `tidewire dev` on a port of its choice; killed when dropped.
struct Dev {
    child: Child,
    url: String,
}

impl Dev {
    fn start() -> Self {
        let mut child = Command::new(tidewire())
            .args(["dev", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tidewire runs");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let url = stdout
            .lines()
            .map(|line| line.expect("tidewire prints text"))
            .find_map(|line| {
                Some(format!("ws://{}", line.split("ws://").nth(1)?.split('/').next()?))
            })
            .expect("tidewire prints its address");
        Self { child, url }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn kill(&mut self) {
        self.child.kill().expect("an unreaped child can be killed");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Cargo builds it for its own package's tests only, but beside this one.
fn tidewire() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("target/debug/deps/it");
    let program = folder.join("tidewire");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build -p tidewire` first",
        program.display()
    );
    program
}
