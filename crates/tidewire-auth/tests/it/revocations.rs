//! What is void of what was issued.

use proptest::prelude::*;
use tidewire_auth::{
    KeyId, KeyRing, Refusal, Revocation, Revocations, SigningKey, Target, TokenError, TokenId,
    VerificationKey, Verifier,
};
use tidewire_model::{Identity, Permissions, Provenance, UserId};

use crate::keys::{NOW, SECRET, claims, key_id, tenant, tenant_keys};

/// Of `acme`'s `ada`, from the token `t-1` of the key `main`.
fn ada(issued_at: u64) -> Identity {
    Identity {
        tenant: tenant("acme"),
        user: user("ada"),
        permissions: Permissions::default(),
        expires_at: None,
        provenance: Some(Provenance {
            key: key_id("main").trace(),
            token: Some(token_id("t-1").trace()),
            issued_at,
        }),
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("user")
}

fn token_id(id: &str) -> TokenId {
    TokenId::parse(id).expect("token id")
}

fn revoked(target: Target, before: u64) -> Revocation {
    Revocation { tenant: tenant("acme"), target, before, until: before + 100 }
}

fn with(target: Target, before: u64) -> Revocations {
    let revocations = Revocations::default();
    revocations.add(&[revoked(target, before)]);
    revocations
}

#[test]
fn what_was_issued_by_then_is_void_and_what_comes_later_is_not() {
    let targets = [Target::User(user("ada")), Target::Key(key_id("main")), Target::All];
    for target in targets {
        let revocations = with(target.clone(), NOW);

        assert!(revocations.voids(&ada(0)), "{target}");
        assert!(revocations.voids(&ada(NOW - 1)), "{target}");
        assert!(revocations.voids(&ada(NOW)), "{target}");
        assert!(!revocations.voids(&ada(NOW + 1)), "{target}");
    }
}

#[test]
fn a_token_that_is_named_is_void_whenever_it_was_issued() {
    let revocations = with(Target::Token(token_id("t-1")), NOW);

    assert!(revocations.voids(&ada(NOW - 1)));
    assert!(revocations.voids(&ada(NOW + 20)), "its issuer's clock is ahead");
}

#[test]
fn others_are_left_alone() {
    for target in [
        Target::User(user("eve")),
        Target::User(user("main")),
        Target::Key(key_id("other")),
        Target::Key(key_id("t-1")),
        Target::Token(token_id("t-2")),
        Target::Token(token_id("main")),
    ] {
        assert!(!with(target.clone(), NOW).voids(&ada(NOW - 1)), "{target}");
    }
    let other = Identity { tenant: tenant("rival"), ..ada(0) };
    for target in [Target::All, Target::User(user("ada")), Target::Token(token_id("t-1"))] {
        assert!(!with(target.clone(), NOW).voids(&other), "{target}");
    }
}

#[test]
fn who_was_proved_by_no_token_goes_with_the_user_and_with_all() {
    let unproved = Identity { provenance: None, ..ada(0) };

    assert!(with(Target::User(user("ada")), NOW).voids(&unproved));
    assert!(with(Target::All, NOW).voids(&unproved));
    assert!(!with(Target::Key(key_id("main")), NOW).voids(&unproved));
}

#[test]
fn times_only_grow_and_what_has_run_out_is_forgotten() {
    let revocations = with(Target::User(user("ada")), NOW);
    revocations.add(&[revoked(Target::User(user("ada")), NOW - 50)]);
    revocations.add(&[revoked(Target::Key(key_id("main")), NOW - 200)]);

    assert!(revocations.voids(&ada(NOW)));
    assert_eq!(revocations.len(), 2);
    revocations.forget(NOW - 100);
    assert_eq!(revocations.len(), 1);
    revocations.forget(NOW + 99);
    assert!(revocations.voids(&ada(NOW)));
    revocations.forget(NOW + 100);
    assert!(revocations.is_empty() && !revocations.voids(&ada(NOW)));
}

#[test]
fn a_verifier_refuses_what_is_revoked_and_says_so_to_whoever_has_the_right_signature() {
    let key = VerificationKey::from_secret(key_id("main"), SECRET).expect("key");
    let verifier = Verifier::new(KeyRing::new([tenant_keys("acme", vec![key])]).expect("ring"));
    let sign = |key_id: Option<KeyId>, secret: &[u8]| {
        SigningKey::from_secret(key_id, secret).expect("key").sign(&claims("acme"))
    };
    let (good, forged) = (sign(Some(key_id("main")), SECRET), sign(None, &[7; 32]));
    assert!(verifier.verify(&good, NOW).is_ok());

    verifier.revocations().add(&[revoked(Target::User(user("ada")), NOW)]);

    assert_eq!(verifier.examine(&good, NOW), Err(Refusal::Revoked));
    assert_eq!(verifier.verify(&good, NOW), Err(TokenError::Revoked));
    assert_eq!(verifier.verify(&forged, NOW), Err(TokenError::Invalid));
}

#[test]
fn what_is_revoked_is_read_as_it_is_written() {
    for target in [
        Target::Token(token_id("a b")),
        Target::User(user("all")),
        Target::Key(key_id("k")),
        Target::All,
    ] {
        assert_eq!(Target::parse(&target.to_string()), Some(target));
    }
    for text in ["", "all ", "user", "user ", "users ada", "token \n"] {
        assert_eq!(Target::parse(text), None, "{text:?}");
    }
}

proptest! {
    /// Against a plain list of all of them.
    #[test]
    fn any_of_many_voids_what_one_of_them_does(
        added in prop::collection::vec((0_usize..7, 0_u64..10), 0..8),
        issued_at in 0_u64..12,
    ) {
        let targets = [
            Target::User(user("ada")),
            Target::User(user("eve")),
            Target::Key(key_id("main")),
            Target::Key(key_id("other")),
            Target::Token(token_id("t-1")),
            Target::Token(token_id("t-2")),
            Target::All,
        ];
        let list: Vec<_> = added.iter().map(|(at, before)| (&targets[*at], *before)).collect();
        let all = Revocations::default();
        all.add(&list.iter().map(|(target, before)| revoked((*target).clone(), *before)).collect::<Vec<_>>());

        let expected = list.iter().any(|(target, before)| match target {
            Target::Token(token) => *token == token_id("t-1"),
            Target::User(name) => *name == user("ada") && issued_at <= *before,
            Target::Key(key) => *key == key_id("main") && issued_at <= *before,
            Target::All => issued_at <= *before,
        });
        prop_assert_eq!(all.voids(&ada(issued_at)), expected);
    }
}
