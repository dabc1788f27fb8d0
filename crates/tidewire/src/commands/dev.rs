use std::process::ExitCode;

use crate::cli::Dev;

pub(crate) fn run(_: &Dev) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`dev` is not built yet")
}
