use std::net::TcpListener;
use std::process::Output;

use crate::{Dev, loadtest};

#[test]
fn what_is_not_this_machine_is_left_alone() {
    let output = run(&["--dev", "--url", "ws://192.0.2.1:8000"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("--i-own-the-target"), "{output:?}");
}

#[test]
fn a_run_that_would_measure_nothing_is_not_begun() {
    let output = run(&["--dev", "--rate", "1000", "--warmup", "2", "--count", "2000"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("--count"), "{output:?}");
}

#[test]
fn nobody_listening_is_an_error_that_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let secret = secret();
    let key = format!("acme={}", secret.path().display());

    let output = run(&["--tenant-key", &key, "--url", &format!("ws://{address}")]);

    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains(&address.to_string()), "{output:?}");
}

#[test]
fn a_foreign_key_lets_nobody_in() {
    let dev = Dev::start();
    let secret = secret();
    let key = format!("dev={}", secret.path().display());

    let output = run(&["--tenant-key", &key, "--url", &dev.url]);

    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("bad_token"), "{output:?}");
}

fn run(arguments: &[&str]) -> Output {
    loadtest(arguments).output().expect("it runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn secret() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "a secret of at least thirty-two bytes\n").expect("it is writable");
    file
}
