use std::process::ExitCode;

use crate::cli::Publish;

pub(crate) fn run(_: &Publish) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`pub` is not built yet")
}
