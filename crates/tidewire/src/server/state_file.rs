//! The file in which a node in memory leaves what it keeps, so that its restart is a resume.

mod line;
mod reader;
mod writer;

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use tidewire_broker::SavedLog;
use tidewire_store::SavedSession;

use self::reader::Unreadable;
use super::adapters::Memory;
use super::dev::Secrets;
use crate::output::private_file;

/// Where a node's state is while the node is not there. While it is, the file holds its secrets only:
/// what comes after a crash must not go on from where it was long before.
pub(crate) struct StateFile {
    path: PathBuf,
    /// Why what was there cannot be used.
    unreadable: Option<Unreadable>,
    /// Locked for as long as this is there. A file of its own, because the state's is replaced.
    _lock: File,
}

/// What a node leaves.
pub(crate) struct Legacy {
    pub(crate) secrets: Secrets,
    pub(crate) log: SavedLog,
    pub(crate) sessions: Vec<SavedSession>,
}

impl Legacy {
    fn without_state(secrets: Secrets) -> Self {
        let log = SavedLog { started_ms: 0, channels: Vec::new() };
        Self { secrets, log, sessions: Vec::new() }
    }
}

/// The largest file that is written or read, in bytes.
const MOST_BYTES: u64 = 256 << 20;

impl StateFile {
    /// Reads what the node before has left at `path`, and keeps others from it. Where there is none
    /// or it cannot be used, secrets are drawn and memory is empty. Nothing is changed yet.
    ///
    /// # Errors
    ///
    /// When another node uses the file, or there is no writing beside it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Secrets, Memory)> {
        let lock = lock(path)?;
        let mut file = Self { path: path.to_owned(), unreadable: None, _lock: lock };
        let (secrets, memory) = file.read().unwrap_or_else(|unreadable| {
            file.unreadable = Some(unreadable);
            (Secrets::draw(), Memory::default())
        });
        Ok((file, secrets, memory))
    }

    /// Leaves only the secrets in the file, for a node that is about to serve. One that cannot be
    /// used is put aside, and a warning says so.
    ///
    /// # Errors
    ///
    /// When the file cannot be replaced.
    pub(crate) fn begin(&self, secrets: &Secrets) -> anyhow::Result<()> {
        if let Some(unreadable) = &self.unreadable {
            self.put_aside(unreadable)?;
        }
        let replaced = self.replace(Legacy::without_state(secrets.clone()), None);
        replaced.with_context(|| not_writable(&self.path))?;
        Ok(())
    }

    /// Leaves `legacy` for the next node, all of it or nothing.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. It holds the secrets then.
    pub(crate) fn write(&self, legacy: Legacy) -> anyhow::Result<()> {
        let file = self.path.display();
        let written = self.replace(legacy, Some(unix_ms())).with_context(|| {
            format!("the state cannot be written to {file}: clients will begin anew")
        })?;
        if written.left_out > 0 {
            let left_out = written.left_out;
            tracing::warn!(
                left_out,
                "the state is cut to {MOST_BYTES} bytes; who misses anything is told"
            );
        }
        let writer::Written { bytes, channels, sessions, .. } = written;
        tracing::info!(%file, bytes, channels, sessions, "state written");
        Ok(())
    }

    fn read(&self) -> Result<(Secrets, Memory), Unreadable> {
        let path = self.path.display();
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::info!(file = %path, "no state to go on from");
                return Ok((Secrets::draw(), Memory::default()));
            }
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.len() > MOST_BYTES {
            return Err(Unreadable::Large);
        }
        let (Legacy { secrets, log, sessions }, saved_at_ms) = reader::read(BufReader::new(file))?;
        let Some(saved_at_ms) = saved_at_ms else {
            tracing::warn!(file = %path, "the node before was not stopped but ended: its state is lost, clients begin anew");
            return Ok((secrets, Memory::default()));
        };
        let away = Duration::from_millis(unix_ms().saturating_sub(saved_at_ms));
        let (channels, session_count) = (log.channels.len(), sessions.len());
        let memory = Memory::restored(log, sessions, away)
            .map_err(|error| Unreadable::Damaged(error.to_string()))?;
        tracing::info!(file = %path, ?away, channels, sessions = session_count, "going on from state");
        Ok((secrets, memory))
    }

    fn put_aside(&self, unreadable: &Unreadable) -> anyhow::Result<()> {
        let (file, aside) = (self.path.display(), self.beside(".unread"));
        fs::rename(&self.path, &aside)
            .with_context(|| format!("--state {file}: {unreadable}, and it cannot be put aside"))?;
        let kept_as = aside.display();
        tracing::warn!(%file, %kept_as, "the state cannot be used: {unreadable}; clients begin anew");
        Ok(())
    }

    fn replace(
        &self,
        legacy: Legacy,
        saved_at_ms: Option<u64>,
    ) -> std::io::Result<writer::Written> {
        let mut file = self.create()?;
        let written = writer::write(&mut file, legacy, saved_at_ms, MOST_BYTES)?;
        file.sync_all()?;
        fs::rename(self.beside(".new"), &self.path)?;
        Ok(written)
    }

    /// A new file that will be renamed when it is whole, in place of what a writer that was killed
    /// has left.
    fn create(&self) -> std::io::Result<File> {
        let path = self.beside(".new");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => private_file().open(&path),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.path, suffix)
    }
}

/// The system lets go of it when the process ends, however it does.
fn lock(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let opened =
        File::options().create(true).truncate(false).write(true).open(beside(path, ".lock"));
    let file = opened.with_context(|| not_writable(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("--state {shown}: another node uses it; stop that one, or name another file")
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("--state {shown}: cannot be locked"))
        }
    }
}

fn not_writable(path: &Path) -> String {
    let path = path.display();
    format!("--state {path}: cannot be written; is its directory there, and writable?")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
