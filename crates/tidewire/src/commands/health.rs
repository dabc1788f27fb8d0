use std::process::ExitCode;

use http::Method;
use tidewire_transport::http::request;

use crate::cli::Health;
use crate::output;

/// One line and an exit code: 0 when all is well, 1 otherwise.
pub(crate) fn run(health: &Health) -> anyhow::Result<ExitCode> {
    let path = if health.ready { "readyz" } else { "healthz" };
    let url = format!("{}/{path}", health.url.trim_end_matches('/'));
    let answer = super::runtime()?.block_on(request(Method::GET, &url, &[], ""));
    Ok(match answer {
        Ok(answer) => {
            output::data(&format!("{}\n", String::from_utf8_lossy(&answer.body).trim()))?;
            if answer.status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            output::talk(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    })
}
