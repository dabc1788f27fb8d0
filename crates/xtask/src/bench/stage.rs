//! Where contenders take turns.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::goal::{Figure, Outcome, Row, Target};
use super::options::Options;
use super::peers::{Contender, Workshop};
use super::server::{Server, free_address};
use super::swarm::{self, Record, Task};

pub(super) struct Stage {
    pub(super) root: PathBuf,
    pub(super) options: Options,
    pub(super) workshop: Workshop,
    pub(super) rows: Vec<Row>,
}

/// The records of all repeats, by who and in which phase.
#[derive(Default)]
pub(super) struct Results {
    records: BTreeMap<(Contender, String), Vec<Record>>,
    /// Why there are none.
    failures: BTreeMap<Contender, String>,
}

/// One figure beside another.
pub(super) struct Comparison<'a> {
    pub(super) goal: &'static str,
    pub(super) what: &'a str,
    pub(super) ours: (Contender, &'a str),
    pub(super) reference: (Contender, &'a str),
    pub(super) target: Target,
}

impl Stage {
    pub(super) fn new(root: &Path, options: Options, workshop: Workshop) -> Result<Self> {
        let load = fs::read_to_string("/proc/loadavg").context("this is not Linux")?;
        println!("load before: {}", load.trim());
        Ok(Self { root: root.to_owned(), options, workshop, rows: Vec::new() })
    }

    /// Starts a contender and lets the swarm do its task with it.
    pub(super) fn perform(&self, contender: Contender, task: &Task) -> Result<Vec<Record>> {
        let server = self.start(contender)?;
        let access = if contender.is_ours() {
            vec!["--dev".to_owned(), server.address.to_string()]
        } else {
            Vec::new()
        };
        let target = swarm::Target {
            address: server.address,
            publisher_address: server.address,
            dialect: contender.dialect(),
            access,
            pids: vec![server.pid()],
        };
        swarm::run(&self.workshop.loadtest, &target, task)
    }

    pub(super) fn start(&self, contender: Contender) -> Result<Server> {
        let program = self.workshop.program(contender)?;
        if contender == Contender::Nats {
            return self.start_nats(program);
        }
        Server::announced(program).with_context(|| format!("{} does not start", contender.name()))
    }

    /// With a WebSocket listener, which takes a file.
    fn start_nats(&self, program: &Command) -> Result<Server> {
        let address = free_address()?;
        let file = self.workshop.folder.join("nats-websocket.conf");
        let text = format!(
            "host: \"127.0.0.1\"\nport: -1\nwebsocket {{ listen: \"{address}\", no_tls: true }}\n"
        );
        fs::write(&file, text)?;
        let mut command = Command::new(program.get_program());
        command.arg("-c").arg(file);
        Server::told(&command, address)
    }

    /// Lets them take turns, as often as the options say.
    pub(super) fn take_turns(&self, contenders: &[Contender], task: &Task) -> Results {
        let mut results = Results::default();
        for repeat in 1..=self.options.repeats {
            for contender in contenders {
                if results.failures.contains_key(contender) {
                    continue;
                }
                let (name, phases) = (contender.name(), task.phases);
                println!("{repeat}: {name}, {} connections, {phases}", task.connections);
                results.keep(*contender, self.perform(*contender, task));
            }
        }
        results
    }

    pub(super) fn add(&mut self, row: Row) {
        println!("  {}", row.cells().join(" | "));
        self.rows.push(row);
    }
}

impl Results {
    pub(super) fn keep(&mut self, contender: Contender, outcome: Result<Vec<Record>>) {
        match outcome {
            Ok(records) => {
                for record in records {
                    let key = (contender, record.phase().to_owned());
                    self.records.entry(key).or_default().push(record);
                }
            }
            Err(why) => {
                println!("  {}: {why:#}", contender.name());
                self.failures.insert(contender, format!("{why:#}"));
            }
        }
    }

    /// One figure of all repeats of a phase.
    pub(super) fn figure(
        &self,
        contender: Contender,
        phase: &str,
        value: impl Fn(&Record) -> f64,
        unit: &'static str,
    ) -> Result<Figure> {
        if let Some(why) = self.failures.get(&contender) {
            bail!("{why}");
        }
        let records = self.records.get(&(contender, phase.to_owned()));
        let values: Vec<f64> = records.into_iter().flatten().map(value).collect();
        Figure::of(&values, unit).with_context(|| format!("no {phase} of {}", contender.name()))
    }

    /// Processor time for each of what the field `per` of a record counts, against a reference.
    pub(super) fn compare(&self, comparison: &Comparison<'_>, per: &str) -> Row {
        let Comparison { goal, what, ours, reference, target } = *comparison;
        let figure =
            |(contender, phase)| self.figure(contender, phase, |record| record.cpu_per(per), "µs");
        match (figure(ours), figure(reference)) {
            (Ok(ours), Ok(figure)) => {
                let name = reference.0.name().to_owned();
                let outcome = Outcome::Compared { ours, reference: figure, name, target };
                Row { goal, what: what.to_owned(), outcome }
            }
            (Err(why), _) | (_, Err(why)) => Row::not_measured(goal, what, why),
        }
    }
}

/// A figure against a limit.
pub(super) fn limited(goal: &'static str, what: &str, figure: Result<Figure>, most: f64) -> Row {
    match figure {
        Ok(ours) => {
            let outcome = Outcome::Alone { ours, target: Target::AtMost(most) };
            Row { goal, what: what.to_owned(), outcome }
        }
        Err(why) => Row::not_measured(goal, what, why),
    }
}
