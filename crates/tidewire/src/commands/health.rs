use std::process::ExitCode;

use crate::cli::Health;

pub(crate) fn run(_: &Health) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`health` is not built yet")
}
