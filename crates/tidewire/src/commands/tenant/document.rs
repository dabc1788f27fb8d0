use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;
use tidewire_model::Tenant;
use toml::Table;

/// The tenants of a file: one, or those of a configuration.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<(Tenant, Value)>> {
    // What is there may be a secret, and is not repeated.
    let table: Table = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| 1 + before.matches('\n').count());
        anyhow!("not TOML, at line {line}")
    })?;
    let tenants = match table.get("tenants") {
        Some(toml::Value::Array(tenants)) => tenants.clone(),
        _ => vec![toml::Value::Table(table)],
    };
    if tenants.is_empty() {
        bail!("has no tenant");
    }
    tenants.into_iter().map(named).collect()
}

fn named(tenant: toml::Value) -> anyhow::Result<(Tenant, Value)> {
    let document = serde_json::to_value(tenant)?;
    let name = document["name"].as_str().context("a tenant needs its `name`")?;
    let name = Tenant::parse(name)?;
    Ok((name, document))
}

/// A document as [`read`] takes it.
pub(super) fn to_toml(document: &Value) -> anyhow::Result<String> {
    Ok(toml::to_string_pretty(&toml::Value::try_from(document)?)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_tenant_and_those_of_a_configuration_are_read_and_what_is_shown_is_read_again() {
        let alone = "name = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"********\"\n";
        let several =
            "[server]\nlisten = \"x\"\n[[tenants]]\nname = \"a\"\n[[tenants]]\nname = \"b\"\n";

        let acme = read(alone).expect("a tenant").remove(0);
        let names = read(several).expect("tenants");

        assert_eq!(
            acme.1,
            json!({ "name": "acme", "keys": [{ "id": "k", "secret": "********" }] })
        );
        assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read(&to_toml(&acme.1).expect("toml")).expect("again"), [acme]);
    }

    #[test]
    fn what_is_no_tenant_is_said_without_what_it_holds() {
        for (text, said) in [
            ("name = \"acme\"\nsecret = hush", "not TOML, at line 2"),
            ("a = 1", "a tenant needs its `name`"),
            ("tenants = []", "has no tenant"),
        ] {
            let error = read(text).expect_err(text).to_string();

            assert_eq!(error, said);
        }
    }
}
