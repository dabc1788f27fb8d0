use proptest::prelude::*;
use tidewire_auth::{InvalidSealKey, ResumeClaims, SealError, SealKey, Sealer};
use tidewire_model::{Generation, SessionId};

use crate::keys::{NOW, tenant};

#[test]
fn what_is_sealed_opens() {
    let sealer = sealer(&[1]);

    let token = sealer.seal(&claims("acme"));

    assert_eq!(sealer.open(&token, NOW), Ok(claims("acme")));
}

#[test]
fn the_longest_token_has_at_most_160_characters() {
    let largest = ResumeClaims {
        generation: Generation(u64::MAX),
        expires_at: u64::MAX,
        ..claims(&"t".repeat(32))
    };

    let token = sealer(&[1]).seal(&largest);

    assert!(token.len() <= Sealer::MAX_TOKEN_BYTES, "{}", token.len());
    assert_eq!(sealer(&[1]).open(&token, NOW), Ok(largest));
}

#[test]
fn a_token_expires() {
    let token = sealer(&[1]).seal(&claims("acme"));

    assert!(sealer(&[1]).open(&token, NOW + 119).is_ok());
    assert_eq!(sealer(&[1]).open(&token, NOW + 120), Err(SealError::Expired));
}

#[test]
fn a_token_of_the_previous_key_opens_until_that_key_is_dropped() {
    let token = sealer(&[1]).seal(&claims("acme"));

    assert!(sealer(&[2, 1]).open(&token, NOW).is_ok());
    assert_eq!(sealer(&[2]).open(&token, NOW), Err(SealError::Invalid));
}

#[test]
fn the_first_key_seals() {
    let token = sealer(&[2, 1]).seal(&claims("acme"));

    assert!(sealer(&[2]).open(&token, NOW).is_ok());
    assert_eq!(sealer(&[1]).open(&token, NOW), Err(SealError::Invalid));
}

#[test]
fn a_token_changed_anywhere_is_refused() {
    let sealer = sealer(&[1]);
    let token = sealer.seal(&claims("acme"));
    for position in 0..token.len() - 1 {
        let mut bytes = token.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ascii");

        assert_eq!(sealer.open(&changed, NOW), Err(SealError::Invalid), "byte {position}");
        assert_eq!(sealer.open(&token[..position], NOW), Err(SealError::Invalid));
    }
}

#[test]
fn the_same_claims_are_never_sealed_alike() {
    let sealer = sealer(&[1]);

    assert_ne!(sealer.seal(&claims("acme")), sealer.seal(&claims("acme")));
}

#[test]
fn a_key_is_32_bytes_in_any_base64_or_a_long_secret() {
    let bytes = SealKey::from_bytes([0xfb; 32]);
    for text in [
        "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=",
        "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s",
        "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s=",
        "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s",
    ] {
        assert_eq!(SealKey::parse(text), Ok(bytes.clone()), "{text}");
    }
    assert!(SealKey::parse("a long secret that is no base64!").is_ok());
    assert_eq!(SealKey::parse("too short"), Err(InvalidSealKey::Short { bytes: 9 }));
    assert_eq!(format!("{bytes:?}"), "SealKey(..)");
}

#[test]
fn keys_are_one_to_eight_and_different() {
    let key = |n: u8| SealKey::from_bytes([n; 32]);

    assert_eq!(Sealer::new(&[]).map(drop), Err(InvalidSealKey::None));
    assert_eq!(Sealer::new(&[key(1), key(1)]).map(drop), Err(InvalidSealKey::Repeated));
    let nine: Vec<_> = (0..9).map(key).collect();
    assert_eq!(Sealer::new(&nine).map(drop), Err(InvalidSealKey::TooMany));
    assert!(Sealer::new(&nine[..8]).is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_the_sealer_panic(text in "\\PC{0,200}") {
        prop_assert_eq!(sealer(&[1]).open(&text, NOW), Err(SealError::Invalid));
    }

    #[test]
    fn no_base64_makes_the_sealer_panic(text in "[A-Za-z0-9_-]{0,170}") {
        prop_assert_eq!(sealer(&[1]).open(&text, NOW), Err(SealError::Invalid));
    }
}

fn sealer(keys: &[u8]) -> Sealer {
    let keys: Vec<_> = keys.iter().map(|&n| SealKey::from_bytes([n; 32])).collect();
    Sealer::new(&keys).expect("sealer")
}

fn claims(name: &str) -> ResumeClaims {
    ResumeClaims {
        tenant: tenant(name),
        incarnation: 0,
        session: SessionId::from_bytes(*b"0123456789abcdef"),
        generation: Generation(7),
        issued_at: NOW,
        expires_at: NOW + 120,
    }
}

#[test]
fn a_token_says_which_one_of_its_tenants_name_it_is_of() {
    let sealer = Sealer::new(&[SealKey::from_bytes([1; 32])]).expect("sealer");
    let name = "a".repeat(32);
    for incarnation in [0, 1, u64::MAX] {
        let token = sealer.seal(&ResumeClaims { incarnation, ..claims(&name) });

        assert!(token.len() <= Sealer::MAX_TOKEN_BYTES);
        assert_eq!(sealer.open(&token, NOW).expect("open").incarnation, incarnation);
    }
}
