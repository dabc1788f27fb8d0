//! Running the program, and what the smaller commands do.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Runs the program with these arguments and an empty environment.
pub(crate) fn tidewire(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("the program runs")
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.env_clear();
    command
}

/// What a successful run wrote to standard output.
pub(crate) fn stdout(arguments: &[&str]) -> String {
    let output = tidewire(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub(crate) fn path(file: &Path) -> &str {
    file.to_str().expect("UTF-8")
}

#[test]
fn the_version_can_be_read_by_people_and_programs() {
    let version = env!("CARGO_PKG_VERSION");

    assert_eq!(stdout(&["version"]), format!("tidewire {version}\n"));
    let json: Value = serde_json::from_str(&stdout(&["version", "--json"])).expect("JSON");
    assert_eq!(json["version"], version);
}

#[test]
fn a_mistaken_command_line_exits_with_2() {
    assert_eq!(tidewire(&["serv"]).status.code(), Some(2));
    assert_eq!(tidewire(&["sub"]).status.code(), Some(2));
    assert_eq!(tidewire(&["sub", "a//b"]).status.code(), Some(2));
}

#[test]
fn tenants_are_placed_without_asking_a_node() {
    let slots = "node-0=50,node-1,node-2=200,node-3=50,node-4=100,node-5=200";
    let wish = ["placement", "acme", "globex", "--slots", slots, "--homes", "3"];

    let told = stdout(&wish);
    let json = stdout(&[&wish[..], &["--json"]].concat());

    let lines: Vec<Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let homes = |line: &Value| -> Vec<String> {
        let homes = line["homes"].as_array().expect("homes").iter();
        homes.map(|home| home["slot"].as_str().expect("a slot").to_owned()).collect()
    };
    assert_eq!(homes(&lines[0]), ["node-5", "node-2", "node-3"]);
    assert_eq!(homes(&lines[1]), ["node-2", "node-5", "node-1"]);
    assert_eq!(lines[0]["nodes"].as_array().map(Vec::len), Some(6));
    assert!(
        told.starts_with("acme: at home on 3 of 6 nodes\n  node-5, weight 200, 0 connections\n")
    );
}

#[test]
fn slots_that_make_no_sense_are_refused() {
    for slots in ["a=0", "a=257", "a=x", "a.b", "=1"] {
        let refused = tidewire(&["placement", "acme", "--slots", slots]);
        assert_eq!(refused.status.code(), Some(2), "{slots}");
    }
    let twice = tidewire(&["placement", "acme", "--slots", "a,b,a=2"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).contains("named twice"), "{}", text(&twice.stderr));
}

#[test]
fn a_file_written_by_init_is_valid_as_it_stands() {
    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("tidewire.toml");

    let written = tidewire(&["config", "init", "--output", path(&file)]);
    let checked = tidewire(&["config", "check", "--config", path(&file)]);

    assert!(written.status.success(), "{}", text(&written.stderr));
    assert_eq!(text(&checked.stderr), "configuration is valid\n");
    assert_eq!(checked.status.code(), Some(0));
    assert!(checked.stdout.is_empty());
}

#[cfg(unix)]
#[test]
fn init_keeps_its_secrets_to_the_owner_and_never_writes_over_a_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("tidewire.toml");

    stdout(&["config", "init", "--output", path(&file)]);
    let first = std::fs::read(&file).expect("file");
    let again = tidewire(&["config", "init", "--output", path(&file)]);

    let mode = std::fs::metadata(&file).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(std::fs::read(&file).expect("file"), first);
}

#[test]
fn init_draws_new_secrets_each_time() {
    assert_ne!(stdout(&["config", "init"]), stdout(&["config", "init"]));
}

#[test]
fn check_exits_with_1_and_says_what_is_wrong() {
    let output = tidewire(&["config", "check"]);

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: configuration has 2 problems\n\n\
         session.resume_keys: at least one key is needed to serve\n  \
         = the same on every node; `openssl rand -base64 32` makes one\n\n\
         tenants: at least one tenant is needed to serve\n  \
         = `tidewire config init` writes a file with one\n"
    );
}

#[test]
fn printing_the_configuration_masks_its_secrets() {
    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("tidewire.toml");
    stdout(&["config", "init", "--output", path(&file)]);
    let written = std::fs::read_to_string(&file).expect("file");
    let secrets: Vec<_> = written.split('"').filter(|part| part.len() == 43).collect();
    assert_eq!(secrets.len(), 4);

    for what in ["--effective", "--origin", "--env"] {
        let shown = stdout(&["config", "print", what, "--config", path(&file)]);

        assert!(shown.contains("********"), "{what}");
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{what}");
    }
}

#[test]
fn printing_tells_where_each_value_comes_from() {
    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("a.toml");
    std::fs::write(&file, "[history]\nsize = 7\n").expect("file");

    let output = program()
        .args(["config", "print", "--origin", "--config", path(&file)])
        .env("TIDEWIRE_LOG__LEVEL", "debug")
        .output()
        .expect("the program runs");

    let shown = text(&output.stdout);
    assert!(shown.contains(&format!("size = 7 # {}:2\n", path(&file))), "{shown}");
    assert!(shown.contains("level = \"debug\" # TIDEWIRE_LOG__LEVEL\n"), "{shown}");
    assert!(shown.contains("ttl = \"5m\" # default\n"), "{shown}");
}

#[test]
fn the_defaults_are_a_valid_file() {
    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("defaults.toml");
    std::fs::write(&file, stdout(&["config", "print", "--defaults"])).expect("file");

    assert_eq!(stdout(&["config", "print", "--config", path(&file)]), stdout(&["config", "print"]));
}

#[test]
fn the_schema_refuses_unknown_keys() {
    let schema: Value = serde_json::from_str(&stdout(&["config", "schema"])).expect("JSON");

    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["server"]["additionalProperties"], false);
}

#[test]
fn a_command_that_makes_no_token_is_named() {
    let output = tidewire(&["history", "room", "--token-command", "exit 3"]);

    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("the command for a token has failed: exit status: 3"), "{said}");
}
