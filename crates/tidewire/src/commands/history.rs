use std::process::ExitCode;

use crate::cli::History;

pub(crate) fn run(_: &History) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`history` is not built yet")
}
