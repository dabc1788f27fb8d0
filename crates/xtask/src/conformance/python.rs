//! A Python 2.7 that has the suite installed: the suite runs on nothing newer.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::succeed;

/// The suite and everything below it, as it was when all of it was known to work together.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The newest version that makes environments for Python 2.7.
const VIRTUALENV: &str = "virtualenv==20.21.1";

/// An environment with the suite in it.
pub(super) struct Python {
    folder: PathBuf,
    version: String,
}

impl Python {
    /// Makes the environment below `folder`, unless it is there already.
    pub(super) fn provide(folder: &Path) -> Result<Self> {
        let (interpreter, version) = find().context(
            "there is no Python 2.7, on the PATH or in pyenv: the suite runs on nothing newer; \
             its cases that need no suite run in `cargo test -p tidewire-transport`",
        )?;
        let python = Self { folder: folder.join("python"), version };
        let stamp = python.folder.join("requirements.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
            println!("{} has it", python.folder.display());
            return Ok(python);
        }
        make_environment(folder, &interpreter, &python.folder)?;
        let wanted = folder.join("requirements.txt");
        fs::write(&wanted, REQUIREMENTS)?;
        succeed(&mut install(&python.folder, &["--requirement".as_ref(), wanted.as_ref()]))?;
        fs::rename(&wanted, &stamp)?;
        Ok(python)
    }

    /// The suite's command.
    pub(super) fn wstest(&self) -> Command {
        Command::new(self.folder.join("bin/wstest"))
    }

    /// What the verdicts depend on, for the document.
    pub(super) fn versions(&self) -> String {
        let suite = ["autobahntestsuite", "autobahn", "Twisted"];
        let mut versions = vec![format!("Python {}", self.version)];
        versions.extend(suite.map(|name| format!("{name} {}", pinned(name))));
        versions.join(", ")
    }
}

/// The version of a package in [`REQUIREMENTS`].
fn pinned(name: &str) -> &'static str {
    REQUIREMENTS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix("=="))
        .expect("the requirements name the suite and what it stands on")
}

/// An interpreter that runs, and its version. A shim of pyenv is on the PATH also where it does not.
fn find() -> Option<(PathBuf, String)> {
    let on_path = PathBuf::from("python2.7");
    std::iter::once(on_path).chain(of_pyenv()).find_map(|interpreter| {
        let version = version(&interpreter)?;
        version.starts_with("2.7.").then_some((interpreter, version))
    })
}

fn of_pyenv() -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let folders = versions.into_iter().flatten().filter_map(Result::ok);
    folders
        .map(|folder| folder.path().join("bin/python2.7"))
        .filter(|path| path.is_file())
        .collect()
}

fn version(interpreter: &Path) -> Option<String> {
    let show = "import platform; print(platform.python_version())";
    let output = Command::new(interpreter).args(["-c", show]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| version.trim().to_owned())
}

/// Makes an environment of `interpreter`, with a tool that lives in one of Python 3.
fn make_environment(folder: &Path, interpreter: &Path, environment: &Path) -> Result<()> {
    let maker = folder.join("virtualenv");
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&maker))?;
    succeed(&mut install(&maker, &[VIRTUALENV.as_ref()]))?;
    let mut make = Command::new(maker.join("bin/virtualenv"));
    make.args(["--quiet", "--clear", "--python"]).arg(interpreter).arg(environment);
    succeed(&mut make)
}

fn install(environment: &Path, what: &[&Path]) -> Command {
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(what);
    pip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_and_the_suite_is_the_one_the_issue_names() {
        assert_eq!(pinned("autobahntestsuite"), "25.10.1");
        for line in REQUIREMENTS.lines() {
            assert!(line.contains("=="), "{line}");
        }
    }

    #[test]
    fn what_is_no_interpreter_has_no_version() {
        assert_eq!(version(Path::new("/no/such/python2.7")), None);
        assert_eq!(version(Path::new("false")), None);
    }
}
