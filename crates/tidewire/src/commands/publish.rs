use std::process::ExitCode;

use anyhow::bail;
use tidewire_client::{Command, Connection, Payload, ServerEvent};
use tidewire_model::{InvalidPayload, Publish as PublishCommand};

use crate::cli::Publish;
use crate::{commands::remote, output};

pub(crate) fn run(publish: &Publish) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(send(publish))?;
    Ok(ExitCode::SUCCESS)
}

async fn send(publish: &Publish) -> anyhow::Result<()> {
    let options = remote::options(&publish.remote).await?;
    let text = match publish.data.as_str() {
        "-" => remote::standard_input()?,
        text => text.to_owned(),
    };
    let (mut connection, _) = Connection::open(&options, 0, None).await?;
    let request = connection.send(Command::Publish(PublishCommand {
        channel: publish.channel.clone(),
        id: publish.id.clone(),
        payload: payload(&text)?,
    }))?;
    loop {
        match connection.next().await? {
            ServerEvent::Published { request: answered, position, duplicate }
                if answered == request =>
            {
                connection.close().await;
                return Ok(output::data(&receipt(publish, position, duplicate))?);
            }
            ServerEvent::Failed { request: Some(answered), refusal } if answered == request => {
                connection.close().await;
                bail!(refusal);
            }
            _ => {}
        }
    }
}

/// JSON if it is, a JSON string otherwise.
pub(super) fn payload(text: &str) -> anyhow::Result<Payload> {
    match Payload::json(text.trim().to_owned().into()) {
        Err(InvalidPayload::NotJson) => Ok(Payload::json(serde_json::to_string(text)?.into())?),
        payload => Ok(payload?),
    }
}

fn receipt(publish: &Publish, position: tidewire_client::Position, duplicate: bool) -> String {
    let (epoch, offset) = (position.epoch, position.offset);
    if publish.remote.json {
        return format!(
            "{{\"epoch\":\"{epoch}\",\"offset\":{offset},\"duplicate\":{duplicate}}}\n"
        );
    }
    let note = if duplicate { " (was there already)" } else { "" };
    format!("{epoch}:{offset}{note}\n")
}
