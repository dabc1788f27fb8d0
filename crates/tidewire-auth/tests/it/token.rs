use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_auth::{
    Algorithm, KeyRing, Refusal, SigningKey, TokenError, TokenId, VerificationKey, Verifier,
};
use tidewire_model::{Action, Channel, Identity, Permissions};

use crate::keys::{NOW, SECRET, claims, key_id, key_pair, public_pem, tenant, tenant_keys};

#[test]
fn every_algorithm_signs_what_it_verifies() {
    for algorithm in Algorithm::ALL {
        let (signing, verifying) = key_pair(algorithm);
        let verifier = verifier_of("acme", vec![verifying]);

        let identity = verifier.verify(&signing.sign(&claims("acme")), NOW).expect("valid");

        assert_eq!(identity.tenant, tenant("acme"), "{algorithm}");
        assert_eq!(identity.user.as_str(), "ada");
        assert_eq!(identity.expires_at, Some(NOW + 3600 + 30));
        let channel = Channel::parse("chat/1").expect("channel");
        assert!(identity.permissions.allows(Action::Subscribe, &channel));
        assert!(!identity.permissions.allows(Action::Publish, &channel));
    }
}

#[test]
fn identities_with_equal_permissions_share_them() {
    let (signing, verifying) = key_pair(Algorithm::Hs256);
    let verifier = verifier_of("acme", vec![verifying]);
    let token = signing.sign(&claims("acme"));

    let first = verifier.verify(&token, NOW).expect("valid");
    let second = verifier.verify(&token, NOW).expect("valid");
    let text = serde_json::to_string(&first).expect("json");
    let read: Identity = serde_json::from_str(&text).expect("identity");

    assert!(second.permissions.is_shared_with(&first.permissions));
    assert!(!read.permissions.is_shared_with(&first.permissions));
    let shared = verifier.share(read);
    assert!(shared.permissions.is_shared_with(&first.permissions));
    assert_eq!(shared, first);
    assert_eq!(shared.tenant.as_str().as_ptr(), first.tenant.as_str().as_ptr());
}

#[test]
fn a_token_without_kid_is_tried_against_every_key_of_its_algorithm() {
    let (_, other) = key_pair(Algorithm::Hs256);
    let second = VerificationKey::from_secret(key_id("second"), SECRET).expect("key");
    let verifier = verifier_of("acme", vec![other, second]);
    let signing = SigningKey::from_secret(None, SECRET).expect("key");

    assert!(verifier.verify(&signing.sign(&claims("acme")), NOW).is_ok());
}

#[test]
fn a_public_key_used_as_a_secret_signs_nothing() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let pem = public_pem(algorithm);
        let verifying = VerificationKey::from_public_pem(key_id("main"), algorithm, &pem);
        let verifier = verifier_of("acme", vec![verifying.expect("key")]);

        for (kid, expected) in
            [(Some(key_id("main")), Refusal::Algorithm), (None, Refusal::UnknownKey)]
        {
            let forger = SigningKey::from_secret(kid, pem.as_bytes()).expect("key");
            let token = forger.sign(&claims("acme"));
            assert_eq!(verifier.examine(&token, NOW), Err(expected));
            assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Invalid));
        }
    }
}

#[test]
fn an_unsigned_token_is_nobodys() {
    let payload = serde_json::to_value(claims("acme")).expect("json");
    for alg in ["none", "None", "NONE", ""] {
        for kid in [json!({ "alg": alg }), json!({ "alg": alg, "kid": "main" })] {
            let token = format!("{}.{}.", encode(&kid), encode(&payload));

            assert_eq!(acme().verify(&token, NOW), Err(TokenError::Invalid), "{kid}");
        }
    }
}

#[test]
fn the_algorithm_is_the_keys_even_when_the_signature_fits() {
    let payload = serde_json::to_value(claims("acme")).expect("json");
    let token = sign_raw(&json!({ "alg": "HS512", "kid": "main" }), &payload);

    assert_eq!(acme().examine(&token, NOW), Err(Refusal::Algorithm));
}

#[test]
fn extensions_that_must_be_understood_are_not() {
    let payload = serde_json::to_value(claims("acme")).expect("json");
    let header = json!({ "alg": "HS256", "kid": "main", "crit": ["b64"], "b64": false });

    assert_eq!(acme().examine(&sign_raw(&header, &payload), NOW), Err(Refusal::Critical));
}

#[test]
fn a_key_speaks_for_its_own_tenant_only() {
    let (signing, foreign) = key_pair(Algorithm::Hs256);
    let own = VerificationKey::from_secret(key_id("main"), SECRET).expect("key");
    let ring = KeyRing::new([tenant_keys("acme", vec![own]), tenant_keys("rival", vec![foreign])]);
    let verifier = Verifier::new(ring.expect("ring"));

    assert!(verifier.verify(&signing.sign(&claims("rival")), NOW).is_ok());
    assert_eq!(verifier.examine(&signing.sign(&claims("acme")), NOW), Err(Refusal::Signature));
}

#[test]
fn a_client_cannot_tell_why_a_signature_was_not_accepted() {
    let wrong_secret = [7; 32];
    let forger = SigningKey::from_secret(Some(key_id("main")), &wrong_secret).expect("key");
    let stranger = SigningKey::from_secret(Some(key_id("other")), SECRET).expect("key");
    let cases = [
        (forger.sign(&claims("acme")), Refusal::Signature),
        (stranger.sign(&claims("acme")), Refusal::UnknownKey),
        (forger.sign(&claims("nobody")), Refusal::UnknownTenant),
    ];
    for (token, refusal) in cases {
        assert_eq!(acme().examine(&token, NOW), Err(refusal));
        assert_eq!(acme().verify(&token, NOW), Err(TokenError::Invalid));
        // An expired token with a wrong signature must not say that it was ours once.
        assert_eq!(acme().verify(&token, NOW + 9999), Err(TokenError::Invalid));
    }
}

#[test]
fn a_token_lives_from_nbf_to_exp_with_thirty_seconds_to_spare() {
    let verifier = acme();
    let token = sign(&json!({ "nbf": NOW, "exp": NOW + 100 }));
    let cases = [
        (NOW - 31, Err(Refusal::NotYetValid)),
        (NOW - 30, Ok(())),
        (NOW + 129, Ok(())),
        (NOW + 130, Err(Refusal::Expired)),
    ];
    for (now, expected) in cases {
        assert_eq!(verifier.examine(&token, now).map(drop), expected, "at {now}");
    }
    assert_eq!(verifier.verify(&token, NOW + 130), Err(TokenError::Expired));
}

#[test]
fn an_identity_is_not_expired_while_its_token_is_accepted() {
    let identity = acme().verify(&sign(&json!({ "exp": NOW })), NOW + 29).expect("valid");

    assert!(!identity.is_expired(NOW + 29));
    assert!(identity.is_expired(NOW + 30));
}

#[test]
fn a_token_may_not_outlive_the_allowed_lifetime() {
    let day = 24 * 3600;
    let short = acme().with_max_lifetime(Duration::from_mins(1));

    assert!(acme().examine(&sign(&json!({ "exp": NOW + day })), NOW).is_ok());
    let beyond = sign(&json!({ "exp": NOW + day + 31 }));
    assert_eq!(acme().examine(&beyond, NOW), Err(Refusal::Lifetime));
    assert_eq!(short.examine(&sign(&json!({})), NOW), Err(Refusal::Lifetime));
    assert_eq!(acme().examine(&sign(&json!({ "exp": u64::MAX })), NOW), Err(Refusal::Lifetime));
}

#[test]
fn claims_that_do_not_hold_are_refused() {
    let filters = |count: usize| -> Value {
        (0..count).map(|n| (format!("c{n}"), json!(["subscribe"]))).collect()
    };
    let cases = [
        (json!({ "aud": "elsewhere" }), Err(Refusal::Audience)),
        (json!({ "aud": [] }), Err(Refusal::Audience)),
        (json!({ "aud": null }), Err(Refusal::Claims)),
        (json!({ "aud": ["elsewhere", "tidewire"] }), Ok(())),
        (json!({ "aud": "tidewire" }), Ok(())),
        (json!({ "tenant": null }), Err(Refusal::Tenant)),
        (json!({ "tenant": "ACME" }), Err(Refusal::Tenant)),
        (json!({ "sub": null }), Err(Refusal::Claims)),
        (json!({ "sub": "" }), Err(Refusal::Claims)),
        (json!({ "exp": null }), Err(Refusal::Claims)),
        (json!({ "exp": -1 }), Err(Refusal::Claims)),
        (json!({ "exp": "soon" }), Err(Refusal::Claims)),
        (json!({ "exp": 1e300 }), Err(Refusal::Claims)),
        (json!({ "exp": 1_790_000_060.5 }), Ok(())),
        (json!({ "iat": NOW + 31 }), Err(Refusal::NotYetValid)),
        (json!({ "iat": NOW - 23 * 3600 + 30 }), Ok(())),
        (json!({ "iat": NOW - 23 * 3600 - 31 }), Err(Refusal::Lifetime)),
        (json!({ "jti": "x".repeat(128) }), Ok(())),
        (json!({ "jti": "x".repeat(129) }), Err(Refusal::Claims)),
        (json!({ "jti": "" }), Err(Refusal::Claims)),
        (json!({ "jti": 7 }), Err(Refusal::Claims)),
        (json!({ "channels": filters(Permissions::MAX_FILTERS) }), Ok(())),
        (
            json!({ "channels": filters(Permissions::MAX_FILTERS + 1) }),
            Err(Refusal::TooManyFilters),
        ),
        (
            json!({ "channels": filters(40), "denied": filters(Permissions::MAX_FILTERS - 39) }),
            Err(Refusal::TooManyFilters),
        ),
        (json!({ "denied": { "a": ["everything"] } }), Err(Refusal::Claims)),
        (json!({ "denied": ["a"] }), Err(Refusal::Claims)),
        (json!({ "channels": { "a/**/b": ["subscribe"] } }), Err(Refusal::Claims)),
        (json!({ "channels": { "a": ["everything"] } }), Err(Refusal::Claims)),
    ];
    for (changes, expected) in cases {
        assert_eq!(acme().examine(&sign(&changes), NOW).map(drop), expected, "{changes}");
    }
}

#[test]
fn an_identity_remembers_by_what_it_can_be_revoked() {
    let proved = |changes| acme().verify(&sign(&changes), NOW).expect("valid").provenance;

    let named = proved(json!({ "jti": "t-1", "iat": NOW - 5 })).expect("provenance");
    let bare = proved(json!({ "iat": null })).expect("provenance");

    let token = TokenId::parse("t-1").expect("token id");
    assert_eq!(named.key, key_id("main").trace());
    assert_eq!((named.token, named.issued_at), (Some(token.trace()), NOW - 5));
    assert_eq!((bare.token, bare.issued_at), (None, 0));
    let namesake = TokenId::parse("main").expect("token id");
    assert_ne!(key_id("main").trace(), namesake.trace());
}

#[test]
fn a_token_without_kid_is_of_the_key_that_has_signed_it() {
    let (_, other) = key_pair(Algorithm::Hs256);
    let second = VerificationKey::from_secret(key_id("second"), SECRET).expect("key");
    let verifier = verifier_of("acme", vec![other, second]);
    let signing = SigningKey::from_secret(None, SECRET).expect("key");

    let identity = verifier.verify(&signing.sign(&claims("acme")), NOW).expect("valid");

    assert_eq!(identity.provenance.expect("provenance").key, key_id("second").trace());
}

#[test]
fn a_token_that_grants_nothing_allows_nothing() {
    let identity = acme().verify(&sign(&json!({ "channels": null })), NOW).expect("valid");

    assert!(identity.permissions.is_empty());
}

#[test]
fn what_a_token_denies_is_not_allowed_by_what_it_grants() {
    let changes = json!({
        "channels": { "**": ["subscribe", "presence"], "staff/1": ["subscribe"] },
        "denied": { "staff/*": ["subscribe"] },
    });

    let permissions = acme().verify(&sign(&changes), NOW).expect("valid").permissions;

    let channel = |name| Channel::parse(name).expect("channel");
    assert!(permissions.allows(Action::Subscribe, &channel("staff")));
    assert!(!permissions.allows(Action::Subscribe, &channel("staff/1")));
    assert!(permissions.allows(Action::Presence, &channel("staff/1")));
}

#[test]
fn another_audience_can_be_asked_for() {
    let verifier = acme().with_audience("elsewhere");

    assert!(verifier.verify(&sign(&json!({ "aud": "elsewhere" })), NOW).is_ok());
    assert_eq!(verifier.examine(&sign(&json!({})), NOW), Err(Refusal::Audience));
}

#[test]
fn a_token_over_8_kib_is_not_looked_at() {
    let token = sign(&json!({ "padding": "x".repeat(8 * 1024) }));

    assert_eq!(acme().examine(&token, NOW), Err(Refusal::TooLong));
}

#[test]
fn a_changed_token_is_refused() {
    let token = sign(&json!({}));
    for position in (0..token.len()).step_by(7) {
        let mut bytes = token.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ascii");

        assert_eq!(acme().verify(&changed, NOW), Err(TokenError::Invalid), "byte {position}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_verifier_panic(text in any::<String>()) {
        prop_assert!(acme().verify(&text, NOW).is_err());
        prop_assert!(acme().verify_api_key(&text, &tenant("acme"), NOW).is_err());
    }

    #[test]
    fn no_header_and_payload_make_the_verifier_panic(
        header in "\\{(\"(alg|kid|crit)\":(\"[A-Za-z0-9]{0,6}\"|null|1|\\[\\]),?){0,3}\\}",
        payload in "\\{(\"(tenant|sub|exp|aud)\":(\"[a-z]{0,6}\"|null|1e9|\\[\\]),?){0,4}\\}",
        signature in "[A-Za-z0-9_=.-]{0,50}",
    ) {
        let parts = [base64url(header.as_bytes()), base64url(payload.as_bytes()), signature];
        prop_assert_eq!(acme().verify(&parts.join("."), NOW), Err(TokenError::Invalid));
    }
}

fn verifier_of(name: &str, keys: Vec<VerificationKey>) -> Verifier {
    Verifier::new(KeyRing::new([tenant_keys(name, keys)]).expect("ring"))
}

fn acme() -> Verifier {
    let key = VerificationKey::from_secret(key_id("main"), SECRET).expect("key");
    verifier_of("acme", vec![key])
}

/// A token of `acme` whose claims are changed; `null` removes one.
pub(crate) fn sign(changes: &Value) -> String {
    let mut payload = serde_json::to_value(claims("acme")).expect("json");
    let object = payload.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    sign_raw(&json!({ "alg": "HS256", "kid": "main" }), &payload)
}

/// Signs with HMAC-SHA-256 whatever the header says.
fn sign_raw(header: &Value, payload: &Value) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", base64url(signature.as_ref()))
}

fn encode(value: &Value) -> String {
    base64url(value.to_string().as_bytes())
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
