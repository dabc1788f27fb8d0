//! What keeps tenants apart.

use super::{Rule, Test};

const KEYS: &str = "crates/tidewire-store-redis/src/key.rs";
const PARTITION: &str = "crates/tidewire-store-redis/src/partition.rs";
const READER: &str = "crates/tidewire-broker-nats/src/reader.rs";

const fn processes(name: &'static str) -> Test {
    Test { package: "tidewire", target: &["--test", "cluster"], name }
}

const NOTHING: Test =
    processes("isolation::whatever_a_tenant_says_with_anothers_names_tells_and_touches_nothing");

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "the tenant in what a channel is called in Redis",
        edits: &[
            (KEYS, "{kind}:{tenant}:{channel}", "{kind}:{channel}"),
            (PARTITION, "        hash.update(channel.tenant.as_str().as_bytes());\n", ""),
        ],
        test: Some(NOTHING),
    },
    Rule {
        name: "the tenant in the path is that of the credential",
        edits: &[(
            "crates/tidewire-edge/src/origin.rs",
            "self.tenant.as_ref().is_none_or(|named| named == tenant)",
            "self.tenant.as_ref().is_none_or(|named| named == tenant || true)",
        )],
        test: Some(NOTHING),
    },
    Rule {
        name: "an API key is good for its tenant",
        edits: &[(
            "crates/tidewire-auth/src/verifier.rs",
            "known.filter(|_| is_its)",
            "known.filter(|_| is_its || true)",
        )],
        test: Some(NOTHING),
    },
    Rule {
        name: "asking what a credential allows before anything else",
        edits: &[(
            "crates/tidewire-session/src/session/grants.rs",
            "let allowed = self.allows(action, channel);",
            "let allowed = self.allows(action, channel) || true;",
        )],
        test: Some(processes("isolation::what_is_refused_for_its_bearer_asks_redis_nothing")),
    },
    Rule {
        name: "a token of a channel is good for its own bearer",
        edits: &[(
            "crates/tidewire-auth/src/verifier.rs",
            "if !is_wanted(&channel) {",
            "if !is_wanted(&channel) && false {",
        )],
        test: Some(NOTHING),
    },
    Rule {
        name: "the tenant in what an id is remembered by",
        edits: &[(
            "crates/tidewire-store-redis/src/log/entry.rs",
            "[key.as_bytes().as_slice(), channel.tenant.as_str().as_bytes()].concat()",
            "key.as_bytes().to_vec()",
        )],
        test: Some(Test {
            package: "tidewire-store-redis",
            target: &["--lib"],
            name: "log::entry::tests::an_id_of_one_tenant_is_not_known_again_in_another",
        }),
    },
    Rule {
        name: "believing what came by the subject of its tenant only",
        edits: &[(
            READER,
            "if Partition::of(&publication.channel) == **own =>",
            "if Partition::of(&publication.channel) == **own || true =>",
        )],
        test: Some(Test {
            package: "tidewire-broker-nats",
            target: &["--test", "it"],
            name: "foreign::a_publication_on_the_subject_of_another_tenant_or_partition_is_dropped",
        }),
    },
];
