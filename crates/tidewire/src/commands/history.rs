use std::process::ExitCode;

use anyhow::bail;
use tidewire_client::{Command, Connection, HistoryQuery, Position, ReceivedPage, ServerEvent};
use tidewire_model::Direction;

use crate::cli::History;
use crate::{commands::remote, output};

pub(crate) fn run(history: &History) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(read(history))?;
    Ok(ExitCode::SUCCESS)
}

async fn read(history: &History) -> anyhow::Result<()> {
    let options = remote::options(&history.remote).await?;
    let (mut connection, _) = Connection::open(&options, 0, None).await?;
    let is_backward = history.newest_first || history.before.is_some();
    let direction = if is_backward { Direction::Backward } else { Direction::Forward };
    let mut from = history.before.or(history.after);
    let mut left = history.limit.get();
    while left > 0 {
        let query = HistoryQuery { direction, from, limit: left };
        let page = ask(&mut connection, history, query).await?;
        for publication in &page.publications {
            output::data(&remote::line(&history.channel, publication, history.remote.json)?)?;
        }
        left = left.saturating_sub(u32::try_from(page.publications.len()).unwrap_or(u32::MAX));
        from = following(&page);
        if from.is_none() {
            break;
        }
    }
    connection.close().await;
    Ok(())
}

/// Where the next page starts; a page without publications is the last, whatever it says.
fn following(page: &ReceivedPage) -> Option<Position> {
    page.next.filter(|_| !page.publications.is_empty())
}

async fn ask(
    connection: &mut Connection,
    history: &History,
    query: HistoryQuery,
) -> anyhow::Result<ReceivedPage> {
    let channel = history.channel.clone();
    let request = connection.send(Command::History { channel, query })?;
    loop {
        match connection.next().await? {
            ServerEvent::History { request: answered, page } if answered == request => {
                return Ok(page);
            }
            ServerEvent::Failed { request: Some(answered), refusal } if answered == request => {
                bail!(refusal);
            }
            _ => {}
        }
    }
}
