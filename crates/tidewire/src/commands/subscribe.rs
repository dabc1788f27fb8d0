use std::process::ExitCode;

use crate::cli::Subscribe;

pub(crate) fn run(_: &Subscribe) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`sub` is not built yet")
}
