//! A run that can be made: every option checked against the others and against this machine.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidewire_client::{Channel, Options};
use tokio::time::Instant;

use crate::access::Access;
use crate::cli::{Cli, Leaving, Load, Scenario, Target};
use crate::moves::Kind;
use crate::process;
use crate::tally::Window;

/// What to do, to whom, and as whom.
pub(crate) struct Plan {
    /// Part of every channel's name, so that no two runs meet.
    pub(crate) run: u32,
    pub(crate) seed: u64,
    pub(crate) load: Load,
    pub(crate) urls: Vec<String>,
    pub(crate) access: Access,
    /// The server's processes.
    pub(crate) pids: Vec<u32>,
    pub(crate) is_quiet: bool,
    /// The node that leaves, if one does.
    pub(crate) leaving: Option<Leaving>,
}

impl Plan {
    pub(crate) async fn new(cli: &Cli) -> Result<Self> {
        check_target(&cli.target)?;
        let leaving = matches!(cli.scenario, Scenario::Drain).then(|| cli.leaving.clone());
        check_load(&cli.load, leaving.is_some())?;
        if leaving.is_some() && cli.target.url.len() < 2 {
            bail!("--url: clients of a node that leaves need a second one to go to");
        }
        let access = Access::open(&cli.target).await?;
        if (cli.load.publishers as usize) < access.tenants() {
            bail!("--publishers: {} tenants need as many publishers", access.tenants());
        }
        let random = getrandom::u64().context("cannot draw a random number")?;
        Ok(Self {
            run: getrandom::u32().context("cannot draw a random number")?,
            // Even where JSON's numbers are doubles.
            seed: cli.load.seed.unwrap_or(random >> 11),
            load: cli.load.clone(),
            urls: cli.target.url.clone(),
            access,
            pids: cli.output.pid.clone(),
            is_quiet: cli.output.quiet,
            leaving,
        })
    }

    /// How publisher `number` connects. Clients start at different addresses; one that is lost or
    /// moves goes on to the next.
    pub(crate) fn publisher(&self, number: u32) -> Result<Options> {
        let first = number as usize / self.access.tenants();
        self.options(number, &format!("publisher-{number}"), first)
    }

    /// The same of a subscriber; all begin at the node that leaves, if one does, but for bystanders.
    pub(crate) fn subscriber(&self, number: u32) -> Result<(Options, Kind)> {
        let (first, kind) = match &self.leaving {
            None => (number as usize / self.access.tenants(), Kind::Overlapping),
            Some(leaving) if number < leaving.bystanders => (1, Kind::Bystander),
            Some(leaving) if number % 100 < leaving.apart => (0, Kind::Apart),
            Some(_) => (0, Kind::Overlapping),
        };
        let mut options = self.options(number, &format!("subscriber-{number}"), first)?;
        options.overlap = kind != Kind::Apart;
        Ok((options, kind))
    }

    fn options(&self, number: u32, user: &str, first: usize) -> Result<Options> {
        let number = number as usize;
        let mut urls = self.urls.clone();
        urls.rotate_left(first % self.urls.len());
        let mut options = Options::new(String::new(), self.access.token(number, user)?);
        options.urls = urls;
        options.tenant = Some(self.access.tenant(number).clone());
        options.codec = self.load.codec.into();
        Ok(options)
    }

    /// A channel of the tenant of client `number`, and what identifies it in all of the run.
    pub(crate) fn channel(&self, number: u32, index: u32) -> (u32, Channel) {
        let tenant = number as usize % self.access.tenants();
        let tenant = u32::try_from(tenant).expect("fewer tenants than publishers");
        let name = format!("loadtest/{:08x}/{index}", self.run);
        let channel = Channel::parse(&name).expect("digits and slashes make a channel");
        (tenant * self.load.channels + index, channel)
    }

    /// The channels subscriber `number` wants: the next so many of its tenant's, going round.
    pub(crate) fn wishes(&self, number: u32) -> impl Iterator<Item = (u32, Channel)> {
        let tenants = u32::try_from(self.access.tenants()).expect("fewer tenants than publishers");
        let (wanted, channels) = (self.load.subscriptions_per_client, self.load.channels);
        let first = u64::from(number / tenants) * u64::from(wanted);
        (0..wanted).map(move |wish| {
            let index = (first + u64::from(wish)) % u64::from(channels);
            self.channel(number, u32::try_from(index).expect("below the number of channels"))
        })
    }

    /// Publications that are publisher `number`'s share of them all.
    pub(crate) fn share(&self, number: u32) -> u32 {
        let Load { count, publishers, .. } = self.load;
        count / publishers + u32::from(number < count % publishers)
    }

    pub(crate) fn window(&self, start: Instant) -> Window {
        let measured_from = start + seconds(self.load.warmup);
        Window { start, measured_from, end: measured_from + seconds(self.load.duration) }
    }

    /// How long to wait at the end for what is on its way.
    pub(crate) fn settle(&self) -> Duration {
        seconds(self.load.settle)
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

fn check_target(target: &Target) -> Result<()> {
    for url in &target.url {
        let uri: http::Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        let host = uri.host().with_context(|| format!("{url} names no host"))?;
        if !is_loopback(host) && !target.is_owned {
            bail!("{url} is not this machine: whoever owns it may add --i-own-the-target");
        }
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn check_load(load: &Load, is_drain: bool) -> Result<()> {
    /// What the process opens beside its connections, with some to spare.
    const OTHER_FILES: u64 = 64;
    /// Clients that hold two connections at once while their node leaves.
    const MOVING: u64 = 2_048;

    if load.subscriptions_per_client > load.channels {
        bail!("--subscriptions-per-client is more than --channels");
    }
    if load.rate > 0 && u64::from(load.count) <= u64::from(load.rate) * u64::from(load.warmup) {
        bail!("--count is used up before --warmup ends: nothing would be measured");
    }
    let moving = if is_drain { MOVING } else { 0 };
    let files = u64::from(load.clients) + u64::from(load.publishers) + OTHER_FILES + moving;
    if let Some(limit) = process::open_files_limit().filter(|limit| *limit < files) {
        bail!("{files} files may be needed and {limit} may be open: raise it with `ulimit -n`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.com", "10.0.0.1", "[::]", "localhost.example.com", "127.0.0.1.nip.io"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
