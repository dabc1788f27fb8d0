//! What the figures were measured on.

use std::fs;
use std::process::Command;

use super::stage::Stage;
use crate::process::read;

/// A paragraph about machine, versions and settings.
pub(super) fn describe(stage: &Stage) -> String {
    let options = &stage.options;
    let mut facts = vec![
        format!("{} cores of {}", cores(), processor()),
        format!("{} of memory", memory()),
        format!("Linux {}", said(Command::new("uname").arg("-r"))),
        format!("commit {}", commit(stage)),
        said(Command::new("date").args(["-u", "+%-d %B %Y"])),
    ];
    facts.extend(stage.workshop.versions().iter().cloned());
    format!(
        "{}. Best – worst of {} repeats of {} s, in turns; server on core {}, clients on core {}.",
        facts.join("; "),
        options.repeats,
        options.seconds,
        super::server::SERVER_CORE,
        super::swarm::CLIENT_CORE,
    )
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn processor() -> String {
    fact("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unknown processor".to_owned())
}

fn memory() -> String {
    fact("/proc/meminfo", "MemTotal").unwrap_or_else(|| "an unknown amount".to_owned())
}

fn commit(stage: &Stage) -> String {
    let mut git = Command::new("git");
    said(git.args(["describe", "--always", "--dirty"]).current_dir(&stage.root))
}

/// The value of `name : value` in a file of /proc.
fn fact(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(command: &mut Command) -> String {
    read(command).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
