use std::path::PathBuf;

use crate::command::stdout;

const COMMANDS: [&str; 36] = [
    "",
    "dev",
    "serve",
    "pub",
    "sub",
    "history",
    "presence",
    "health",
    "drain",
    "placement",
    "version",
    "config",
    "config check",
    "config print",
    "config schema",
    "config init",
    "config docs",
    "tenant",
    "tenant list",
    "tenant show",
    "tenant create",
    "tenant apply",
    "tenant remove",
    "tenant key",
    "tenant key add",
    "tenant key remove",
    "tenant api-key",
    "tenant api-key create",
    "tenant api-key rotate",
    "tenant api-key remove",
    "tenant revoke",
    "tenant reseal",
    "token",
    "token create",
    "token verify",
    "token keygen",
];

#[test]
fn every_command_explains_itself_as_agreed() {
    let stale: Vec<_> = COMMANDS.into_iter().filter(|command| is_stale(command)).collect();

    assert!(stale.is_empty(), "if meant, run again with UPDATE_GOLDEN=1: {stale:?}");
}

#[test]
fn no_command_is_missing_here() {
    let listed = |help: &str| -> usize {
        let commands = help.split("Commands:\n").nth(1).expect("commands");
        commands.lines().take_while(|line| !line.is_empty()).count()
    };

    let nested =
        [&["config"][..], &["token"], &["tenant"], &["tenant", "key"], &["tenant", "api-key"]]
            .map(|names| listed(&stdout(&[names, &["--help"]].concat())));

    assert_eq!(COMMANDS.len(), 1 + listed(&stdout(&["--help"])) + nested.iter().sum::<usize>());
}

fn is_stale(command: &str) -> bool {
    let mut arguments: Vec<_> = command.split_whitespace().collect();
    arguments.push("--help");
    let help = stdout(&arguments);
    let name = if command.is_empty() { "tidewire".into() } else { command.replace(' ', "-") };
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/help/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &help).expect("golden file");
    }
    std::fs::read_to_string(file).unwrap_or_default() != help
}
