//! The one place that prints: data to standard output, talk to standard error, secrets to files.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};

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

/// Creates a file nobody else may read, and never writes over one.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
