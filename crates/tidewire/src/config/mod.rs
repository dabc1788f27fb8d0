//! The configuration: read from a file and the environment, checked as a whole.
//!
//! Start from [`Config::load`]. [`document::Document`] is what may be written down; everything else
//! an operator meets (the JSON Schema, the environment variables, the reference, the suggestions)
//! is derived from it. [`Config`] is what it means: holding one is proof that every value is valid.
//!
//! 1. The environment overrides the file, the file overrides the defaults.
//! 2. All problems are reported at once, each with its place and no secret in it.
//! 3. Nothing here looks at the process: variables are passed in.

mod check;
pub mod document;
mod draft;
mod environment;
mod init;
mod print;
mod problem;
mod reference;
mod schema;
mod secret_file;
mod settings;
mod source;
mod suggestion;

use std::path::Path;

pub use environment::COMMAND_LINE;
pub use init::initial_file;
pub use print::{defaults, effective, environment_of};
pub use problem::{ConfigError, Origin, Problem};
pub use reference::reference;
pub use schema::json_schema;
pub use secret_file::read_text as read_secret;
pub use settings::{
    Config, Drain, Issuers, Listen, Nats, NatsLogin, Redis, RedisLogin, RedisTopology, Registry,
    Server, Session, Tls, TlsFiles, generated_node_id, slot_of,
};
pub use source::Place;
pub use tidewire_tenant::{InvalidPeriod, MASK, Period, Secret};

pub use document::LogFormat;

use document::Document;
use draft::Draft;

/// A valid configuration together with how it came about.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// As written, defaults included; secrets in files are not in it.
    pub document: Document,
    draft: Draft,
}

impl Loaded {
    /// Where the value at a path such as `server.listen` comes from.
    pub fn origin(&self, path: &str) -> Origin {
        self.draft.origin(path)
    }
}

impl Config {
    /// Reads the file at `path`, if there is one, and lays the variables over it.
    ///
    /// Blocks on reading that file and the secrets it names. Variables that do not start with
    /// `TIDEWIRE_` are ignored, as are empty ones.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Loaded::load(path, environment).map(|loaded| loaded.config)
    }
}

impl Loaded {
    /// As [`Config::load`], keeping what is needed to show where each value comes from.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut draft = Draft::default();
        if let Some(path) = path {
            draft.read_file(path);
        }
        draft.read_environment(environment);
        let resolved = secret_file::read_all(&mut draft);
        let config =
            draft.document(resolved).and_then(|document| settings::check(&document, &mut draft));
        let written = draft.table.clone();
        match (config, draft.document(written)) {
            (Some(config), Some(document)) if draft.problems.is_empty() => {
                Ok(Self { config, document, draft })
            }
            _ => Err(ConfigError { problems: draft.problems }),
        }
    }
}
