use tidewire_auth::{
    ApiKey, ApiKeyId, ApiKeyRefused, InvalidApiKey, KeyRing, Scope, TenantKeys, Verifier,
};
use tidewire_model::{Action, Filter, Permissions};

use crate::keys::{tenant, tenant_keys};

const NOW: u64 = 1_700_000_000;
const SECRET: &str = "an-api-secret-of-thirty-two-byte";
/// `printf %s "$SECRET" | sha256sum`
const SECRET_SHA256: &str = "eb5044a737183e6c1fb576f291309a4974ef865bd38509cc084df84f655b2fdf";

#[test]
fn a_servers_key_says_whose_it_is_and_what_it_may_do() {
    for header_value in [
        format!("server.{SECRET}"),
        format!("Bearer server.{SECRET}"),
        format!("bearer  server.{SECRET}"),
    ] {
        let identity =
            verifier().verify_api_key(&header_value, &tenant("acme"), NOW).expect("valid");

        assert_eq!(identity.tenant, tenant("acme"));
        assert_eq!(identity.key.as_str(), "server");
        assert_eq!(identity.permissions, permissions());
    }
}

#[test]
fn a_key_kept_as_a_hash_is_the_same_key() {
    let key = ApiKey::from_sha256(id("server"), SECRET_SHA256, permissions()).expect("key");
    let keys = TenantKeys { api_keys: vec![key], ..tenant_keys("acme", vec![]) };
    let verifier = Verifier::new(KeyRing::new([keys]).expect("ring"));

    assert!(verifier.verify_api_key(&format!("server.{SECRET}"), &tenant("acme"), NOW).is_ok());
}

#[test]
fn whatever_is_wrong_with_a_key_looks_the_same() {
    let long = format!("server.{}", "x".repeat(600));
    let cases = [
        ("", "acme"),
        ("server", "acme"),
        ("server.", "acme"),
        (".", "acme"),
        ("server.an-api-secret-of-thirty-two-bytE", "acme"),
        ("other.an-api-secret-of-thirty-two-byte", "acme"),
        ("Basic server.an-api-secret-of-thirty-two-byte", "acme"),
        ("server.an-api-secret-of-thirty-two-byte", "rival"),
        ("server.an-api-secret-of-thirty-two-byte", "nobody"),
        (long.as_str(), "acme"),
    ];
    for (header_value, name) in cases {
        let result = verifier().verify_api_key(header_value, &tenant(name), NOW);

        assert_eq!(result, Err(ApiKeyRefused), "{header_value} for {name}");
    }
}

#[test]
fn a_header_over_512_bytes_is_not_hashed_even_if_it_would_match() {
    const HASH: &str = "5130b33e6b87fbf5316ed9049e98924eb110800bcbaaad8050f642fba6df37c9";
    let key = ApiKey::from_sha256(id("server"), HASH, permissions()).expect("key");
    let keys = TenantKeys { api_keys: vec![key], ..tenant_keys("acme", vec![]) };
    let verifier = Verifier::new(KeyRing::new([keys]).expect("ring"));

    let result =
        verifier.verify_api_key(&format!("server.{}", "x".repeat(600)), &tenant("acme"), NOW);

    assert_eq!(result, Err(ApiKeyRefused));
}

#[test]
fn keys_that_are_weak_or_malformed_are_refused() {
    let long = ApiKey::from_secret(id("server"), &"x".repeat(257), permissions());
    let short = ApiKey::from_secret(id("server"), &SECRET[1..], permissions());
    let bad_hash = ApiKey::from_sha256(id("server"), "+f", permissions());

    assert_eq!(short.map(drop), Err(InvalidApiKey::ShortSecret { bytes: 31 }));
    assert_eq!(long.map(drop), Err(InvalidApiKey::LongSecret { bytes: 257 }));
    assert_eq!(bad_hash.map(drop), Err(InvalidApiKey::Hash));
    for text in ["", "a.b", "a b", "ä", &"x".repeat(65)] {
        assert_eq!(ApiKeyId::parse(text), Err(InvalidApiKey::Id), "{text:?}");
    }
}

#[test]
fn of_a_rotated_key_both_secrets_are_its_until_the_overlap_ends() {
    const NEW: &str = "another-secret-of-32-or-more-bytes";
    let key = ApiKey::from_secret(id("server"), NEW, permissions()).expect("key");
    let key = key.with_previous(SECRET_SHA256, NOW + 10).expect("a hash");
    let verifier = verifier_with(key);
    let is_let_in = |secret: &str, now| {
        verifier.verify_api_key(&format!("server.{secret}"), &tenant("acme"), now).is_ok()
    };

    assert!(is_let_in(NEW, NOW) && is_let_in(SECRET, NOW) && is_let_in(SECRET, NOW + 9));
    assert!(is_let_in(NEW, NOW + 10) && !is_let_in(SECRET, NOW + 10));
    assert!(!is_let_in("neither-of-them-but-just-as-long-", NOW));
}

#[test]
fn a_key_that_has_expired_looks_like_one_that_never_was() {
    let key = ApiKey::from_secret(id("server"), SECRET, permissions()).expect("key");
    let key = key.with_previous(SECRET_SHA256, u64::MAX).expect("a hash").expiring_at(NOW);
    let verifier = verifier_with(key);
    let verdict = |now| {
        let identity = verifier.verify_api_key(&format!("server.{SECRET}"), &tenant("acme"), now);
        identity.map(drop)
    };

    assert_eq!(verdict(NOW - 1), Ok(()));
    assert_eq!(verdict(NOW), Err(ApiKeyRefused));
}

#[test]
fn a_key_is_for_what_its_scopes_say() {
    let key = ApiKey::from_secret(id("server"), SECRET, permissions()).expect("key");
    let verifier = verifier_with(key.with_scopes([Scope::Tickets].into_iter().collect()));

    let identity = verifier.verify_api_key(&format!("server.{SECRET}"), &tenant("acme"), NOW);

    let scopes = identity.expect("valid").scopes;
    assert!(scopes.contains(Scope::Tickets) && !scopes.contains(Scope::Publish));
}

#[test]
fn debug_shows_no_hash() {
    let key = ApiKey::from_sha256(id("server"), SECRET_SHA256, permissions()).expect("key");

    assert_eq!(format!("{key:?}"), "ApiKey { id: ApiKeyId(\"server\"), .. }");
}

fn verifier() -> Verifier {
    verifier_with(ApiKey::from_secret(id("server"), SECRET, permissions()).expect("key"))
}

fn verifier_with(key: ApiKey) -> Verifier {
    let keys = TenantKeys { api_keys: vec![key], ..tenant_keys("acme", vec![]) };
    Verifier::new(KeyRing::new([keys, tenant_keys("rival", vec![])]).expect("ring"))
}

fn id(text: &str) -> ApiKeyId {
    ApiKeyId::parse(text).expect("id")
}

fn permissions() -> Permissions {
    let filter = Filter::parse("orders/**").expect("filter");
    Permissions::default().grant(filter, [Action::Publish])
}
