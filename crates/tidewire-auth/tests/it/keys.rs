//! Builders, and what keys are refused.

use tidewire_auth::{
    Algorithm, Claims, GeneratedKey, InvalidKey, KeyId, SigningKey, TenantKeys, VerificationKey,
};
use tidewire_model::{Action, Filter, Permissions, Tenant, UserId};

pub(crate) const NOW: u64 = 1_790_000_000;
pub(crate) const SECRET: &[u8] = b"a secret of the tenant, 32 bytes";

pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("tenant")
}

pub(crate) fn key_id(id: &str) -> KeyId {
    KeyId::parse(id).expect("key id")
}

pub(crate) fn claims(tenant_name: &str) -> Claims {
    Claims {
        tenant: Some(tenant(tenant_name)),
        user: UserId::parse("ada").expect("user"),
        audience: vec!["tidewire".into()],
        expires_at: NOW + 3600,
        not_before: None,
        issued_at: Some(NOW),
        token_id: None,
        permissions: Permissions::default()
            .grant(Filter::parse("chat/*").expect("filter"), [Action::Subscribe]),
    }
}

/// Both halves of a fresh key called `main`.
pub(crate) fn key_pair(algorithm: Algorithm) -> (SigningKey, VerificationKey) {
    let (signing, verifying) = match GeneratedKey::generate(algorithm) {
        GeneratedKey::Secret(secret) => (
            SigningKey::from_secret(Some(key_id("main")), secret.as_bytes()),
            VerificationKey::from_secret(key_id("main"), secret.as_bytes()),
        ),
        GeneratedKey::Pair { private_pem, public_pem } => (
            SigningKey::from_private_pem(Some(key_id("main")), algorithm, &private_pem),
            VerificationKey::from_public_pem(key_id("main"), algorithm, &public_pem),
        ),
    };
    (signing.expect("signing key"), verifying.expect("verifying key"))
}

pub(crate) fn tenant_keys(name: &str, keys: Vec<VerificationKey>) -> TenantKeys {
    TenantKeys { tenant: tenant(name), keys, api_keys: Vec::new(), issuer: None }
}

pub(crate) fn public_pem(algorithm: Algorithm) -> String {
    let public = match GeneratedKey::generate(algorithm) {
        GeneratedKey::Pair { public_pem, .. } => Some(public_pem),
        GeneratedKey::Secret(_) => None,
    };
    public.expect("an asymmetric algorithm")
}

#[test]
fn a_secret_under_32_bytes_is_refused() {
    let result = VerificationKey::from_secret(key_id("k"), &SECRET[..31]);

    assert_eq!(result.map(drop), Err(InvalidKey::ShortSecret { bytes: 31 }));
    assert!(SigningKey::from_secret(None, &SECRET[..31]).is_err());
}

#[test]
fn a_key_of_another_kind_than_registered_is_refused() {
    let asymmetric = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];
    for made in asymmetric {
        let pem = public_pem(made);
        for registered in asymmetric.into_iter().filter(|registered| *registered != made) {
            let result = VerificationKey::from_public_pem(key_id("k"), registered, &pem);

            let expected = InvalidKey::Mismatch { algorithm: registered };
            assert_eq!(result.map(drop), Err(expected), "{made} as {registered}");
        }
        let result = VerificationKey::from_public_pem(key_id("k"), Algorithm::Hs256, &pem);
        assert_eq!(result.map(drop), Err(InvalidKey::NeedsSecret));
    }
}

#[test]
fn an_elliptic_curve_other_than_p_256_is_refused() {
    let result = VerificationKey::from_public_pem(key_id("k"), Algorithm::Es256, P384_PUBLIC);

    assert_eq!(result.map(drop), Err(InvalidKey::Mismatch { algorithm: Algorithm::Es256 }));
}

#[test]
fn an_rsa_key_under_2048_bits_is_refused() {
    let result = VerificationKey::from_public_pem(key_id("k"), Algorithm::Rs256, RSA_1024_PUBLIC);

    assert_eq!(result.map(drop), Err(InvalidKey::WeakRsa));
}

#[test]
fn an_rsa_key_in_either_public_form_verifies() {
    for pem in [RSA_2048_PUBLIC, RSA_2048_PUBLIC_PKCS1] {
        let result = VerificationKey::from_public_pem(key_id("k"), Algorithm::Rs256, pem);

        assert_eq!(result.map(drop), Ok(()));
    }
}

#[test]
fn a_private_key_is_refused_where_a_public_one_belongs() {
    let GeneratedKey::Pair { private_pem, .. } = GeneratedKey::generate(Algorithm::EdDsa) else {
        panic!("EdDSA makes a pair");
    };

    let result = VerificationKey::from_public_pem(key_id("k"), Algorithm::EdDsa, &private_pem);

    assert_eq!(result.map(drop), Err(InvalidKey::NotPublic));
}

#[test]
fn neither_keys_nor_their_debug_show_a_secret() {
    let verifying = VerificationKey::from_secret(key_id("k"), SECRET).expect("key");
    let signing = SigningKey::from_secret(None, SECRET).expect("key");

    let text = format!("{verifying:?} {signing:?}");

    assert!(!text.contains("a secret"), "{text}");
    assert!(!text.contains(&format!("{:?}", &SECRET[..4])[1..12]), "{text}");
}

const P384_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEQqwT12uxDVqkSEccIrJdIrO9lVoODCCa\n\
7gLrtkMu2qRKLdrHmjT2wp+vT0E4jImLXkSTjyh4gEVdkp+HuzwPw+GJeu4q5o2V\n\
9K0g/0e1fXfcitqD+AI730aBEL7wpEuU\n\
-----END PUBLIC KEY-----\n";

const RSA_1024_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDFZEZ3I93hfUaYVZtAp/KV0KSx\n\
5bcvhUAnnR1QsZM9Lf/X1wpZ+Q9MInPrflBf0oQYLdzb7oB8nxjQz5uokfighZXM\n\
GpZ2pAz/xXNoD3C8Pusl1aZO3/90NUXthVikdIx/xpodM1334xprHTdC8v3JqZjW\n\
WqmRjpx8pAC519UVdQIDAQAB\n\
-----END PUBLIC KEY-----\n";

const RSA_2048_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAjiKBLpqXTG7wJoqCGKz+\n\
305+415KV8si6TU3wmoDc2ucnLjaxp/7WYRB6Pw2kyU/8uQAVgBYQGT7MZJROxFs\n\
g6Mjs1Lcyhf5WOzLm9MjWUUhjeuxIvWz/b2L5EGmKkBUxh3+cb4tFqzLoQeCSL7z\n\
hFjXvLwD5M2Gb79+VGMS3U467v7cIyDzRF6KGo+GJoWuznL7dU5YOSUyngbwC5zV\n\
OAyYpdsSLAmjrY9jfYTcAWw4ZojcpN8cJj5qnEMLOB1eA8zwPybBOKJPbonSxEDk\n\
OsNiF75dRX+WC0lEXLTvuPnzrehzYei9Nq2/izX8oxsv95xHNqXGyyFyGQATZDDO\n\
RQIDAQAB\n\
-----END PUBLIC KEY-----\n";

const RSA_2048_PUBLIC_PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----\n\
MIIBCgKCAQEAjiKBLpqXTG7wJoqCGKz+305+415KV8si6TU3wmoDc2ucnLjaxp/7\n\
WYRB6Pw2kyU/8uQAVgBYQGT7MZJROxFsg6Mjs1Lcyhf5WOzLm9MjWUUhjeuxIvWz\n\
/b2L5EGmKkBUxh3+cb4tFqzLoQeCSL7zhFjXvLwD5M2Gb79+VGMS3U467v7cIyDz\n\
RF6KGo+GJoWuznL7dU5YOSUyngbwC5zVOAyYpdsSLAmjrY9jfYTcAWw4ZojcpN8c\n\
Jj5qnEMLOB1eA8zwPybBOKJPbonSxEDkOsNiF75dRX+WC0lEXLTvuPnzrehzYei9\n\
Nq2/izX8oxsv95xHNqXGyyFyGQATZDDORQIDAQAB\n\
-----END RSA PUBLIC KEY-----\n";
