//! What a refusal costs, so that its time tells nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::key::checked;
use crate::{Algorithm, GeneratedKey, KeyId, TenantKeys};

const NOW: u64 = 1_790_000_000;

/// A tenant with a key of each algorithm, called as the algorithm is.
fn acme() -> Verifier {
    let keys = Algorithm::ALL.map(|algorithm| {
        let id = KeyId::parse(algorithm.as_str()).expect("id");
        match GeneratedKey::generate(algorithm) {
            GeneratedKey::Secret(secret) => VerificationKey::from_secret(id, secret.as_bytes()),
            GeneratedKey::Pair { public_pem, .. } => {
                VerificationKey::from_public_pem(id, algorithm, &public_pem)
            }
        }
        .expect("key")
    });
    let tenant = Tenant::parse("acme").expect("tenant");
    let keys = TenantKeys { tenant, keys: keys.to_vec(), api_keys: Vec::new(), issuer: None };
    Verifier::new(KeyRing::new([keys]).expect("ring"))
}

fn token(tenant: &str, alg: &str, kid: Option<&str>) -> String {
    let header = json!({ "alg": alg, "kid": kid }).to_string();
    let payload = json!({ "tenant": tenant }).to_string();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let parts = [encode(header.as_bytes()), encode(payload.as_bytes()), encode(&[1; 64])];
    parts.join(".")
}

#[test]
fn whatever_is_wrong_one_signature_of_the_algorithm_that_is_named_is_checked() {
    let verifier = acme();
    for named in Algorithm::ALL {
        let other = Algorithm::ALL.into_iter().find(|other| *other != named).expect("another");
        let cases = [
            ("nobody", Some(named.as_str()), Refusal::UnknownTenant),
            ("nobody", None, Refusal::UnknownTenant),
            ("acme", Some("no-such-key"), Refusal::UnknownKey),
            ("acme", Some(other.as_str()), Refusal::Algorithm),
            ("acme", Some(named.as_str()), Refusal::Signature),
            ("acme", None, Refusal::Signature),
        ];
        for (tenant, kid, refusal) in cases {
            checked::take();

            let refused = verifier.examine(&token(tenant, named.as_str(), kid), NOW);

            assert_eq!(refused, Err(refusal), "{tenant} {kid:?} {named}");
            assert_eq!(checked::take(), [named], "{refusal:?}");
        }
    }
}

#[test]
fn an_algorithm_that_there_is_not_costs_as_much_for_any_tenant() {
    let verifier = acme();
    for (tenant, kid) in [("nobody", None), ("acme", None), ("acme", Some("RS256"))] {
        checked::take();

        assert!(verifier.examine(&token(tenant, "none", kid), NOW).is_err());

        assert_eq!(checked::take(), [Algorithm::Hs256], "{tenant} {kid:?}");
    }
}
