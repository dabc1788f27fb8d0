//! The servers we compare ourselves with, made or installed below target/bench.
//!
//! A peer that cannot be had leaves its reason, which its rows show.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{cargo, read, succeed};
use crate::programs;

/// What can be measured.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Contender {
    /// loadtest/floor/floor.c.
    Floor,
    /// The same, reading and forgetting.
    Discard,
    UWebSockets,
    Ws,
    SocketIo,
    Nats,
    Json,
    Protobuf,
    /// JSON with permessage-deflate.
    Deflate,
}

/// How ours are built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Profile {
    Release,
    /// Quick to build; its figures mean little.
    Debug,
}

/// Everything that was built or installed.
pub(super) struct Workshop {
    pub(super) loadtest: PathBuf,
    pub(super) tidewire: PathBuf,
    /// Scratch files of this command.
    pub(super) folder: PathBuf,
    programs: BTreeMap<Contender, Result<Command, String>>,
    versions: Vec<String>,
}

/// The crate that carries the sources of uWebSockets, and its exact version.
const UWEBSOCKETS_CRATE: (&str, &str) = ("libuwebsockets-sys", "0.0.10");
/// Exact, so that two runs compare the same.
const NPM_PACKAGES: [&str; 2] = ["ws@8.23.0", "socket.io@4.8.4"];
/// uSockets without TLS and uWebSockets without compression, as they are used here.
const UWEBSOCKETS_FLAGS: [&str; 3] = ["-O2", "-DLIBUS_NO_SSL", "-DUWS_NO_ZLIB"];

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Discard => "epoll + recv",
            Self::UWebSockets => "uWebSockets",
            Self::Ws => "ws",
            Self::SocketIo => "Socket.IO",
            Self::Nats => "nats-server",
            Self::Json => "JSON",
            Self::Protobuf => "protobuf",
            Self::Deflate => "JSON, deflated",
        }
    }

    /// What `loadtest swarm --dialect` calls what it understands.
    pub(super) fn dialect(self) -> &'static str {
        match self {
            Self::Floor | Self::Discard | Self::UWebSockets | Self::Ws => "bare",
            Self::SocketIo => "socketio",
            Self::Nats => "nats",
            Self::Json => "json",
            Self::Protobuf => "protobuf",
            Self::Deflate => "json-deflate",
        }
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Json | Self::Protobuf | Self::Deflate)
    }
}

impl Workshop {
    /// Ours and the peers.
    pub(super) fn provide(root: &Path) -> Result<Self> {
        let mut workshop = Self::ours(root, Profile::Release)?;
        workshop.provide_peers(root);
        Ok(workshop)
    }

    /// What is in this repository.
    pub(super) fn ours(root: &Path, profile: Profile) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |folder| root.join(folder));
        let folder = target.join("bench");
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not make {}", folder.display()))?;
        programs::provide()?;
        let (option, built) = match profile {
            Profile::Release => (Some("--release"), "release"),
            Profile::Debug => (None, "debug"),
        };
        succeed(cargo(root).arg("build").args(option).args(["-p", "tidewire", "-p", "loadtest"]))?;
        Ok(Self {
            loadtest: target.join(built).join("loadtest"),
            tidewire: target.join(built).join("tidewire"),
            folder,
            programs: BTreeMap::new(),
            versions: Vec::new(),
        })
    }

    fn provide_peers(&mut self, root: &Path) {
        let loadtest = root.join("loadtest");
        let floor = self.build_floor(&loadtest);
        let discard = floor.as_ref().map_err(|why| anyhow::anyhow!("{why:#}")).map(|floor| {
            let mut command = Command::new(floor.get_program());
            command.arg("--discard");
            command
        });
        self.keep(Contender::Floor, floor);
        self.keep(Contender::Discard, discard);
        let uwebsockets = self.build_uwebsockets(root, &loadtest);
        self.keep(Contender::UWebSockets, uwebsockets);
        let npm = self.install_npm();
        for (contender, script) in
            [(Contender::Ws, "ws.mjs"), (Contender::SocketIo, "socketio.mjs")]
        {
            let program = npm
                .as_ref()
                .map_err(|why| anyhow::anyhow!("{why:#}"))
                .and_then(|modules| node(&loadtest.join("peers").join(script), modules));
            self.keep(contender, program);
        }
        let nats = self.find_nats();
        self.keep(Contender::Nats, nats);
        let dev = Command::new(&self.tidewire);
        for contender in [Contender::Json, Contender::Protobuf, Contender::Deflate] {
            let mut command = Command::new(dev.get_program());
            command.args(["dev", "--listen", "127.0.0.1:0"]);
            self.keep(contender, Ok(command));
        }
    }

    fn keep(&mut self, contender: Contender, program: Result<Command>) {
        let program = program.map_err(|why| {
            println!("{} cannot be had: {why:#}", contender.name());
            format!("{} cannot be had: {why:#}", contender.name())
        });
        self.programs.insert(contender, program);
    }

    /// The program, or why there is none.
    pub(super) fn program(&self, contender: Contender) -> Result<&Command> {
        let program = self.programs.get(&contender).context("every contender was provided")?;
        program.as_ref().map_err(|why| anyhow::anyhow!("{why}"))
    }

    /// What was compared, with versions.
    pub(super) fn versions(&self) -> &[String] {
        &self.versions
    }

    fn build_floor(&mut self, loadtest: &Path) -> Result<Command> {
        let program = self.folder.join("floor");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-o"]).arg(&program).arg(loadtest.join("floor/floor.c"));
        succeed(&mut compiler)?;
        let version = read(Command::new("cc").arg("--version"))?;
        self.versions.push(format!("floor by {}", version.lines().next().unwrap_or("cc")));
        Ok(Command::new(program))
    }

    fn build_uwebsockets(&mut self, root: &Path, loadtest: &Path) -> Result<Command> {
        let (name, version) = UWEBSOCKETS_CRATE;
        let sources = fetch_crate(root, &self.folder.join("uwebsockets"))?.join("uWebSockets");
        let program = self.folder.join("uwebsockets/server");
        let objects = self.folder.join("uwebsockets/objects");
        fs::create_dir_all(&objects)?;
        let usockets = sources.join("uSockets/src");
        let mut compiler = Command::new("cc");
        compiler.args(UWEBSOCKETS_FLAGS).arg("-I").arg(&usockets).arg("-c").current_dir(&objects);
        for folder in [usockets.clone(), usockets.join("eventing")] {
            compiler.args(files(&folder, "c")?);
        }
        succeed(&mut compiler)?;
        let mut compiler = Command::new("c++");
        compiler.arg("-std=c++20").args(UWEBSOCKETS_FLAGS).arg("-I").arg(sources.join("src"));
        compiler.arg("-I").arg(&usockets).arg(loadtest.join("peers/uws.cpp"));
        succeed(compiler.args(files(&objects, "o")?).arg("-o").arg(&program))?;
        self.versions.push(format!(
            "uWebSockets in C++, its own publish, from the sources in the crate {name} {version}"
        ));
        Ok(Command::new(program))
    }

    fn install_npm(&mut self) -> Result<PathBuf> {
        let folder = self.folder.join("npm");
        fs::create_dir_all(&folder)?;
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--silent",
            "--prefix",
        ]);
        succeed(npm.arg(&folder).args(NPM_PACKAGES))?;
        let node = read(Command::new("node").arg("--version"))?;
        self.versions.push(format!("{} on Node.js {}", NPM_PACKAGES.join(" and "), node.trim()));
        Ok(folder)
    }

    fn find_nats(&mut self) -> Result<Command> {
        let program = programs::find("nats-server")?;
        let version = read(Command::new(&program).arg("--version"))?;
        self.versions.push(version.trim().to_owned());
        Ok(Command::new(program))
    }
}

/// Node.js looks for packages beside the script, so it is run from where they are.
fn node(script: &Path, modules: &Path) -> Result<Command> {
    let name = script.file_name().context("a script has a name")?;
    let copy = modules.join(name);
    fs::copy(script, &copy).with_context(|| format!("could not copy {}", script.display()))?;
    let mut command = Command::new("node");
    command.arg(copy);
    Ok(command)
}

/// Lets cargo fetch a crate as the dependency of an empty one; returns where its sources are.
fn fetch_crate(root: &Path, folder: &Path) -> Result<PathBuf> {
    let (name, version) = UWEBSOCKETS_CRATE;
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let manifest = folder.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"peer\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{name} = \"={version}\"\n"
    );
    fs::write(&manifest, text)?;
    let mut command = cargo(root);
    command.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(&manifest);
    let metadata: Value = serde_json::from_str(&read(&mut command)?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == name)
        .with_context(|| format!("cargo did not fetch {name}"))?;
    let manifest = package["manifest_path"].as_str().context("a package has a manifest")?;
    Ok(Path::new(manifest).parent().context("a manifest is in a folder")?.to_owned())
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == extension) {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "there is no .{extension} in {}", folder.display());
    files.sort();
    Ok(files)
}
