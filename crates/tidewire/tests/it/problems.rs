//! What is refused, and how that reads.

use proptest::prelude::*;
use tidewire::config::{Config, Loaded, Problem};

use crate::config::Setup;

fn problems(setup: &Setup) -> Vec<Problem> {
    setup.load().map(drop).expect_err("not valid").problems
}

/// The only problem of a file, as `key: message`.
fn only_problem(toml: &str) -> String {
    let problems = problems(&Setup::new(toml));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    format!("{}: {}", problems[0].key, problems[0].message)
}

#[test]
fn an_unknown_key_is_shown_in_its_place_with_the_one_that_was_meant() {
    let setup = Setup::new("[server]\nlisten = \"127.0.0.1:1\"\nmax_conections = 5\n");

    let error = setup.load().map(drop).expect_err("not valid");

    let file = setup.path("tidewire.toml");
    assert_eq!(
        error.to_string(),
        format!(
            "configuration has 1 problem\n\n\
             {file}:3:1: server.max_conections: unknown key\n   \
             |\n \
             3 | max_conections = *\n   \
             | ^^^^^^^^^^^^^^\n  \
             = did you mean `max_connections`?"
        )
    );
}

#[test]
fn unknown_keys_are_compared_with_those_of_their_own_table() {
    let toml = "[histroy]\nsize = 1\n\
                [[tenants]]\nname = \"a\"\nkey = []\n\
                [[tenants.keys]]\nid = \"k\"\nalgoritm = \"HS256\"\n";

    let mut found: Vec<_> =
        problems(&Setup::new(toml)).into_iter().map(|p| (p.key, p.remedy)).collect();
    found.sort();

    let meant = |name: &str| Some(format!("did you mean `{name}`?"));
    assert_eq!(
        found,
        [
            ("histroy".into(), meant("history")),
            ("tenants[0].key".into(), meant("keys")),
            ("tenants[0].keys[0]".into(), None),
            ("tenants[0].keys[0].algoritm".into(), meant("algorithm")),
        ]
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    for (toml, expected) in [
        ("server = 1", "server: expected a table"),
        ("[server]\nlisten = 8000", "server.listen: expected a string"),
        ("[history]\nsize = \"many\"", "history.size: expected a whole number from 1 to 100000"),
        ("[history]\nsize = 0", "history.size: expected a whole number from 1 to 100000"),
        (
            "[server]\nmax_message_bytes = 2_000_000",
            "server.max_message_bytes: expected a whole number from 16384 to 1048576",
        ),
        ("[server]\nworkers = 0", "server.workers: expected a whole number from 1 to 64"),
        ("[server]\nworkers = 65", "server.workers: expected a whole number from 1 to 64"),
        ("[server]\ncompression = true", "server.compression: expected one of \"off\", \"on\""),
        ("[history]\nttl = \"5\"", "history.ttl: expected a duration from \"1s\" to \"7d\""),
        ("[history]\nttl = \"8d\"", "history.ttl: expected a duration from \"1s\" to \"7d\""),
        ("[log]\nformat = \"xml\"", "log.format: expected one of \"auto\", \"human\", \"json\""),
        (
            "[limits]\nconnection_publish_rate = 0",
            "limits.connection_publish_rate: expected a whole number from 1 to 1000000",
        ),
        ("[nats]\nservers = []", "nats.servers: at least 1 needed, found 0"),
        ("[nats]\nservers = [4222]", "nats.servers[0]: expected a string"),
        ("[[tenants]]", "tenants[0]: key `name` is missing"),
    ] {
        assert_eq!(only_problem(toml), expected);
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (toml, expected) in [
        ("[node]\nslot = \"a.b\"", "node.slot: a slot's name has 1 to 64 characters"),
        ("[node]\nid = \"a.b\"", "node.id: a node's name has 1 to 64 characters"),
        ("[server]\nlisten = \"8000\"", "server.listen: expected an IP address and a port"),
        ("[ops]\nlisten = \"127.0.0.1:8000\"", "ops.listen: the same address as `server.listen`"),
        (
            "[server]\nallowed_origins = [\"https://a.example/\"]",
            "server.allowed_origins: \"https://a.example/\" is not an origin",
        ),
        ("[server]\nallowed_origins = [\"null\"]", "server.allowed_origins: \"null\" is not"),
        (
            "[server]\nadvertise = \"node-1:8000\"",
            "server.advertise: expected `scheme://host:port`",
        ),
        ("[server]\nadvertise = \"https://a\"", "server.advertise: the scheme must be `ws`, `wss`"),
        (
            "[server]\nadvertise = \"wss://a/v1/ws\"",
            "server.advertise: nothing may follow the port",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/33\"]",
            "server.trusted_proxies[1]: expected a block of addresses",
        ),
        (
            "[limits]\npayload_bytes = 65_537",
            "limits.payload_bytes: a payload may have half of `server.max_message_bytes`",
        ),
        ("[nats]\nservers = [\"a:1\"]", "nats.servers[0]: expected `scheme://host:port`"),
        ("[nats]\nprefix = \"a.b\"", "nats.prefix: needs 1 to 32 of"),
        ("[nats]\nuser = \"u\"", "nats.user: needs `nats.password` too"),
        ("[nats]\npassword = \"p\"", "nats.password: needs `nats.user` too"),
        ("[nats]\ntoken = \"t\"\ncredentials_file = \"f\"", "nats: more than one way to log in"),
        (
            "[redis]\naddresses = [\"redis://u:p@h\"]",
            "redis.addresses[0]: credentials do not belong in an address",
        ),
        (
            "[redis]\naddresses = [\"redis://a\", \"redis://b\"]",
            "redis.addresses: mode `single` takes one address",
        ),
        ("[redis]\nmode = \"sentinel\"", "redis.mode: `sentinel` needs `redis.master_name` too"),
        ("[redis]\nmaster_name = \"m\"", "redis.master_name: is for mode `sentinel` only"),
        (
            "[redis]\nmode = \"cluster\"\naddresses = [\"redis://a/1\"]",
            "redis.addresses[0]: nothing may follow the port",
        ),
        ("[redis]\nusername = \"u\"", "redis.username: needs `redis.password` too"),
        (
            "[session]\nresume_keys = [\"short\"]",
            "session.resume_keys[0]: key is neither 32 bytes in base64 nor a secret",
        ),
        ("[drain]\ndeadline = \"20s\"", "drain.deadline: must be longer than"),
        ("[log]\nlevel = \"a=b=c\"", "log.level: "),
        ("[auth]\naudience = \"\"", "auth.audience: must not be empty"),
    ] {
        let problem = only_problem(toml);
        assert!(problem.starts_with(expected), "{problem:?} for {toml:?}");
    }
}

#[test]
fn keys_that_prove_nothing_are_refused() {
    const SECRET: &str = "secret = \"a secret of the tenant, 32 bytes\"";
    let key =
        |facts: &str| format!("[[tenants]]\nname = \"a\"\n[[tenants.keys]]\nid = \"k\"\n{facts}");
    let api_key = |facts: &str| {
        format!("[[tenants]]\nname = \"a\"\n[[tenants.api_keys]]\nid = \"k\"\n{facts}")
    };
    let hs256 = key(&format!("algorithm = \"HS256\"\n{SECRET}"));
    for (toml, expected) in [
        ("[[tenants]]\nname = \"A\"".into(), "tenants[0].name: tenant name may hold only"),
        (
            key("algorithm = \"HS256\"\nsecret = \"short\""),
            "tenants[0].keys[0]: secret has 5 bytes",
        ),
        (key("algorithm = \"HS256\""), "tenants[0].keys[0]: an `HS256` key has `secret`"),
        (
            key(&format!("algorithm = \"ES256\"\n{SECRET}")),
            "tenants[0].keys[0]: a key of this algorithm has `public_key`",
        ),
        (
            key("algorithm = \"ES256\"\npublic_key = \"x\""),
            "tenants[0].keys[0]: not a PEM public key",
        ),
        (
            format!("{hs256}\n[[tenants.keys]]\nid = \"k\"\nalgorithm = \"HS256\"\n{SECRET}"),
            "tenants: tenant `a` has two keys with the id `k`",
        ),
        (
            format!("{hs256}\n{}", hs256.replace("\"a\"", "\"b\"")),
            "tenants: key `k` of tenant `b` is also a key of tenant `a`",
        ),
        (api_key(""), "tenants[0].api_keys[0]: an api key has one of"),
        (api_key("secret = \"short\""), "tenants[0].api_keys[0]: api key secret has 5 bytes"),
        (api_key("sha256 = \"00\""), "tenants[0].api_keys[0]: api key hash is not 64"),
        (
            api_key(&format!("{SECRET}\nchannels = {{ \"a-*\" = [\"publish\"] }}")),
            "tenants[0].api_keys[0].channels.\"a-*\": `*` must be a whole level",
        ),
    ] {
        let found = problems(&Setup::new(&toml));
        let problem = format!("{}: {}", found[0].key, found[0].message);
        assert!(problem.starts_with(expected), "{problem:?} for {toml}");
    }
}

#[test]
fn what_cannot_be_handed_out_so_is_refused() {
    let rule = "[[tenants.rules]]\npattern = \"b\"\n";
    for (rules, expected) in [
        (
            format!("{rule}when_slow = \"drop-oldest\""),
            "tenants[0].rules[0].when_slow: what is kept is not dropped: choose another",
        ),
        (format!("{rule}when_slow = \"drop\""), "tenants[0].rules[0].when_slow: "),
        (
            format!("{rule}when_slow = \"latest-by-key\""),
            "tenants[0].rules[0].when_slow: `latest-by-key` needs `key`",
        ),
        (format!("{rule}key = \"symbol\""), "tenants[0].rules[0].key: is for `when_slow = "),
        (
            format!("{rule}sample = \"9ms\""),
            "tenants[0].rules[0].sample: expected a duration from \"10ms\" to \"1m\"",
        ),
        (
            format!("{rule}sample = \"1s\"\ndelta = \"fossil\""),
            "tenants[0].rules[0].sample: leaves publications out",
        ),
        (
            format!("{rule}sample = \"1s\"\nflush_window = \"10ms\""),
            "tenants[0].rules[0].flush_window: `sample` is one already",
        ),
    ] {
        let problem = only_problem(&tenant_with(&rules));
        assert!(problem.starts_with(expected), "{problem:?}");
    }
}

fn tenant_with(rules: &str) -> String {
    format!(
        "[[tenants]]\nname = \"a\"\n[[tenants.api_keys]]\nid = \"k\"\n\
         secret = \"a secret of the tenant, 32 bytes\"\n{rules}"
    )
}

#[test]
fn rules_that_cannot_hold_are_refused() {
    let rule = "[[tenants.rules]]\npattern = \"b\"\n";
    let many = |count: usize| {
        let rules = (0..count).map(|index| format!("[[tenants.rules]]\npattern = \"c{index}\"\n"));
        rules.collect::<String>()
    };
    for (rules, expected) in [
        (
            "[[tenants.rules]]\npattern = \"a-*\"".into(),
            "tenants[0].rules[0].pattern: `*` must be a whole level",
        ),
        (
            format!("{rule}flush_window = \"101ms\""),
            "tenants[0].rules[0].flush_window: expected a duration from \"0s\" to \"100ms\"",
        ),
        (format!("{rule}delta = \"vcdiff\""), "tenants[0].rules[0].delta: "),
        ("[[tenants.rules]]".into(), "tenants[0].rules[0]: key `pattern` is missing"),
        (format!("{rule}preset = \"blog\""), "tenants[0].rules[0].preset: "),
        (format!("{rule}latest = true"), "tenants[0].rules[0].latest: "),
        (
            format!("{rule}history_size = 0"),
            "tenants[0].rules[0].history_size: expected a whole number from 1 to 100000",
        ),
        (
            format!("{rule}presence = \"members\"\npresence_listed = 0"),
            "tenants[0].rules[0].presence_listed: expected a whole number from 1 to 100000",
        ),
        (
            format!("{rule}history_ttl = \"8d\""),
            "tenants[0].rules[0].history_ttl: expected a duration from \"1s\" to \"7d\"",
        ),
        (
            format!("{rule}preset = \"ticker\"\nhistory_size = 5"),
            "tenants[0].rules[0].history_size: nothing is kept of an ephemeral channel",
        ),
        (
            format!("{rule}class = \"ephemeral\"\nlatest = \"on\""),
            "tenants[0].rules[0].latest: nothing is kept of an ephemeral channel",
        ),
        (
            rule.repeat(2),
            "tenants[0].rules[1].pattern: rules[0] has this pattern too, and only one could hold",
        ),
        (many(257), "tenants[0].rules: at most 256 allowed, found 257"),
    ] {
        let problem = only_problem(&tenant_with(&rules));
        assert!(problem.starts_with(expected), "{problem:?}");
    }
    assert!(Setup::new(&tenant_with(&many(256))).load().is_ok());
}

#[test]
fn a_tenant_without_a_key_is_refused() {
    let problem = only_problem("[[tenants]]\nname = \"a\"");

    assert_eq!(problem, "tenants[0]: has no key, so nobody could prove to be of it");
}

#[test]
fn all_problems_are_reported_at_once() {
    let setup = Setup::new(
        "[server]\nlisten = \"nowhere\"\nping_interval = 5\nlisen = 1\n[nats]\nservers = [\"a\"]\n",
    )
    .with_variable("TIDEWIRE_HISTORY__SIZE", "lots")
    .with_variable("TIDEWIRE_SERVER_LISTEN", "x");

    let mut keys: Vec<_> = problems(&setup).into_iter().map(|problem| problem.key).collect();
    keys.sort();

    assert_eq!(
        keys,
        [
            "",
            "history.size",
            "nats.servers[0]",
            "server.lisen",
            "server.listen",
            "server.ping_interval"
        ]
    );
}

#[test]
fn a_problem_in_the_environment_names_its_variable() {
    for (name, value, expected) in [
        (
            "TIDEWIRE_HISTORY__SIZE",
            "0",
            "TIDEWIRE_HISTORY__SIZE: expected a whole number from 1 to 100000",
        ),
        (
            "TIDEWIRE_HISTORY__TTL",
            "soon",
            "TIDEWIRE_HISTORY__TTL: expected a duration from \"1s\" to \"7d\"",
        ),
        (
            "TIDEWIRE_SERVER_LISTEN",
            "x",
            "TIDEWIRE_SERVER_LISTEN: unknown environment variable\n  \
             = did you mean `TIDEWIRE_SERVER__LISTEN`?",
        ),
        (
            "TIDEWIRE_TENANTS",
            "[{ nam = \"a\" }]",
            "TIDEWIRE_TENANTS: [0].nam: unknown key\n  = did you mean `name`?",
        ),
        (
            "TIDEWIRE_REDIS__ADDRESSES",
            "here",
            "TIDEWIRE_REDIS__ADDRESSES: expected `scheme://host:port`",
        ),
    ] {
        let found = problems(&Setup::new("").with_variable(name, value));

        assert_eq!(found[0].to_string(), expected);
    }
}

#[test]
fn a_file_that_is_no_toml_shows_where_and_none_of_its_values() {
    let setup = Setup::new("[redis]\npassword = \"hunter2\n");

    let shown = setup.load().map(drop).expect_err("not valid").to_string();

    assert!(shown.contains("tidewire.toml:2:"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn no_problem_shows_a_secret() {
    for toml in [
        "[redis]\npasword = \"hunter2\"",
        "[session]\nresume_keys = [\"hunter2\"]",
        "[[tenants]]\nname = \"a\"\nkeys = [{ id = \"k\", algorithm = \"HS256\", secret = \"hunter2\" }]",
        "redis = { password = \"hunter2\", prefix = \"A\" }",
        "[redis]\npassword = [\"hunter2\"]",
        "[nats]\ntoken = \"\"\"\nhunter2\"\"\"\nuser = \"u\"\npassword = \"hunter2\"",
    ] {
        let shown = Setup::new(toml).load().map(drop).expect_err("not valid").to_string();

        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn secret_files_that_cannot_be_used_are_reported() {
    for (toml, expected) in [
        ("[redis]\npassword_file = \"none\"", "none cannot be read"),
        ("[redis]\npassword_file = \"empty\"", "empty is empty"),
        ("[redis]\npassword_file = \"large\"", "large has 65537 bytes, which is no secret"),
        (
            "[redis]\npassword = \"p\"\npassword_file = \"good\"",
            "set either `password` or `password_file`, not both",
        ),
    ] {
        let setup = Setup::new(toml)
            .with_file("good", "p")
            .with_file("empty", "\n")
            .with_file("large", &"x".repeat(65_537));

        let found = problems(&setup);

        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].key, "redis.password_file");
        assert!(found[0].message.contains(expected), "{}", found[0].message);
    }
}

#[test]
fn a_missing_file_is_named() {
    let missing = std::path::Path::new("/nowhere/tidewire.toml");

    let error = Config::load(Some(missing), std::iter::empty()).expect_err("not there");

    assert!(error.to_string().contains("/nowhere/tidewire.toml cannot be read"), "{error}");
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(
        toml in "((\\[?\\[(server|nats|tenants|tenants.keys|é)\\]\\]?|(listen|servers|name|keys|\"a.b\") = (1|\"x\"|\\[1\\]|\\{ a = 1 \\}|é|\"\"\"))\\n){0,6}",
        name in "TIDEWIRE_(SERVER__LISTEN|NATS__SERVERS|TENANTS|HISTORY__SIZE|PORT|.{0,4})(_PORT)?.?",
        value in ".{0,12}",
    ) {
        let setup = Setup::new(&toml).with_variable(&name, &value);

        if let Err(error) = setup.load() {
            prop_assert!(!error.to_string().is_empty());
        }
        drop(Loaded::load(None, [(name, value)].into_iter()));
    }
}

#[test]
fn a_certificate_and_a_key_are_checked_together() {
    const CERTIFICATE: &str = include_str!("../../../tidewire-transport/tests/tls/certificate.pem");
    const OTHER_KEY: &str = include_str!("../../../tidewire-transport/tests/tls/other-key.pem");
    for (toml, expected) in [
        ("[tls]\ncertificate_file = \"c\"", "tls.certificate_file: needs `tls.key` too"),
        ("[tls]\nkey = \"k\"", "tls.key: needs `tls.certificate` too"),
        ("[tls]\ncertificate_file = \"c\"\nkey = \"k\"", "tls.key: key is no private key in PEM"),
        (
            "[tls]\ncertificate = \"c\"\nkey_file = \"k\"",
            "tls.certificate: certificate has no certificate in PEM",
        ),
        (
            "[tls]\ncertificate_file = \"c\"\nkey_file = \"k\"",
            "tls.key_file: key does not belong to the certificate",
        ),
    ] {
        let setup = Setup::new(toml).with_file("c", CERTIFICATE).with_file("k", OTHER_KEY);
        let problems = problems(&setup);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(format!("{}: {}", problems[0].key, problems[0].message), expected);
        assert!(!format!("{problems:?}").contains("PRIVATE"), "{problems:?}");
    }
    let missing = problems(&Setup::new("[tls]\ncertificate_file = \"none\"\nkey_file = \"no\""));
    let keys: Vec<_> = missing.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["tls.certificate_file", "tls.key_file"]);
}
