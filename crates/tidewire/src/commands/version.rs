use std::process::ExitCode;

use serde_json::json;

use crate::cli::Version;
use crate::output;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Set by whoever builds a release.
const COMMIT: Option<&str> = option_env!("TIDEWIRE_COMMIT");

pub(crate) fn run(version: &Version) -> anyhow::Result<ExitCode> {
    let text = if version.json {
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        json!({ "version": VERSION, "commit": COMMIT, "target": target }).to_string()
    } else {
        format!("tidewire {VERSION}")
    };
    output::data(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}
