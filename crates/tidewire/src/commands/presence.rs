use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use tidewire_client::{
    Channel, Client, Happening, MemberPage, MemberWord, PageMark, PresenceChange,
};
use tidewire_model::{Member, MemberId, UserId};

use super::publish::payload;
use crate::cli::Presence;
use crate::{commands::remote, output};

const PAGE: u32 = 500;

pub(crate) fn run(presence: &Presence) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(look(presence))?;
    Ok(ExitCode::SUCCESS)
}

async fn look(presence: &Presence) -> anyhow::Result<()> {
    let Presence { channel, count, watch, enter, remote } = presence;
    let mut client = Client::connect(remote::options(remote).await?).await?;
    let lines = Lines { as_json: remote.json };
    if *watch {
        client.watch(channel.clone());
        if let Some(text) = enter {
            client.enter(channel.clone(), MemberWord::of(&payload(text)?));
        }
    } else {
        ask(&mut client, channel, None);
    }
    loop {
        match client.next().await? {
            Happening::Watching { .. } => ask(&mut client, channel, None),
            Happening::Members { page, .. } if *count => {
                lines.count(page.occupancy.count)?;
                break;
            }
            Happening::Members { page: MemberPage { members, next, .. }, .. } => {
                for member in &members {
                    lines.member("+", member)?;
                }
                match next {
                    Some(next) => ask(&mut client, channel, Some(next)),
                    None if *watch => {}
                    None => break,
                }
            }
            Happening::Presence { changes, .. } => {
                for change in &changes {
                    lines.change(change)?;
                    if change.lost {
                        output::talk("changes may be missing; printing who is there");
                        ask(&mut client, channel, None);
                    }
                }
            }
            Happening::Lost { reason } => output::talk(&format!("{reason}; coming back")),
            Happening::Refused { channel: Some(channel), refusal } => bail!("{channel}: {refusal}"),
            Happening::Refused { channel: None, refusal } => bail!(refusal),
            _ => {}
        }
    }
    client.close().await;
    Ok(())
}

fn ask(client: &mut Client, channel: &Channel, from: Option<PageMark>) {
    // One page at a time, of as many as may be asked for at once.
    client.members(channel.clone(), from, PAGE);
}

/// How what is printed is written: for people, or as a JSON object in each line.
#[derive(Clone, Copy)]
struct Lines {
    as_json: bool,
}

impl Lines {
    fn change(self, change: &PresenceChange) -> anyhow::Result<()> {
        for member in &change.joined {
            self.member("+", member)?;
        }
        for member in &change.updated {
            self.member("~", member)?;
        }
        for former in &change.left {
            self.line("-", (&former.id, &former.user), None)?;
        }
        if change.is_empty()
            && let Some(count) = change.count
        {
            self.count(count)?;
        }
        Ok(())
    }

    fn member(self, sign: &str, member: &Member) -> anyhow::Result<()> {
        self.line(sign, (&member.id, &member.user), member.data.as_ref())
    }

    fn line(
        self,
        sign: &str,
        (id, user): (&MemberId, &UserId),
        word: Option<&MemberWord>,
    ) -> anyhow::Result<()> {
        let data = word.map(|word| serde_json::from_slice::<serde_json::Value>(word.bytes()));
        let data = data.transpose()?;
        let text = if self.as_json {
            let what = match sign {
                "+" => "here",
                "~" => "updated",
                _ => "left",
            };
            json!({ what: { "member": id.to_string(), "user": user.as_str(), "data": data } })
                .to_string()
        } else {
            let data = data.map(|data| format!(" {data}")).unwrap_or_default();
            format!("{sign} {id} {user}{data}")
        };
        Ok(output::data(&(text + "\n"))?)
    }

    fn count(self, count: u64) -> anyhow::Result<()> {
        let text =
            if self.as_json { json!({ "count": count }).to_string() } else { count.to_string() };
        Ok(output::data(&(text + "\n"))?)
    }
}
