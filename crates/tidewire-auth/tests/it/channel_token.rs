//! Tokens of one channel.

use serde_json::{Value, json};
use tidewire_auth::{
    Algorithm, ChannelClaims, Claims, KeyRing, Refusal, Revocation, SigningKey, Target, TokenError,
    TokenId, VerificationKey, Verifier,
};
use tidewire_model::{Action, Channel, ChannelGrant, Identity, Permissions, UserId};

use crate::keys::{NOW, SECRET, claims, key_id, key_pair, tenant, tenant_keys};
use crate::token::sign;

type Change = fn(&mut Claims);

#[test]
fn it_says_what_its_bearer_may_do_in_its_channel_and_until_when() {
    let (signing, verifier) = acme();

    let grant = examine(&verifier, &token(&signing, |_| {})).expect("valid");

    assert_eq!((grant.channel.as_str(), grant.expires_at), ("room/7", NOW + 3600 + 30));
    assert!(grant.allows(Action::Subscribe, &room()) && grant.allows(Action::Publish, &room()));
    assert!(!grant.allows(Action::History, &room()));
    assert!(!grant.allows(Action::Subscribe, &channel("room/8")));
}

#[test]
fn it_lets_nobody_in_and_what_lets_in_is_none() {
    let (signing, verifier) = acme();

    let for_connecting = signing.sign(&claims("acme"));

    assert_eq!(verifier.examine(&token(&signing, |_| {}), NOW), Err(Refusal::OfOneChannel));
    assert_eq!(examine(&verifier, &for_connecting), Err(Refusal::OfNoChannel));
    for refusal in [Refusal::OfOneChannel, Refusal::OfNoChannel, Refusal::NotTheirs] {
        assert_eq!(TokenError::from(refusal), TokenError::Invalid);
    }
}

#[test]
fn one_of_another_user_tenant_or_channel_is_no_better_than_none_in_whatever_state() {
    let (signing, verifier) = acme();
    let revoked = Target::Token(TokenId::parse("revoked").expect("token id"));
    let revoked = |name| Revocation {
        tenant: tenant(name),
        target: revoked.clone(),
        before: NOW,
        until: NOW + 9,
    };
    verifier.revocations().add(&[revoked("acme"), revoked("globex")]);
    let foreign = SigningKey::from_secret(Some(key_id("other")), SECRET).expect("key");
    let states: [fn(&mut ChannelClaims); 3] = [
        |_| {},
        |of| of.claims.expires_at = NOW - 60,
        |of| of.claims.token_id = TokenId::parse("revoked").ok(),
    ];
    for state in states {
        for token in [
            token(&signing, |of| {
                of.claims.user = UserId::parse("eve").expect("user");
                state(of);
            }),
            token(&signing, |of| {
                of.channel = channel("room/8");
                state(of);
            }),
            token(&foreign, |of| {
                of.claims.tenant = Some(tenant("globex"));
                state(of);
            }),
        ] {
            assert_eq!(examine(&verifier, &token), Err(Refusal::NotTheirs));
        }
    }
    let verdicts = states.map(|state| examine(&verifier, &token(&signing, state)).err());
    assert_eq!(verdicts, [None, Some(Refusal::Expired), Some(Refusal::Revoked)]);
}

#[test]
fn it_is_bound_by_what_every_token_is_bound_by() {
    let (signing, verifier) = acme();
    let forged = SigningKey::from_secret(Some(key_id("main")), SECRET).expect("key");
    let cases: [(Change, Refusal); 4] = [
        (|claims| claims.audience = vec!["another".into()], Refusal::Audience),
        (|claims| claims.expires_at = NOW + 2 * 24 * 3600, Refusal::Lifetime),
        (|claims| claims.not_before = Some(NOW + 60), Refusal::NotYetValid),
        (|claims| claims.permissions = Permissions::all(), Refusal::Claims),
    ];

    for (change, refusal) in cases {
        let token = token(&signing, |of| change(&mut of.claims));
        assert_eq!(examine(&verifier, &token), Err(refusal));
    }
    assert_eq!(examine(&verifier, &token(&forged, |_| {})), Err(Refusal::Signature));
}

#[test]
fn a_channel_that_is_none_makes_it_good_for_nothing() {
    let key = VerificationKey::from_secret(key_id("main"), SECRET).expect("key");
    let keys = [tenant_keys("acme", vec![key])];
    let verifier = Verifier::new(KeyRing::new(keys).expect("ring"));
    let with = |claims: Value| {
        let mut all = json!({ "channels": null });
        all.as_object_mut().expect("an object").extend(claims.as_object().expect("one").clone());
        sign(&all)
    };
    for channel in [json!("room/*"), json!(""), json!("$presence/a"), json!(7), json!(["room/7"])] {
        let token = with(json!({ "channel": channel, "actions": ["subscribe"] }));

        assert_eq!(examine(&verifier, &token), Err(Refusal::Claims), "{channel}");
        assert_eq!(verifier.examine(&token, NOW), Err(Refusal::Claims), "{channel}");
    }
    let wrong = with(json!({ "channel": "room/7", "actions": ["everything"] }));
    assert_eq!(examine(&verifier, &wrong), Err(Refusal::Claims));
}

#[test]
fn whatever_is_revoked_of_its_bearer_voids_it() {
    let id = TokenId::parse("t-1").expect("token id");
    for target in [
        Target::Token(id.clone()),
        Target::User(ada().user),
        Target::Key(key_id("main")),
        Target::All,
    ] {
        let (signing, verifier) = acme();
        let token = token(&signing, |of| of.claims.token_id = Some(id.clone()));
        let grant = examine(&verifier, &token).expect("valid");
        assert!(!verifier.revocations().voids_grant(&ada(), &grant));

        let tenant = tenant("acme");
        let revocation = Revocation { tenant, target, before: NOW, until: NOW + 100 };
        verifier.revocations().add(&[revocation]);

        assert!(verifier.revocations().voids_grant(&ada(), &grant));
        assert_eq!(examine(&verifier, &token), Err(Refusal::Revoked));
    }
}

/// A key of `acme`, and who knows it and one of `globex`.
fn acme() -> (SigningKey, Verifier) {
    let (signing, verifying) = key_pair(Algorithm::Hs256);
    let other = VerificationKey::from_secret(key_id("other"), SECRET).expect("key");
    let keys = [tenant_keys("acme", vec![verifying]), tenant_keys("globex", vec![other])];
    (signing, Verifier::new(KeyRing::new(keys).expect("ring")))
}

/// Who is connected.
fn ada() -> Identity {
    Identity {
        tenant: tenant("acme"),
        user: UserId::parse("ada").expect("user"),
        permissions: Permissions::default(),
        expires_at: None,
        provenance: None,
    }
}

fn examine(verifier: &Verifier, token: &str) -> Result<ChannelGrant, Refusal> {
    verifier.examine_grant(token, (&ada(), &room()), NOW)
}

fn token(signing: &SigningKey, change: impl FnOnce(&mut ChannelClaims)) -> String {
    let claims = Claims { permissions: Permissions::default(), ..claims("acme") };
    let actions = [Action::Subscribe, Action::Publish].into_iter().collect();
    let mut claims = ChannelClaims { claims, channel: room(), actions };
    change(&mut claims);
    signing.sign_for_channel(&claims)
}

fn room() -> Channel {
    channel("room/7")
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("channel")
}
