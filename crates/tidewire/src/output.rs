//! The one place that prints: data to standard output, talk to standard error, secrets to files.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Writes what the command was asked for. A reader that has gone away ends the output, not the
/// program: `tidewire config docs | head` is no error.
pub(crate) fn data(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says something to the person at the terminal, and ends the line.
pub(crate) fn talk(text: &str) {
    // There is nobody left to tell that standard error cannot be written to.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Where a secret will go that is shown once: made before anybody is asked for it, because one that
/// cannot be written would be lost.
pub(crate) struct SecretFile(Option<(PathBuf, File)>);

impl SecretFile {
    /// A new file that nobody else may read, or standard output.
    pub(crate) fn begin(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = private_file()
            .open(path)
            .with_context(|| format!("{} cannot be created", path.display()))?;
        Ok(Self(Some((path.to_owned(), file))))
    }

    /// Writes a line. Without a secret there is no file either.
    pub(crate) fn write(mut self, secret: Option<String>) -> anyhow::Result<()> {
        let Some(secret) = secret else { return Ok(()) };
        let text = format!("{}\n", secret.trim_end());
        let Some((path, mut file)) = self.0.take() else { return Ok(data(&text)?) };
        file.write_all(text.as_bytes())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        talk(&format!("wrote {}", path.display()));
        Ok(())
    }
}

impl Drop for SecretFile {
    /// Leaves no empty file of what was refused.
    fn drop(&mut self) {
        if let Some((path, _)) = &self.0 {
            drop(std::fs::remove_file(path));
        }
    }
}

/// Creates a file nobody else may read, and never writes over one.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
