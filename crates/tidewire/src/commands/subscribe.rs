use std::process::ExitCode;

use anyhow::bail;
use tidewire_client::{Client, Happening, Since};

use crate::cli::Subscribe;
use crate::{commands::remote, output};

pub(crate) fn run(subscribe: &Subscribe) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(listen(subscribe))?;
    Ok(ExitCode::SUCCESS)
}

async fn listen(subscribe: &Subscribe) -> anyhow::Result<()> {
    if subscribe.since.is_some() && subscribe.channels.len() > 1 {
        bail!("--since is a position in one channel, and there are several");
    }
    let token = match &subscribe.channel_token_file {
        Some(_) if subscribe.channels.len() > 1 => {
            bail!("--channel-token-file is of one channel, and there are several");
        }
        Some(file) => Some(remote::written(file)?),
        None => None,
    };
    let mut client = Client::connect(remote::options(&subscribe.remote).await?).await?;
    let since = match (subscribe.since, subscribe.last) {
        (Some(position), _) => Since::Position(position),
        (None, Some(last)) => Since::Last(last.get()),
        (None, None) => Since::Now,
    };
    for channel in &subscribe.channels {
        match &token {
            Some(token) => client.subscribe_with(channel.clone(), since, token.clone()),
            None => client.subscribe(channel.clone(), since),
        }
    }
    let mut left = subscribe.count.map(std::num::NonZeroU32::get);
    while left != Some(0) {
        if show(client.next().await?, subscribe.remote.json)? {
            left = left.map(|left| left - 1);
        }
    }
    client.close().await;
    Ok(())
}

/// Shows what happened; says whether it was a publication.
fn show(happening: Happening, as_json: bool) -> anyhow::Result<bool> {
    match happening {
        Happening::Publication { channel, publication } => {
            output::data(&remote::line(&channel, &publication, as_json)?)?;
            return Ok(true);
        }
        Happening::Gap { channel, gap } => {
            let (reason, position) = (gap.reason.as_str(), gap.position);
            output::talk(&format!("{channel}: gap ({reason}), going on after {position}"));
        }
        Happening::Subscribed(subscribed) => {
            let (channel, position) = (subscribed.channel, subscribed.position);
            output::talk(&format!("{channel}: subscribed after {position}"));
        }
        Happening::Connected { node, resumed, .. } => {
            let how = if resumed { "resumed on" } else { "connected to" };
            output::talk(&format!("{how} {node}"));
        }
        Happening::Lost { reason } => output::talk(&format!("{reason}; coming back")),
        Happening::Refused { channel, refusal } => match channel {
            Some(channel) => bail!("{channel}: {refusal}"),
            None => bail!(refusal),
        },
        Happening::Asked { .. } => output::talk("the node leaves; moving"),
        Happening::NotRenewed { reason } => output::talk(&format!("no other token: {reason}")),
        Happening::Expiring { .. }
        | Happening::Renewed { .. }
        | Happening::Left
        | Happening::Entered { .. }
        | Happening::Watching { .. }
        | Happening::Presence { .. }
        | Happening::Members { .. }
        | Happening::Published { .. }
        | Happening::Rejected { .. } => {}
    }
    Ok(false)
}
