use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigFile;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with a configuration; exits with 1 if anything is
    Check(ConfigFile),
    /// Show the configuration, secrets masked
    Print(Print),
    /// Print the JSON Schema of the file
    Schema,
    /// Write a small file with fresh secrets that works as it stands
    Init(Init),
    /// Print the reference of all keys in Markdown
    Docs,
}

#[derive(Args, Debug)]
pub struct Print {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub what: Shown,
    /// Add where each value comes from
    #[arg(long)]
    pub origin: bool,
}

/// What to show: at most one of these.
#[derive(Args, Debug)]
pub struct Shown {
    /// Every key with its meaning and default, as a file
    #[arg(long, conflicts_with_all = ["effective", "env", "origin"])]
    pub defaults: bool,
    /// What is in effect, as a file (this is what happens without any of these options)
    #[arg(long, conflicts_with = "env")]
    pub effective: bool,
    /// What is in effect, as environment variables
    #[arg(long, conflicts_with = "origin")]
    pub env: bool,
}

#[derive(Args, Debug)]
pub struct Init {
    /// File to write, readable by its owner only; it must not exist [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
}
