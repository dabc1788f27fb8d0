//! Issuers: their sets of keys, and whose tokens those prove.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_auth::{
    Algorithm, GeneratedKey, InvalidKeyRing, InvalidSet, Issuer, IssuerName, KeyRing,
    MAX_SET_BYTES, Refusal, TenantKeys, VerificationKey, Verifier, parse_set,
};
use tidewire_model::{Action, Channel, Filter, Permissions};

use crate::keys::{NOW, SECRET, claims, key_id, tenant, tenant_keys};
use crate::token::base64url;

const ACME: &str = "https://login.acme.example/";
const RIVAL: &str = "https://login.rival.example/";

#[test]
fn a_key_of_each_kind_is_read_and_verifies() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let (signing, jwk) = key_pair("k", algorithm);

        let verifier = issued(&json!({ "keys": [jwk] }));

        let token = sign(&signing, &json!({ "iss": ACME, "tenant": null }));
        let identity = verifier.examine(&token, NOW).expect("valid");
        assert_eq!(identity.tenant, tenant("acme"), "{algorithm}");
        assert_eq!(identity.provenance.expect("provenance").key, key_id("k").trace());
    }
}

#[test]
fn what_verifies_no_tokens_is_passed_over_and_harms_no_other() {
    let (_, good) = key_pair("good", Algorithm::Es256);
    let (_, rsa) = key_pair("rsa", Algorithm::Rs256);
    let with = |key: &Value, changes: Value| {
        let mut key = key.clone();
        for (name, value) in changes.as_object().expect("an object") {
            key[name] = value.clone();
        }
        key
    };
    let odd = [
        json!({ "kty": "oct", "kid": "odd", "k": base64url(SECRET) }),
        with(&good, json!({ "kid": null })),
        with(&good, json!({ "kid": "" })),
        with(&good, json!({ "kid": "odd", "use": "enc" })),
        with(&good, json!({ "kid": "odd", "key_ops": ["sign"] })),
        with(&good, json!({ "kid": "odd", "alg": "ES384" })),
        with(&good, json!({ "kid": "odd", "alg": "HS256" })),
        with(&good, json!({ "kid": "odd", "crv": "P-384" })),
        with(&good, json!({ "kid": "odd", "crv": "secp256k1" })),
        with(&good, json!({ "kid": "odd", "x": base64url(&[1; 32]), "y": base64url(&[1; 32]) })),
        with(&good, json!({ "kid": "odd", "x": base64url(&[1; 31]) })),
        with(&good, json!({ "kid": "odd", "x": "not base64" })),
        with(&good, json!({ "kid": "odd", "kty": "OKP" })),
        with(&rsa, json!({ "kid": "odd", "n": base64url(&[255; 255]) })),
        with(&rsa, json!({ "kid": "odd", "n": base64url(&[255; 513]) })),
        with(&rsa, json!({ "kid": "odd", "n": "" })),
        with(&rsa, json!({ "kid": "odd", "e": base64url(&[1, 0, 0, 0, 1]) })),
        with(&rsa, json!({ "kid": "odd", "alg": "PS256" })),
        json!({ "kid": "odd", "kty": 7 }),
        json!("odd"),
        json!(null),
    ];
    for odd in odd {
        let set = json!({ "keys": [odd, good], "more": true }).to_string();

        let keys = parse_set(set.as_bytes()).expect("a set");

        let ids: Vec<_> = keys.iter().map(|key| key.id().as_str()).collect();
        assert_eq!(ids, ["good"], "{odd}");
    }
}

#[test]
fn what_is_said_besides_does_not_matter() {
    let (_, mut key) = key_pair("k", Algorithm::EdDsa);
    for said in [
        json!({}),
        json!({ "use": "sig", "alg": "EdDSA", "key_ops": ["verify", "sign"] }),
        json!({ "alg": "Ed25519", "x5c": ["MII"], "private": 1 }),
    ] {
        for (name, value) in said.as_object().expect("an object") {
            key[name] = value.clone();
        }
        let keys = parse_set(json!({ "keys": [key] }).to_string().as_bytes()).expect("a set");

        assert_eq!(keys.len(), 1, "{said}");
    }
}

#[test]
fn of_two_keys_with_one_name_the_first_is_taken() {
    let (first, one) = key_pair("k", Algorithm::Es256);
    let (second, other) = key_pair("k", Algorithm::Es256);
    let verifier = issued(&json!({ "keys": [one, other] }));

    let verdict = |key| verifier.examine(&sign(key, &json!({ "iss": ACME })), NOW).map(drop);

    assert_eq!(verdict(&first), Ok(()));
    assert_eq!(verdict(&second), Err(Refusal::Signature));
}

#[test]
fn a_set_beyond_what_any_may_be_is_refused_whole() {
    let (_, key) = key_pair("k", Algorithm::EdDsa);
    let of = |count: usize| json!({ "keys": vec![key.clone(); count] }).to_string();

    assert_eq!(parse_set(of(32).as_bytes()).map(|keys| keys.len()), Ok(1));
    assert_eq!(parse_set(of(33).as_bytes()).map(drop), Err(InvalidSet::TooManyKeys));
    let long = format!("{}{}", of(1), " ".repeat(MAX_SET_BYTES));
    assert_eq!(parse_set(long.as_bytes()).map(drop), Err(InvalidSet::TooLong));
    for none in ["", "[]", "{}", r#"{"keys":7}"#, r#"{"keys":[}"#, "<html>"] {
        assert_eq!(parse_set(none.as_bytes()).map(drop), Err(InvalidSet::Malformed), "{none}");
    }
}

/// Appendix A.1 of RFC 7517, whose first key is for encryption, and appendix A.2 of RFC 8037.
#[test]
fn the_examples_of_the_specifications_are_read() {
    let set = r#"{"keys":[
        {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
         "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
        {"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
         "e":"AQAB","alg":"RS256","kid":"2011-04-29"},
        {"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    let keys = parse_set(set.as_bytes()).expect("a set");

    let read: Vec<_> = keys.iter().map(|key| (key.id().as_str(), key.algorithm())).collect();
    assert_eq!(read, [("2011-04-29", Algorithm::Rs256), ("ed", Algorithm::EdDsa)]);
}

#[test]
fn a_name_that_is_registered_says_whose_a_token_is_and_nothing_else_does() {
    let (signing, jwk) = key_pair("k", Algorithm::Es256);
    let verifier = issued(&json!({ "keys": [jwk] }));
    let verdict = |claims| {
        let identity = verifier.examine(&sign(&signing, &claims), NOW)?;
        Ok(identity.tenant.as_str().to_owned())
    };

    assert_eq!(verdict(json!({ "iss": ACME })), Ok("acme".into()));
    assert_eq!(verdict(json!({ "iss": ACME, "tenant": "rival" })), Err(Refusal::Tenant));
    assert_eq!(verdict(json!({ "iss": RIVAL })), Err(Refusal::Tenant));
    assert_eq!(verdict(json!({ "iss": RIVAL, "tenant": null })), Err(Refusal::UnknownIssuedKey));
    // What an issuer has published proves nothing without its name.
    assert_eq!(verdict(json!({})), Err(Refusal::UnknownKey));
    let unknown = json!({ "iss": "https://nobody.example", "tenant": null });
    assert_eq!(verdict(unknown), Err(Refusal::UnknownTenant));
    assert_eq!(verdict(json!({ "tenant": null })), Err(Refusal::Tenant));
}

#[test]
fn who_publishes_the_key_of_another_gains_nothing_and_takes_nothing() {
    let (signing, jwk) = key_pair("k", Algorithm::Es256);
    let verifier = verifier(&json!({ "keys": [jwk] }), &json!({ "keys": [jwk] }));

    let of = |issuer: &str| {
        let token = sign(&signing, &json!({ "iss": issuer, "tenant": null }));
        verifier.examine(&token, NOW).expect("valid").tenant
    };

    assert_eq!((of(ACME), of(RIVAL)), (tenant("acme"), tenant("rival")));
    let crossed = sign(&signing, &json!({ "iss": RIVAL, "tenant": "acme" }));
    assert_eq!(verifier.examine(&crossed, NOW), Err(Refusal::Tenant));
}

#[test]
fn an_issuers_key_is_never_tried_without_its_name() {
    let (mut signing, jwk) = key_pair("k", Algorithm::Es256);
    let verifier = issued(&json!({ "keys": [jwk] }));

    signing.header.kid = None;
    let token = sign(&signing, &json!({ "iss": ACME }));

    assert_eq!(verifier.examine(&token, NOW), Err(Refusal::UnknownKey));
}

#[test]
fn a_tenants_own_key_goes_on_beside_its_issuer() {
    let verifier = issued(&json!({ "keys": [] }));
    let header = Header { kid: Some("own".into()), ..Header::default() };
    let own = Signer { header, key: EncodingKey::from_secret(SECRET) };

    for changes in [json!({}), json!({ "iss": ACME }), json!({ "iss": ACME, "tenant": null })] {
        let token = sign(&own, &changes);
        assert!(verifier.examine(&token, NOW).is_ok(), "{changes}");
    }
}

#[test]
fn an_issuer_has_an_audience_and_grants_of_its_own() {
    let (signing, jwk) = key_pair("k", Algorithm::Es256);
    let verifier = issued(&json!({ "keys": [jwk] }));
    let judge = |changes: Value| {
        let mut all = json!({ "iss": ACME, "aud": "acme-app" });
        for (name, value) in changes.as_object().expect("an object") {
            all[name] = value.clone();
        }
        verifier.examine(&sign(&signing, &all), NOW).map(|identity| identity.permissions)
    };
    let may = |permissions: &Permissions, name| {
        permissions.allows(Action::Subscribe, &Channel::parse(name).expect("channel"))
    };

    let granted = judge(json!({ "channels": null })).expect("valid");
    assert!(may(&granted, "app/1") && !may(&granted, "chat/1"));
    let denied = judge(json!({ "channels": null, "denied": { "app/1": ["subscribe"] } }));
    let denied = denied.expect("valid");
    assert!(may(&denied, "app/2") && !may(&denied, "app/1"));
    let said = judge(json!({ "channels": { "chat/*": ["subscribe"] } })).expect("valid");
    assert!(may(&said, "chat/1") && !may(&said, "app/1"));
    assert!(judge(json!({ "channels": {} })).expect("valid").is_empty());
    assert_eq!(judge(json!({ "aud": "tidewire" })), Err(Refusal::Audience));
}

#[test]
fn no_two_tenants_may_have_one_issuer() {
    let ring = KeyRing::new([issued_keys("acme", ACME), issued_keys("rival", ACME)]);

    let (first, second) = (tenant("acme"), tenant("rival"));
    assert_eq!(ring.map(drop), Err(InvalidKeyRing::SharedIssuer { first, second }));
}

#[test]
fn keys_are_an_issuers_as_long_as_the_tenant_has_it() {
    let (signing, jwk) = key_pair("k", Algorithm::Es256);
    let keys = || parse_set(json!({ "keys": [jwk] }).to_string().as_bytes()).expect("a set");
    let name = |text| IssuerName::parse(text).expect("issuer");
    let token = sign(&signing, &json!({ "iss": ACME }));
    let mut ring = KeyRing::new([issued_keys("acme", ACME)]).expect("ring");
    let judge = |ring: &KeyRing| Verifier::new(ring.clone()).examine(&token, NOW).map(drop);

    assert!(!ring.publish(&tenant("acme"), &name(RIVAL), keys()));
    assert!(!ring.publish(&tenant("nobody"), &name(ACME), keys()));
    assert_eq!(judge(&ring), Err(Refusal::UnknownIssuedKey));
    assert!(ring.publish(&tenant("acme"), &name(ACME), keys()));
    assert_eq!(judge(&ring), Ok(()));
    ring.set(TenantKeys { api_keys: Vec::new(), ..issued_keys("acme", ACME) }).expect("set");
    assert_eq!(judge(&ring), Ok(()), "another change of the tenant");
    ring.set(issued_keys("acme", RIVAL)).expect("set");
    ring.set(issued_keys("acme", ACME)).expect("set");
    assert_eq!(judge(&ring), Err(Refusal::UnknownIssuedKey), "another issuer meanwhile");
}

#[test]
fn whose_keys_are_to_be_fetched_follows_from_a_token_that_names_one_of_an_issuers() {
    let (signing, _) = key_pair("new", Algorithm::Es256);
    let verifier = issued(&json!({ "keys": [] }));
    let token = |changes| sign(&signing, &changes);

    assert_eq!(verifier.issued_for(&token(json!({ "iss": ACME }))), Some(tenant("acme")));
    assert_eq!(verifier.issued_for(&token(json!({ "iss": "https://nobody.example" }))), None);
    assert_eq!(verifier.issued_for(&token(json!({}))), None);
    assert_eq!(verifier.issued_for("no token"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(parse_set(&bytes));
    }

    #[test]
    fn no_members_make_the_parser_panic(
        members in "(\"(kid|kty|use|alg|crv|n|e|x|y)\":(\"(RSA|EC|OKP|P-256|Ed25519|AQAB|A{43})\"|null|1|\\[\\]),){0,9}",
    ) {
        let set = format!("{{\"keys\":[{{{members}\"kid\":\"k\"}}]}}");
        drop(parse_set(set.as_bytes()));
    }
}

/// A verifier of two tenants with these sets of keys.
fn verifier(acme: &Value, rival: &Value) -> Verifier {
    let mut ring =
        KeyRing::new([issued_keys("acme", ACME), issued_keys("rival", RIVAL)]).expect("ring");
    for (name, issuer, set) in [("acme", ACME, acme), ("rival", RIVAL, rival)] {
        let keys = parse_set(set.to_string().as_bytes()).expect("a set");
        let issuer = IssuerName::parse(issuer).expect("issuer");
        assert!(ring.publish(&tenant(name), &issuer, keys));
    }
    Verifier::new(ring)
}

fn issued(acme: &Value) -> Verifier {
    verifier(acme, &json!({ "keys": [] }))
}

/// `acme` has an audience and grants with its issuer, and a key of its own.
fn issued_keys(name: &str, issuer: &str) -> TenantKeys {
    let is_acme = name == "acme";
    let app = Filter::parse("app/*").expect("filter");
    let issuer = Issuer {
        name: IssuerName::parse(issuer).expect("issuer"),
        audience: is_acme.then(|| "acme-app".into()),
        permissions: Permissions::default().grant(app, [Action::Subscribe]),
    };
    let own = VerificationKey::from_secret(key_id("own"), SECRET).expect("key");
    let keys = if is_acme { vec![own] } else { Vec::new() };
    TenantKeys { issuer: Some(issuer), ..tenant_keys(name, keys) }
}

/// Signs any claims.
struct Signer {
    header: Header,
    key: EncodingKey,
}

/// A fresh key, and its public half as an issuer would publish it.
fn key_pair(id: &str, algorithm: Algorithm) -> (Signer, Value) {
    let GeneratedKey::Pair { private_pem: pem, .. } = GeneratedKey::generate(algorithm) else {
        unreachable!("not a pair")
    };
    let der = der(&pem);
    let (name, key, jwk) = match algorithm {
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8(&der).expect("pair");
            let x = base64url(pair.public_key().as_ref());
            let jwk = json!({ "kid": id, "kty": "OKP", "crv": "Ed25519", "x": x });
            (jsonwebtoken::Algorithm::EdDSA, EncodingKey::from_ed_pem(pem.as_bytes()), jwk)
        }
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der);
            let pair = pair.expect("pair");
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            let (x, y) = (base64url(x), base64url(y));
            let jwk = json!({ "kid": id, "kty": "EC", "crv": "P-256", "x": x, "y": y });
            (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_pem(pem.as_bytes()), jwk)
        }
        _ => {
            let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(&der).expect("pair");
            let public = pair.public_key();
            let n = base64url(public.modulus().big_endian_without_leading_zero());
            let e = base64url(public.exponent().big_endian_without_leading_zero());
            let jwk = json!({ "kid": id, "kty": "RSA", "alg": "RS256", "n": n, "e": e });
            (jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_pem(pem.as_bytes()), jwk)
        }
    };
    let mut header = Header::new(name);
    header.kid = Some(id.into());
    (Signer { header, key: key.expect("signing key") }, jwk)
}

fn der(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(body).expect("base64")
}

/// A token of `acme` for either audience, whose claims are changed; `null` removes one.
fn sign(signer: &Signer, changes: &Value) -> String {
    let mut payload = serde_json::to_value(claims("acme")).expect("json");
    payload["aud"] = json!(["tidewire", "acme-app"]);
    let object = payload.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    jsonwebtoken::encode(&signer.header, &payload, &signer.key).expect("signed")
}
