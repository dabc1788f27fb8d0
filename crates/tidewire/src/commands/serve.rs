use std::process::ExitCode;

use crate::cli::Serve;

pub(crate) fn run(_: &Serve) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`serve` is not built yet")
}
