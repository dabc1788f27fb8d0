use std::path::PathBuf;

use crate::loadtest;

#[test]
fn the_options_are_as_agreed() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/help.txt");

    let output = loadtest(&["--help"]).output().expect("it runs");

    let help = String::from_utf8(output.stdout).expect("help is text");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &help).expect("golden file");
    }
    let agreed = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(help, agreed, "if meant, run again with UPDATE_GOLDEN=1");
}
