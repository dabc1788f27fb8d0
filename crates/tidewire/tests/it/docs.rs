use std::path::PathBuf;

use crate::command::stdout;

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let committed = std::fs::read_to_string(file).expect("docs/configuration.md");

    assert!(
        committed == stdout(&["config", "docs"]),
        "docs/configuration.md is stale: `tidewire config docs > docs/configuration.md`"
    );
}
