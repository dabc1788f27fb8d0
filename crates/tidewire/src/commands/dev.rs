use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tidewire_auth::Verifier;
use tidewire_edge::{DrainConfig, EdgeConfig};
use tidewire_model::UserId;
use tidewire_node::NodeConfig;
use tidewire_store::{MemoryQuotaStore, MemoryRevocationStore, MemoryTicketStore};
use tidewire_transport::guard::Guard;
use tidewire_transport::https::Roots;

use crate::cli::Dev;
use crate::config::{LogFormat, generated_node_id, slot_of};
use crate::output;
use crate::server::adapters::Memory;
use crate::server::administration::Administration;
use crate::server::dev::{Playground, Secrets, welcome};
use crate::server::state_file::{Legacy, StateFile};
use crate::server::{Bound, Place, Plan, Server, descriptors, issuers, telemetry, threads};

/// Nobody waits for a balancer here.
const DRAIN: DrainConfig = DrainConfig {
    announce: std::time::Duration::ZERO,
    rate: 2_000,
    window: std::time::Duration::from_secs(1),
    deadline: std::time::Duration::from_secs(10),
};

pub(crate) fn run(dev: &Dev) -> anyhow::Result<ExitCode> {
    let level = std::env::var("TIDEWIRE_LOG__LEVEL").unwrap_or_else(|_| "info".into());
    telemetry::start_logging(&level, LogFormat::Auto)?;
    super::runtime()?.block_on(serve(dev))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(dev: &Dev) -> anyhow::Result<()> {
    let (handle, render) = telemetry::start_metrics()?;
    // Whoever has so many tabs hears of it when they do not connect.
    drop(descriptors::raise());
    let (file, secrets, memory) = match &dev.state {
        None => (None, Secrets::draw(), Memory::default()),
        Some(path) => {
            let (file, secrets, memory) = StateFile::open(path)?;
            (Some(file), secrets, memory)
        }
    };
    let playground = Playground::new(secrets.clone());
    let node = generated_node_id("dev");
    let ports = memory.ports(&node);
    let tenants = playground.tenants()?;
    let administration = Administration::in_memory(&tenants)?;
    let plan = Plan {
        node: NodeConfig::new(node),
        edge: EdgeConfig { drain: DRAIN, tenant_metrics: true, ..EdgeConfig::default() },
        ports,
        quotas: Arc::new(MemoryQuotaStore::default()),
        verifier: Verifier::new(tenants.ring().clone()),
        tenants,
        sealer: playground.sealer()?,
        revocations: Arc::new(MemoryRevocationStore::default()),
        tickets: (Arc::new(MemoryTicketStore::default()), playground.vault()?),
        render,
        fetch: issuers::fetch(&Roots::System, Guard::default()),
        memory_limit: None,
        place: Place { slot: slot_of("dev"), weight: 100, advertise: None },
    };
    let bound = Bound::to(dev.listen, None, threads::one_per_core())?;
    // A start that fails until here leaves the state for the next one.
    if let Some(file) = &file {
        file.begin(&secrets)?;
    }
    let server = Server::start(bound, plan, playground.routes())?;
    let admin = server.administer(administration)?;
    let token = playground.token(&UserId::parse("you")?)?;
    let kept = kept(dev.state.as_deref());
    let addresses = (server.address, admin);
    output::data(&welcome(addresses, &kept, &token, &playground.api_key()))?;
    if !server.address.ip().is_loopback() {
        output::talk("warning: whoever can reach this address gets a token; use `serve` for that");
    }
    tokio::select! {
        outcome = server.run() => outcome?,
        () = telemetry::keep_up(handle) => {}
    }
    // The node has gone, and with it whoever could still change anything. One that broke down does not
    // come here: nobody knows what state it was in.
    if let Some(file) = file {
        let (log, sessions) = memory.saved();
        file.write(Legacy { secrets, log, sessions })?;
    }
    Ok(())
}

fn kept(state: Option<&Path>) -> String {
    match state {
        None => "Nothing is kept when it stops.".into(),
        Some(file) => format!("What it keeps goes to {} when it is stopped.", file.display()),
    }
}
