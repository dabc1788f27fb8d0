//! Running the suite.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::python::Python;
use super::verdict::{self, Verdict};

/// What is run at once.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// Patterns of case numbers. Each is run by a process of its own.
    cases: &'static [&'static str],
    except: &'static [&'static str],
}

/// Compression takes the suite minutes of its own CPU, so two cores share it. The other cases wait
/// half a second for an answer, so nothing else may run beside them.
pub(super) const PARTS: [Part; 2] = [
    Part { name: "everything but compression", cases: &["*"], except: &["12.*", "13.*"] },
    Part { name: "compression", cases: &["12.*", "13.*"], except: &[] },
];

/// The name the suite files its verdicts under.
pub(super) const AGENT: &str = "tidewire";

impl Part {
    /// Runs the cases against the server on `port`, and keeps reports and logs below `folder`.
    pub(super) fn run(&self, python: &Python, folder: &Path, port: u16) -> Result<Vec<Verdict>> {
        let mut running = Vec::new();
        for (at, cases) in self.cases.iter().enumerate() {
            let place = folder.join(format!("{} {at}", self.name).replace(' ', "-"));
            running.push(Running::start(python, place, &self.spec(cases, port))?);
        }
        let reports: Vec<_> = running.into_iter().map(Running::finish).collect();
        let verdicts = reports.into_iter().map(|report| verdict::read(&report?));
        Ok(verdicts.collect::<Result<Vec<_>>>()?.concat())
    }

    fn spec(&self, cases: &str, port: u16) -> serde_json::Value {
        json!({
            "outdir": "reports",
            "servers": [{ "agent": AGENT, "url": format!("ws://127.0.0.1:{port}") }],
            "cases": [cases],
            "exclude-cases": self.except,
            "exclude-agent-cases": {},
        })
    }
}

/// A client of the suite at work.
struct Running {
    child: Child,
    place: PathBuf,
}

impl Running {
    fn start(python: &Python, place: PathBuf, spec: &serde_json::Value) -> Result<Self> {
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(&place)?;
        fs::write(place.join("spec.json"), spec.to_string())?;
        let log = File::create(place.join("log"))?;
        let mut command: Command = python.wstest();
        command.args(["--mode", "fuzzingclient", "--spec", "spec.json"]).current_dir(&place);
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self { child: child.context("could not start wstest")?, place })
    }

    /// Waits, and says where the reports are.
    fn finish(mut self) -> Result<PathBuf> {
        let status = self.child.wait()?;
        let log = self.place.join("log");
        ensure!(status.success(), "wstest failed ({status}): see {}", log.display());
        Ok(self.place.join("reports"))
    }
}
