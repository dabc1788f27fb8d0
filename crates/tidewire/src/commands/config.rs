use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;

use crate::cli::{ConfigCommand, ConfigFile, Init, Print};
use crate::config::{self, Loaded};
use crate::output::{self, SecretFile};

pub(crate) fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(file) => return check(&file),
        ConfigCommand::Print(print) => output::data(&shown(&print)?)?,
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&config::json_schema())?;
            output::data(&format!("{schema}\n"))?;
        }
        ConfigCommand::Init(init) => write_initial(&init)?,
        ConfigCommand::Docs => output::data(&config::reference())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the file and the environment of this process.
pub(crate) fn load(path: Option<&Path>) -> anyhow::Result<Loaded> {
    Ok(Loaded::load(path, variables()?.into_iter())?)
}

/// The variables of this process that may be ours. One that is not UTF-8 cannot be meant.
fn variables() -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TIDEWIRE_")) else {
            continue;
        };
        let value = value.into_string().map_err(|_| anyhow!("{name} is not UTF-8"))?;
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

fn check(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    load(file.path.as_deref())?.config.ready_to_serve()?;
    output::talk("configuration is valid");
    Ok(ExitCode::SUCCESS)
}

fn shown(print: &Print) -> anyhow::Result<String> {
    if print.what.defaults {
        return Ok(config::defaults());
    }
    let loaded = load(print.config.path.as_deref())?;
    if print.what.env {
        return Ok(config::environment_of(&loaded));
    }
    Ok(config::effective(&loaded, print.origin))
}

fn write_initial(init: &Init) -> anyhow::Result<()> {
    SecretFile::begin(init.output.as_deref())?.write(Some(config::initial_file()))
}
