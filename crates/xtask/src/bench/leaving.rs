//! `cargo xtask drain`: one of two nodes leaves under load, and what its clients notice is held
//! against what was promised.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::peers::{Profile, Workshop};
use super::promise::Promise;
use super::services::{Node, Services, url};

/// What to try.
#[derive(Debug, PartialEq)]
struct Trial {
    is_kill: bool,
    clients: u32,
    /// Clients of the node that stays, who see the others come; not among `clients`.
    bystanders: u32,
    profile: Profile,
}

/// As many clients as the promise names.
const CLIENTS: u32 = 10_000;
const CLIENTS_OF_A_KILL: u32 = 5_000;
/// Each has twenty subscribers with 10,000 clients.
const CHANNELS: &str = "500";
/// Publications a second.
const RATE: &str = "500";
/// Fields of loadtest's report that count what must not be.
const WRONGS: [(&str, &str); 9] = [
    ("check", "lost"),
    ("check", "duplicated"),
    ("check", "reordered"),
    ("check", "altered"),
    ("publish", "rejected"),
    ("publish", "unacknowledged"),
    ("connections", "reopened"),
    ("drain", "stranded"),
    ("drain", "auth_calls"),
];

/// Fails if something was promised and is not so.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let trial = Trial::parse(arguments)?;
    let workshop = Workshop::ours(root, trial.profile)?;
    let services = Services::start(&workshop)?;
    let (leaver, survivor) = (services.start_node_anywhere()?, services.start_node_anywhere()?);
    let report = trial.run(&workshop, &services, (&leaver, &survivor))?;
    let file = workshop.folder.join(if trial.is_kill { "kill.json" } else { "drain.json" });
    fs::write(&file, serde_json::to_string_pretty(&report)?)?;
    show(&report);
    let promises = trial.promises(&report);
    let broken = promises.iter().filter(|promise| !promise.is_kept()).count();
    for promise in &promises {
        println!("{promise}");
    }
    println!("\nall figures are in {}", file.display());
    ensure!(broken == 0, "{broken} of {} promises are broken", promises.len());
    Ok(())
}

impl Trial {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let is_kill = arguments.contains(&"--kill");
        let clients = if is_kill { CLIENTS_OF_A_KILL } else { CLIENTS };
        let mut trial = Self { is_kill, clients, bystanders: 0, profile: Profile::Release };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<u32> {
                let value = words.next().with_context(|| format!("`{word}` takes a value"))?;
                Ok(value.parse()?)
            };
            match *word {
                "--kill" => {}
                "--debug" => trial.profile = Profile::Debug,
                "--clients" => trial.clients = number()?,
                "--bystanders" => trial.bystanders = number()?,
                unknown => bail!("unknown option `{unknown}`"),
            }
        }
        ensure!(trial.clients > 0, "--clients is at least 1");
        Ok(trial)
    }

    /// Runs loadtest, which ends with a report whether everything held or not.
    fn run(
        &self,
        workshop: &Workshop,
        services: &Services,
        (leaver, survivor): (&Node, &Node),
    ) -> Result<Value> {
        let clients = (self.clients + self.bystanders).to_string();
        let mut command = Command::new(&workshop.loadtest);
        command.args(["drain", "--json", "--quiet", "--clients", &clients]);
        command.args(["--bystanders", &self.bystanders.to_string()]);
        command.args(["--channels", CHANNELS, "--rate", RATE, "--publishers", "8"]);
        command.args(["--duration", "45", "--connect-rate", "1000", "--settle", "30"]);
        command.args(["--leave-by", if self.is_kill { "kill" } else { "term" }]);
        command.args(["--leaver", &leaver.pid().to_string()]);
        command.args(["--pid", &survivor.pid().to_string()]);
        command.args(["--ops", &format!("http://{}", survivor.ops)]);
        command.args(["--url", &url(leaver.clients), "--url", &url(survivor.clients)]);
        command.args(["--tenant-key", &services.tenant_key()]);
        let output = command.stdin(Stdio::null()).output().context("cannot start loadtest")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("loadtest has no report: {}", errors.trim()))
    }

    fn promises(&self, report: &Value) -> Vec<Promise> {
        let seconds = |what: &str, (part, name): (&str, &str), most: f64| {
            Promise::new(what, report[part][name].as_f64(), most)
        };
        let p99_ms = |what: &str, name: &str, most: f64| {
            let p99 = report["drain"][name]["p99_us"].as_f64();
            Promise::new(what, p99.map(|microseconds| microseconds / 1e3), most)
        };
        let mut promises: Vec<Promise> =
            WRONGS.map(|(part, name)| seconds(name, (part, name), 0.0)).into();
        if self.is_kill {
            promises.push(seconds("all current after, s", ("drain", "current_after_s"), 15.0));
        } else {
            promises.push(seconds("ended after, s", ("drain", "exit_after_s"), 30.0));
            promises.push(p99_ms("added while moving, p99 of deliveries, ms", "added", 100.0));
            promises.push(p99_ms("gap of those apart, p99, ms", "gap", 1_000.0));
        }
        promises
    }
}

/// What is in the report besides promises, as loadtest names it.
fn show(report: &Value) {
    for part in ["connect", "publish", "deliver", "drain", "connections", "problems"] {
        let mut figures = BTreeMap::new();
        flatten(&mut figures, "", &report[part]);
        let figures: Vec<String> =
            figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        println!("{part:<12} {}", figures.join(", "));
    }
    println!("{:<12} {} cores\n", "tester", report["tester_cores"]);
}

fn flatten(into: &mut BTreeMap<String, String>, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(into, &name, value);
            }
        }
        Value::Null => {}
        Value::Number(number) if number.is_f64() => {
            into.insert(name.to_owned(), format!("{:.2}", number.as_f64().unwrap_or_default()));
        }
        value => {
            into.insert(name.to_owned(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_drain_is_of_ten_thousand_clients_and_a_kill_of_half_as_many() {
        assert_eq!(Trial::parse(&[]).unwrap().clients, 10_000);
        assert_eq!(Trial::parse(&["--kill"]).unwrap().clients, 5_000);
        let small = Trial::parse(&["--clients", "200", "--kill", "--debug"]).unwrap();
        assert_eq!((small.clients, small.is_kill, small.profile), (200, true, Profile::Debug));
        for wrong in [&["--clients"][..], &["--clients", "0"], &["--fast"]] {
            assert!(Trial::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_drain_that_went_well_keeps_every_promise() {
        let trial = Trial::parse(&[]).unwrap();

        assert!(trial.promises(&good()).iter().all(Promise::is_kept));
    }

    #[test]
    fn each_broken_promise_shows() {
        let trial = Trial::parse(&[]).unwrap();
        for path in [
            "/check/lost",
            "/drain/auth_calls",
            "/drain/exit_after_s",
            "/drain/added/p99_us",
            "/drain/gap/p99_us",
        ] {
            let mut report = good();
            *report.pointer_mut(path).unwrap() = json!(1_000_001);

            let broken = trial.promises(&report).iter().filter(|one| !one.is_kept()).count();

            assert_eq!(broken, 1, "{path}");
        }
    }

    #[test]
    fn what_was_not_measured_keeps_no_promise() {
        let trial = Trial::parse(&["--kill"]).unwrap();

        assert!(!trial.promises(&good()).iter().all(Promise::is_kept));
    }

    fn good() -> Value {
        json!({
            "check": { "lost": 0, "duplicated": 0, "reordered": 0, "altered": 0 },
            "publish": { "rejected": 0, "unacknowledged": 0 },
            "connections": { "reopened": 0 },
            "drain": {
                "stranded": 0, "auth_calls": 0, "exit_after_s": 18.5,
                "added": { "p99_us": 40_000 }, "gap": { "p99_us": 300_000 },
            },
        })
    }
}
