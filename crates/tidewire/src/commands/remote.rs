//! What the commands that talk to a node share.

use std::future;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use tidewire_client::{Codec, NoToken, Options, Payload, Received, Renew, Token};
use tidewire_model::{Channel, PublicationId, UserId};

use crate::cli::Remote;

/// Where to connect, and as whom.
pub(crate) async fn options(remote: &Remote) -> anyhow::Result<Options> {
    let (token, renew) = match (&remote.token_command, &remote.token_file, &remote.token) {
        (Some(command), _, _) => {
            let again = command.clone();
            let renew = Renew::new(move || printed(again.clone()));
            (printed(command.clone()).await.map_err(anyhow::Error::from_boxed)?, Some(renew))
        }
        (None, Some(file), _) if file.as_os_str() == "-" => (trimmed(&standard_input()?), None),
        (None, Some(file), _) => {
            let again = file.clone();
            let renew = Renew::new(move || future::ready(written(&again).map_err(Into::into)));
            (written(file)?, Some(renew))
        }
        (None, None, Some(token)) => (trimmed(token), None),
        (None, None, None) => {
            bail!(
                "a token is needed: --token-file, or TIDEWIRE_TOKEN; `tidewire token create` makes one"
            )
        }
    };
    let mut options = Options { renew, ..Options::new(remote.url.clone(), token) };
    options.tenant.clone_from(&remote.tenant);
    if remote.protobuf {
        options.codec = Codec::Protobuf;
    }
    Ok(options)
}

/// The token in a file.
pub(crate) fn written(file: &Path) -> anyhow::Result<Token> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read the token file {}", file.display()))?;
    Ok(trimmed(&text))
}

/// The token that a command prints. Its errors are shown as it writes them.
async fn printed(command: String) -> Result<Token, NoToken> {
    let mut shell = tokio::process::Command::new("sh");
    let shell = shell.args(["-c", &command]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = shell.kill_on_drop(true).output().await?;
    if !output.status.success() {
        return Err(format!("the command for a token has failed: {}", output.status).into());
    }
    Ok(trimmed(&String::from_utf8(output.stdout)?))
}

fn trimmed(token: &str) -> Token {
    token.trim().into()
}

pub(crate) fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}

#[derive(Serialize)]
struct Line<'a> {
    channel: &'a str,
    epoch: &'a str,
    offset: u64,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<String>,
}

/// One publication as one line: for people, or as a JSON object.
pub(crate) fn line(
    channel: &Channel,
    publication: &Received,
    as_json: bool,
) -> anyhow::Result<String> {
    let position = publication.position;
    if !as_json {
        let content = match &publication.payload {
            Payload::Json(text) => one_line(&String::from_utf8_lossy(text.as_bytes())),
            Payload::Binary(bytes) => format!("{} bytes: {}", bytes.len(), STANDARD.encode(bytes)),
        };
        let user = publication.publisher.as_ref().map_or("-", UserId::as_str);
        return Ok(format!("{channel} {} {user} {content}\n", position.offset));
    }
    let (data, binary) = match &publication.payload {
        Payload::Json(text) => (Some(serde_json::from_slice(text.as_bytes())?), None),
        Payload::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
    };
    let line = Line {
        channel: channel.as_str(),
        epoch: position.epoch.as_str(),
        offset: position.offset,
        time: publication.time_ms,
        id: publication.id.as_ref().map(PublicationId::as_str),
        user: publication.publisher.as_ref().map(UserId::as_str),
        data,
        binary,
    };
    Ok(one_line(&serde_json::to_string(&line)?) + "\n")
}

/// A payload may hold line ends between its values; outside strings, where JSON has no raw ones,
/// they mean nothing.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
