//! The programs the tests start as their children: found, or installed from Debian by name.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// A program, the Debian package that has it, and the variable that names another one.
#[derive(Clone, Copy, Debug)]
struct Program {
    name: &'static str,
    package: &'static str,
    variable: Option<&'static str>,
}

impl Program {
    const fn new(name: &'static str, package: &'static str) -> Self {
        Self { name, package, variable: None }
    }

    /// The tests start the program this variable names, when it is set.
    const fn or_named_by(self, variable: &'static str) -> Self {
        Self { variable: Some(variable), ..self }
    }

    fn is_there(self) -> bool {
        self.variable.is_some_and(|name| env::var_os(name).is_some()) || find(self.name).is_ok()
    }
}

const PROGRAMS: [Program; 12] = [
    Program::new("c++", "g++"),
    Program::new("chromium", "chromium").or_named_by("CHROMIUM_BIN"),
    Program::new("haproxy", "haproxy"),
    Program::new("nats-server", "nats-server").or_named_by("TIDEWIRE_NATS_SERVER"),
    Program::new("node", "nodejs"),
    Program::new("npm", "npm"),
    Program::new("promtool", "prometheus"),
    Program::new("python3", "python3"),
    Program::new("redis-server", "redis-server").or_named_by("TIDEWIRE_REDIS_SERVER"),
    Program::new("shellcheck", "shellcheck"),
    Program::new("valgrind", "valgrind"),
    Program::new("yamllint", "yamllint"),
];

/// Where Debian puts servers, outside an ordinary user's PATH.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Installs without starting the services, from an account that may.
const INSTALL: &str = include_str!("install.sh");

/// Makes sure that every program the tests need is there, installing what is absent.
pub(crate) fn provide() -> Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        println!("all {} programs are there", PROGRAMS.len());
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    install(&missing).with_context(|| {
        format!("could not install; install these Debian packages by hand: {}", missing.join(" "))
    })?;
    let missing = missing_packages();
    ensure!(missing.is_empty(), "still missing after installing: {}", missing.join(" "));
    Ok(())
}

/// The path of a program, also if it is where only root's PATH leads.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    env::split_paths(&search_path())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("there is no program `{name}`"))
}

/// PATH with the folders of servers, for the children that start them.
pub(crate) fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SERVER_FOLDERS.map(PathBuf::from));
    env::join_paths(folders).expect("folders come from a PATH or are constants without colons")
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|program| !program.is_there())
        .map(|program| program.package)
        .collect();
    if !python_makes_environments() {
        missing.push("python3-venv");
    }
    missing
}

/// Debian splits what `python3 -m venv` needs from python3 itself.
fn python_makes_environments() -> bool {
    Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn install(packages: &[&str]) -> Result<()> {
    if find("apt-get").is_err() {
        bail!("this machine has no apt-get");
    }
    let mut command = if is_root()? {
        Command::new("sh")
    } else if find("sudo").is_ok() {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "sh"]);
        sudo
    } else {
        bail!("installing needs root or sudo");
    };
    process::succeed(command.args(["-c", INSTALL, "install"]).args(packages))
}

fn is_root() -> Result<bool> {
    Ok(process::read(Command::new("id").arg("-u"))?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_the_path_is_found_and_an_unknown_one_is_an_error_naming_it() {
        let error = find("no-such-program-anywhere").unwrap_err();

        assert!(find("sh").unwrap().ends_with("sh"));
        assert_eq!(error.to_string(), "there is no program `no-such-program-anywhere`");
    }

    #[test]
    fn servers_are_looked_for_outside_an_ordinary_path() {
        let folders: Vec<PathBuf> = env::split_paths(&search_path()).collect();

        assert!(folders.contains(&PathBuf::from("/usr/sbin")));
    }
}
