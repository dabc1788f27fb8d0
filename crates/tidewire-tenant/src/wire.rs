//! A tenant as the registry keeps it: its document in JSON, sealed.

use std::time::Duration;

use tidewire_auth::{KeyRing, SealError, Vault};
use tidewire_model::{Retention, Tenant};

use crate::document::{self, ChannelRule};
use crate::{Definition, Incarnation, Origins, Period, Problems, check};

/// The longest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

const MAX_RULES: usize = 256;
const HISTORY_SIZES: std::ops::RangeInclusive<u32> = 1..=100_000;
const HISTORY_TTLS: [Duration; 2] = [Duration::from_secs(1), Duration::from_hours(7 * 24)];
const PRESENCE_DEBOUNCES: [Duration; 2] = [Duration::ZERO, Duration::from_mins(1)];
const LISTED: std::ops::RangeInclusive<u32> = 1..=100_000;
const PUBLISH_RATES: std::ops::RangeInclusive<u32> = 1..=1_000_000;
const FLUSH_WINDOWS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(100)];
const SAMPLES: [Duration; 2] = [Duration::from_millis(10), Duration::from_mins(1)];
const KEY_BYTES: std::ops::RangeInclusive<usize> = 1..=64;

/// Reads and checks the document of `tenant`, as it came from outside or from the registry.
///
/// `history` is what is kept of channels of which no rule says something else.
///
/// # Errors
///
/// Everything that is wrong with it. A member that is not known is wrong: it may hold what an older
/// version must not ignore.
pub fn parse(tenant: &Tenant, text: &[u8], history: Retention) -> Result<Definition, Problems> {
    let mut problems = Problems::default();
    if text.len() > MAX_DOCUMENT_BYTES {
        problems.add("", format!("has more than {MAX_DOCUMENT_BYTES} bytes"));
        return Err(problems);
    }
    let document: document::Tenant = serde_json::from_slice(text).map_err(|error| {
        problems.add("", explain(&error));
        problems.clone()
    })?;
    if document.name != tenant.as_str() {
        problems.add("name", format!("is not `{tenant}`, for which the document is"));
    }
    check_bounds(&document, &mut problems);
    let definition = check(&document, "", history, &mut problems);
    let definition = definition.filter(|definition| {
        let alone = KeyRing::new([definition.keys.clone()]);
        problems.accept("", alone).is_some()
    });
    definition.filter(|_| problems.is_empty()).ok_or(problems)
}

/// Where it is wrong. What is wrong may be a secret in the wrong place, and is not repeated.
fn explain(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "is not a tenant's document",
        _ => "is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// What a file's schema says of the same members.
fn check_bounds(document: &document::Tenant, problems: &mut Problems) {
    for (index, key) in document.keys.iter().enumerate() {
        let files = [("secret_file", &key.secret_file), ("public_key_file", &key.public_key_file)];
        for (name, _) in files.iter().filter(|(_, file)| file.is_some()) {
            problems.add(&format!("keys[{index}].{name}"), NO_FILES);
        }
    }
    for (index, key) in document.api_keys.iter().enumerate() {
        if key.secret_file.is_some() {
            problems.add(&format!("api_keys[{index}].secret_file"), NO_FILES);
        }
    }
    if document.allowed_origins.len() > Origins::MOST {
        problems.add("allowed_origins", format!("at most {} allowed", Origins::MOST));
    }
    if document.rules.len() > MAX_RULES {
        problems.add("rules", format!("at most {MAX_RULES} allowed"));
    }
    for (index, rule) in document.rules.iter().enumerate() {
        check_rule(rule, &format!("rules[{index}]"), problems);
    }
}

const NO_FILES: &str = "is for the files of a node: give the text itself";

fn check_rule(rule: &ChannelRule, path: &str, problems: &mut Problems) {
    if rule.history_size.is_some_and(|size| !HISTORY_SIZES.contains(&size)) {
        problems.add(&format!("{path}.history_size"), "expected a whole number from 1 to 100000");
    }
    if rule.presence_listed.is_some_and(|listed| !LISTED.contains(&listed)) {
        problems
            .add(&format!("{path}.presence_listed"), "expected a whole number from 1 to 100000");
    }
    if rule.publish_rate.is_some_and(|rate| !PUBLISH_RATES.contains(&rate)) {
        problems.add(&format!("{path}.publish_rate"), "expected a whole number from 1 to 1000000");
    }
    if rule.key.as_ref().is_some_and(|key| !KEY_BYTES.contains(&key.len())) {
        problems.add(&format!("{path}.key"), "expected 1 to 64 characters");
    }
    let spans = [
        ("history_ttl", rule.history_ttl, HISTORY_TTLS, "expected a duration from 1s to 7d"),
        ("flush_window", rule.flush_window, FLUSH_WINDOWS, "expected a duration from 0s to 100ms"),
        (
            "presence_debounce",
            rule.presence_debounce,
            PRESENCE_DEBOUNCES,
            "expected a duration from 0s to 1m",
        ),
        ("sample", rule.sample, SAMPLES, "expected a duration from 10ms to 1m"),
    ];
    for (name, span, [least, most], message) in spans {
        let span = span.map(Period::duration);
        if span.is_some_and(|span| span < least || span > most) {
            problems.add(&format!("{path}.{name}"), message);
        }
    }
}

/// Seals the document of `tenant` as its `revision`: it opens as no other's and no other. What was
/// sealed under another `incarnation` is of somebody else who had the name.
pub fn seal(
    vault: &Vault,
    tenant: &Tenant,
    (revision, incarnation): (u64, Incarnation),
    text: &[u8],
) -> Vec<u8> {
    let content = [&incarnation.0.to_be_bytes()[..], text].concat();
    vault.seal(&purpose(tenant, revision), &content)
}

/// # Errors
///
/// When it was sealed as something else, by a key that is not live, or has been changed.
pub fn open(
    vault: &Vault,
    tenant: &Tenant,
    revision: u64,
    sealed: &[u8],
) -> Result<(Incarnation, Vec<u8>), SealError> {
    let content = vault.open(&purpose(tenant, revision), sealed)?;
    match content.split_first_chunk::<8>() {
        // A document begins with a brace.
        Some((number, text)) if number[0] == 0 => {
            Ok((Incarnation(u64::from_be_bytes(*number)), text.to_vec()))
        }
        _ => Ok((Incarnation::default(), content)),
    }
}

fn purpose(tenant: &Tenant, revision: u64) -> Vec<u8> {
    format!("tenant {tenant} {revision}").into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidewire_auth::SealKey;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn acme() -> Tenant {
        Tenant::parse("acme").expect("tenant")
    }

    fn problems_of(text: &str) -> Vec<String> {
        let refused = parse(&acme(), text.as_bytes(), Retention::default()).expect_err(text);
        refused
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    fn document(members: &str) -> String {
        let key = format!(r#"{{"id":"k","algorithm":"HS256","secret":"{SECRET}"}}"#);
        format!(r#"{{"name":"acme","keys":[{key}]{members}}}"#)
    }

    #[test]
    fn a_document_becomes_what_a_file_would() {
        let rules =
            r#","sessions":"strict","homes":64,"rules":[{"pattern":"a/*","preset":"state"}]"#;

        let definition =
            parse(&acme(), document(rules).as_bytes(), Retention::default()).expect("valid");

        assert_eq!(definition.keys.tenant, acme());
        assert_eq!(definition.keys.keys.len(), 1);
        assert_eq!(definition.rules[0].filter.as_str(), "a/*");
        assert_eq!(definition.details.sessions, tidewire_model::SessionKind::Strict);
        assert_eq!(definition.details.homes.map(std::num::NonZeroU8::get), Some(64));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_no_secret_with_it() {
        let wrong = document(
            r#","rules":[{"pattern":"a-*"},{"pattern":"b","history_size":0,"flush_window":"1s","publish_rate":0}]"#,
        )
        .replace("\"acme\"", "\"umbrella\"");

        let problems = problems_of(&wrong);

        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(!problems.concat().contains(SECRET));
    }

    #[test]
    fn nobody_has_no_home_or_more_than_64() {
        for homes in [0, 65, 300] {
            let problems = problems_of(&document(&format!(r#","homes":{homes}"#)));
            assert_eq!(problems, ["homes: expected a whole number from 1 to 64"]);
        }
    }

    #[test]
    fn what_is_not_known_or_would_read_a_file_is_refused() {
        let unknown = problems_of(&document(&format!(r#","secret":"{SECRET}""#)));
        let file = problems_of(
            r#"{"name":"acme","keys":[{"id":"k","algorithm":"HS256","secret_file":"/etc/passwd"}]}"#,
        );

        assert!(unknown[0].starts_with(": is not a tenant's document"), "{unknown:?}");
        assert!(!unknown[0].contains(SECRET));
        assert!(file[0].starts_with("keys[0].secret_file: "), "{file:?}");
    }

    #[test]
    fn what_is_sealed_for_one_tenant_opens_as_no_other_and_as_no_other_revision() {
        let vault = Vault::new(&[SealKey::from_bytes([1; 32])]).expect("vault");
        let other = Tenant::parse("umbrella").expect("tenant");

        let incarnation = Incarnation::from_random(7);
        let sealed = seal(&vault, &acme(), (3, incarnation), b"text");

        assert_eq!(open(&vault, &acme(), 3, &sealed), Ok((incarnation, b"text".to_vec())));
        assert_eq!(open(&vault, &other, 3, &sealed), Err(SealError::Invalid));
        assert_eq!(open(&vault, &acme(), 4, &sealed), Err(SealError::Invalid));
    }

    #[test]
    fn a_document_from_before_there_were_incarnations_opens_as_it_was() {
        let vault = Vault::new(&[SealKey::from_bytes([1; 32])]).expect("vault");
        let text = document("");

        let sealed = vault.seal(&purpose(&acme(), 3), text.as_bytes());

        let opened = open(&vault, &acme(), 3, &sealed);
        assert_eq!(opened, Ok((Incarnation::default(), text.into_bytes())));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_no_panic(bytes: Vec<u8>, text in r#"\{("[a-z_]{1,10}":(1|"x"|\[\]),?){0,4}\}"#) {
            drop(parse(&acme(), &bytes, Retention::default()));
            drop(parse(&acme(), text.as_bytes(), Retention::default()));
        }
    }
}
