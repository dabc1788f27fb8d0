use tidewire_auth::{
    Algorithm, ApiKey, ApiKeyId, InvalidKeyRing, KeyRing, TenantKeys, VerificationKey,
};
use tidewire_model::Permissions;

use crate::keys::{SECRET, key_id, key_pair, tenant, tenant_keys};

#[test]
fn two_tenants_may_not_share_a_key() {
    let key = |id| VerificationKey::from_secret(key_id(id), SECRET).expect("key");

    let ring = KeyRing::new([tenant_keys("a", vec![key("k1")]), tenant_keys("b", vec![key("k2")])]);

    let expected =
        InvalidKeyRing::SharedKey { first: tenant("a"), second: tenant("b"), key: key_id("k2") };
    assert_eq!(ring.map(drop), Err(expected));
}

#[test]
fn two_tenants_may_not_share_a_public_key() {
    let (_, key) = key_pair(Algorithm::Es256);

    let ring = KeyRing::new([tenant_keys("a", vec![key.clone()]), tenant_keys("b", vec![key])]);

    assert!(matches!(ring, Err(InvalidKeyRing::SharedKey { .. })));
}

#[test]
fn a_tenant_is_listed_once() {
    let ring = KeyRing::new([tenant_keys("a", vec![]), tenant_keys("a", vec![])]);

    assert_eq!(ring.map(drop), Err(InvalidKeyRing::RepeatedTenant { tenant: tenant("a") }));
}

#[test]
fn ids_are_unique_within_a_tenant() {
    let (_, first) = key_pair(Algorithm::Hs256);
    let (_, second) = key_pair(Algorithm::Hs256);
    let api_key = |secret: &str| {
        let id = ApiKeyId::parse("server").expect("id");
        ApiKey::from_secret(id, &secret.repeat(32), Permissions::all()).expect("key")
    };

    let keys = KeyRing::new([tenant_keys("a", vec![first.clone(), second])]);
    let api_keys = KeyRing::new([TenantKeys {
        api_keys: vec![api_key("x"), api_key("y")],
        ..tenant_keys("a", vec![first])
    }]);

    assert!(matches!(keys, Err(InvalidKeyRing::RepeatedKey { .. })));
    assert!(matches!(api_keys, Err(InvalidKeyRing::RepeatedApiKey { .. })));
}

#[test]
fn a_tenant_that_comes_with_a_foreign_key_changes_nothing() {
    let (kept, replaced) = (key("k1"), key("k2"));
    let mut ring =
        KeyRing::new([tenant_keys("a", vec![kept.clone()]), tenant_keys("b", vec![replaced])])
            .expect("a ring");
    let before = ring.clone();

    let refused = ring.set(tenant_keys("b", vec![kept.clone()]));

    assert!(matches!(refused, Err(InvalidKeyRing::SharedKey { .. })), "{refused:?}");
    assert_eq!(format!("{ring:?}"), format!("{before:?}"));
    assert!(ring.contains(&tenant("b")));
}

#[test]
fn a_key_is_free_once_its_tenant_has_another_or_is_gone() {
    let (first, second) = (key("k1"), key("k2"));
    let mut ring = KeyRing::new([tenant_keys("a", vec![first.clone()])]).expect("a ring");

    ring.set(tenant_keys("a", vec![second.clone()])).expect("another key");
    assert_eq!(ring.owner(&first), None);
    assert!(ring.remove(&tenant("a")) && !ring.remove(&tenant("a")));

    assert_eq!(ring.owner(&second), None);
    assert_eq!(ring.set(tenant_keys("b", vec![first, second])), Ok(()));
}

#[test]
fn a_tenant_has_at_most_sixteen_keys() {
    let key = |n: u8| VerificationKey::from_secret(key_id(&n.to_string()), &[n; 32]).expect("key");

    assert!(KeyRing::new([tenant_keys("a", (0..16).map(key).collect())]).is_ok());
    let ring = KeyRing::new([tenant_keys("a", (0..17).map(key).collect())]);
    assert_eq!(ring.map(drop), Err(InvalidKeyRing::TooManyKeys { tenant: tenant("a") }));
}

fn key(id: &str) -> VerificationKey {
    VerificationKey::from_secret(key_id(id), id.repeat(16).as_bytes()).expect("key")
}
