use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{path, program, stdout, text, tidewire};

const SECRET: &str = "a secret of the tenant, 32 bytes";

#[test]
fn a_token_made_with_the_configuration_verifies_with_it() {
    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("tidewire.toml");
    stdout(&["config", "init", "--output", path(&file)]);

    let token = stdout(&[
        "token",
        "create",
        "--config",
        path(&file),
        "--tenant",
        "demo",
        "--user",
        "ada",
        "--channel",
        "chat/*=subscribe,publish",
        "--channel",
        "news=history",
        "--deny",
        "chat/staff=publish",
        "--ttl",
        "10m",
    ]);
    let identity = verified(&["--config", path(&file), token.trim()]);

    assert_eq!(identity["tenant"], "demo");
    assert_eq!(identity["user"], "ada");
    assert_eq!(identity["permissions"]["chat/*"], serde_json::json!(["subscribe", "publish"]));
    assert_eq!(identity["permissions"]["news"], serde_json::json!(["history"]));
    assert_eq!(identity["denied"], serde_json::json!({ "chat/staff": ["publish"] }));
}

#[test]
fn every_generated_key_signs_and_verifies() {
    let directory = TempDir::new().expect("directory");
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        let (private, public) = key_files(directory.path(), algorithm);

        let token = stdout(&[
            "token",
            "create",
            "--key-file",
            &private,
            "--algorithm",
            algorithm,
            "--kid",
            "k1",
            "--tenant",
            "acme",
            "--user",
            "ada",
        ]);
        let identity = verified(&[
            "--key-file",
            &public,
            "--algorithm",
            algorithm,
            "--tenant",
            "acme",
            token.trim(),
        ]);

        assert_eq!(identity["user"], "ada", "{algorithm}");
    }
}

#[test]
fn a_generated_secret_signs_and_verifies() {
    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("secret");
    std::fs::write(&file, stdout(&["token", "keygen", "--algorithm", "HS256"])).expect("file");

    let token = stdout(&[
        "token",
        "create",
        "--secret-file",
        path(&file),
        "--tenant",
        "acme",
        "--user",
        "ada",
    ]);
    let identity = verified(&["--secret-file", path(&file), "--tenant", "acme", token.trim()]);

    assert_eq!(identity["tenant"], "acme");
}

#[test]
fn a_token_can_be_piped_in() {
    let token =
        stdout(&["token", "create", "--secret", SECRET, "--tenant", "acme", "--user", "ada"]);
    let mut verify = program()
        .args(["token", "verify", "--secret", SECRET, "--tenant", "acme"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    verify.stdin.take().expect("piped").write_all(token.as_bytes()).expect("written");

    let output = verify.wait_with_output().expect("the program ends");

    assert!(output.status.success());
    assert!(text(&output.stdout).contains("\"ada\""));
}

#[test]
fn a_refused_token_exits_with_1_and_says_why() {
    let token =
        stdout(&["token", "create", "--secret", SECRET, "--tenant", "acme", "--user", "ada"]);
    let verify = |arguments: &[&str]| {
        let mut all = vec!["token", "verify", token.trim()];
        all.extend(arguments);
        let output = tidewire(&all);
        assert!(output.stdout.is_empty());
        (output.status.code(), text(&output.stderr))
    };

    for (arguments, reason) in [
        (["--tenant", "acme", "--secret", "another secret of 32 or more bytes"], "signature"),
        (["--tenant", "rival", "--secret", SECRET], "tenant that does not exist"),
    ] {
        let (code, stderr) = verify(&arguments);

        assert_eq!(code, Some(1));
        assert!(stderr.contains(reason), "{stderr}");
        assert!(!stderr.contains(token.trim()), "{stderr}");
    }
}

#[test]
fn a_token_needs_exactly_one_key() {
    let common = ["token", "create", "--tenant", "acme", "--user", "ada"];
    for key in [
        vec![],
        vec!["--secret", SECRET, "--secret-file", "x"],
        vec!["--key-file", "x"],
        vec!["--algorithm", "ES256"],
    ] {
        let arguments = [&common[..], &key[..]].concat();

        assert_eq!(tidewire(&arguments).status.code(), Some(2), "{key:?}");
    }
}

fn verified(arguments: &[&str]) -> Value {
    let output = stdout(&[&["token", "verify"], arguments].concat());
    serde_json::from_str(&output).expect("JSON")
}

/// Splits what `keygen` prints into a file for each half.
fn key_files(directory: &Path, algorithm: &str) -> (String, String) {
    let pem = stdout(&["token", "keygen", "--algorithm", algorithm]);
    let (private, public) = pem.split_at(pem.find("-----BEGIN PUBLIC").expect("a public key"));
    let write = |name: &str, half: &str| {
        let file = directory.join(format!("{algorithm}-{name}.pem"));
        std::fs::write(&file, half).expect("file");
        path(&file).to_owned()
    };
    (write("private", private), write("public", public))
}
