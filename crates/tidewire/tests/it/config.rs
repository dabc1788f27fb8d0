//! What a configuration means, where its values come from and what wins.

use std::num::NonZeroUsize;
use std::time::Duration;

use tempfile::TempDir;
use tidewire::config::{
    Config, ConfigError, Loaded, NatsLogin, Origin, RedisTopology, generated_node_id, initial_file,
    slot_of,
};
use tidewire_auth::Verifier;
use tidewire_model::{
    ChannelLimits, ChannelRule, DeliveryClass, DeltaFormat, Filter, Pace, PresenceMode,
    PresenceRule, Quotas, Retention, SessionKind, Tenant, TenantLimits, WhenSlow,
};
use tidewire_transport::Compression;

/// Files that name each other, and an environment.
pub(crate) struct Setup {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

impl Setup {
    pub(crate) fn new(toml: &str) -> Self {
        let setup = Self { directory: TempDir::new().expect("directory"), environment: vec![] };
        setup.with_file("tidewire.toml", toml)
    }

    pub(crate) fn with_file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.directory.path().join(name), content).expect("file");
        self
    }

    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        let file = self.directory.path().join("tidewire.toml");
        Loaded::load(Some(&file), self.environment.clone().into_iter())
    }

    fn config(&self) -> Config {
        self.load().map_err(|error| error.to_string()).expect("valid").config
    }
}

#[test]
fn without_a_file_the_defaults_hold() {
    let config = Config::load(None, std::iter::empty()).expect("valid");

    assert_eq!(config.listen.clients.to_string(), "127.0.0.1:8000");
    assert_eq!(config.listen.ops.to_string(), "127.0.0.1:8001");
    assert_eq!(config.server.max_connections, 100_000);
    assert_eq!(config.server.max_message_bytes, 131_072);
    assert_eq!(config.server.workers, None);
    assert_eq!(config.server.compression, Compression::On);
    assert!(config.channel_rules.is_empty());
    assert_eq!(config.history.size, 1000);
    assert_eq!(config.session.resume_window, Duration::from_mins(2));
    assert_eq!(config.drain.deadline, Duration::from_mins(2));
    assert_eq!(config.auth.max_token_lifetime, Verifier::DEFAULT_MAX_LIFETIME);
    assert_eq!(config.auth.audience, Verifier::DEFAULT_AUDIENCE);
    assert!(config.node_id.is_none() && config.slot.is_none());
    assert_eq!(config.weight, 100);
}

#[test]
fn the_initial_file_is_ready_to_serve() {
    let config = Setup::new(&initial_file()).config();

    assert!(config.ready_to_serve().is_ok());
    assert!(config.sealer().is_some());
    assert!(config.signing_key(&Tenant::parse("demo").expect("tenant")).is_some());
}

#[test]
fn the_environment_overrides_the_file() {
    let loaded = Setup::new("[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 5\n")
        .with_variable("TIDEWIRE_SERVER__LISTEN", "[::]:9000")
        .with_variable("TIDEWIRE_SERVER__PING_INTERVAL", "10s")
        .with_variable("TIDEWIRE_HISTORY__SIZE", "12")
        .with_variable("TIDEWIRE_NATS__SERVERS", "nats://a:1, tls://b:2")
        .with_variable("TIDEWIRE_REDIS__ADDRESSES", "[\"redis://c:3\"]")
        .load()
        .expect("valid");

    let config = &loaded.config;
    assert_eq!(config.listen.clients.to_string(), "[::]:9000");
    assert_eq!(config.server.max_connections, 5);
    assert_eq!(config.server.ping_interval, Duration::from_secs(10));
    assert_eq!(config.history.size, 12);
    assert_eq!(config.nats.servers, ["nats://a:1", "tls://b:2"]);
    let address = "redis://c:3".to_owned();
    assert_eq!(config.redis.topology, RedisTopology::Single { address });
    let variable = Origin::Environment("TIDEWIRE_SERVER__LISTEN".into());
    assert_eq!(loaded.origin("server.listen"), variable);
    assert_eq!(loaded.origin("server.write_timeout"), Origin::Default);
    let Origin::File(place) = loaded.origin("server.max_connections") else {
        unreachable!("it is in the file")
    };
    assert_eq!(place.line, 3);
}

#[test]
fn tenants_can_be_given_by_a_variable() {
    let tenants = "[{ name = \"acme\", keys = [{ id = \"k\", algorithm = \"HS256\", \
                   secret = \"a secret of the tenant, 32 bytes\" }] }]";
    let config = Setup::new(&initial_file()).with_variable("TIDEWIRE_TENANTS", tenants).config();

    let names: Vec<_> = config.auth.ring.tenants().map(Tenant::as_str).collect();
    assert_eq!(names, ["acme"]);
}

#[test]
fn a_tenant_has_the_limits_of_all_but_for_its_own() {
    let tenant = |name: &str, limits: &str| {
        format!(
            "[[tenants]]\nname = \"{name}\"\nlimits = {{ {limits} }}\n\
             keys = [{{ id = \"k\", algorithm = \"HS256\", \
             secret = \"a secret of {name}, at least 32 bytes\" }}]\n"
        )
    };
    let own = "connection_publish_rate = 5, connection_publish_burst = 9, payload_bytes = 2048, \
               tenant_connections = 3, tenant_channels = 5, tenant_history_bytes = 70000, tenant_bytes_out = 4096";
    let toml = format!(
        "[limits]\nconnection_subscriptions = 7\ntenant_connections = 9\ntenant_bytes_in = 2048\n{}{}",
        tenant("acme", own),
        tenant("umbrella", "")
    );

    let config = Setup::new(&toml).config();

    let tenants = config.tenants();
    let of = |name| {
        let details = tenants.details(&Tenant::parse(name).expect("tenant"));
        details.unwrap_or_default().limits.over(config.limits)
    };
    let rest = of("umbrella");
    let pace = |per_second, burst| Pace { per_second, burst };
    assert_eq!(
        rest,
        TenantLimits {
            connection_publish: pace(50, 100),
            connection_publish_bytes: pace(262_144, 524_288),
            connection_commands: pace(100, 1_200),
            connection_subscriptions: 7,
            payload_bytes: 65_536,
            unsent_bytes: 262_144,
            tenant_connects: pace(500, 1_000),
            quotas: Quotas { connections: Some(9), rates: [None, Some(2_048), None].into() },
        }
    );
    let channels = |name| config.channel_rules.limits(&Tenant::parse(name).expect("tenant"));
    let of_all = ChannelLimits {
        publish: Some(pace(1_000, 2_000)),
        followed: Some(1_000_000),
        kept_bytes: None,
    };
    assert_eq!(channels("umbrella"), of_all);
    let tenants_own = tenants.rules().load().limits(&Tenant::parse("acme").expect("tenant"));
    assert_eq!(
        tenants_own,
        ChannelLimits { followed: Some(5), kept_bytes: Some(70_000), ..of_all }
    );
    let quotas = Quotas { connections: Some(3), rates: [None, Some(2_048), Some(4_096)].into() };
    let connection_publish = pace(5, 9);
    let own = TenantLimits { connection_publish, payload_bytes: 2_048, quotas, ..rest };
    assert_eq!(of("acme"), own);
}

#[test]
fn an_operator_says_who_comes_in_and_how_fast() {
    let toml =
        "[server]\nhandshake_rate = 7\naddress_rate = 3\ntrusted_proxies = [\"10.0.0.0/8\"]\n";
    let door = Setup::new(toml).config().server.door;

    assert_eq!(door.handshakes, Pace { per_second: 7, burst: 14 });
    assert_eq!(door.address, Pace { per_second: 3, burst: 12 });
    assert!(door.proxies[0].contains([10, 1, 2, 3].into()));
}

#[test]
fn threads_and_compression_can_be_chosen() {
    let config = Setup::new("[server]\nworkers = 4\ncompression = \"off\"\n").config();

    assert_eq!(config.server.workers, NonZeroUsize::new(4));
    assert_eq!(config.server.compression, Compression::Off);
}

#[test]
fn rules_are_the_tenants_own_and_stand_in_the_order_they_are_tried() {
    let rules = "[[tenants.rules]]\npattern = \"ticker/**\"\nflush_window = \"100ms\"\n\
                 delta = \"fossil\"\n[[tenants.rules]]\npattern = \"ticker/fast\"\n";
    let config = Setup::new(&(tenant("acme", "") + &tenant("globex", rules))).config();

    assert_eq!(config.channel_rules.of(&Tenant::parse("acme").expect("tenant")), []);
    let rules: Vec<_> = config
        .channel_rules
        .of(&Tenant::parse("globex").expect("tenant"))
        .iter()
        .map(|rule| (rule.filter.to_string(), rule.flush_window, rule.delta))
        .collect();
    assert_eq!(
        rules,
        [
            ("ticker/fast".to_owned(), Duration::ZERO, None),
            ("ticker/**".to_owned(), Duration::from_millis(100), Some(DeltaFormat::Fossil))
        ]
    );
}

#[test]
fn a_tenant_says_how_its_sessions_are_kept() {
    let with = |name: &str, sessions: &str| {
        let sessions = format!("[[tenants]]\nsessions = \"{sessions}\"");
        tenant(name, "").replacen("[[tenants]]", &sessions, 1)
    };
    let document = [tenant("a", ""), with("b", "lazy"), with("c", "none"), with("d", "strict")];

    let config = Setup::new(&document.concat()).config();

    let kinds = ["a", "b", "c", "d"].map(|name| {
        config.tenant_details.get(&Tenant::parse(name).expect("tenant")).map(|one| one.sessions)
    });
    assert_eq!(kinds, [None, None, Some(SessionKind::None), Some(SessionKind::Strict)]);
}

#[test]
fn what_becomes_of_a_slow_client_is_for_the_rule_its_preset_and_its_class_to_say() {
    for (settings, expected) in [
        ("", WhenSlow::Lag),
        ("when_slow = \"latest\"", WhenSlow::Latest),
        ("class = \"ephemeral\"", WhenSlow::DropOldest),
        ("class = \"ephemeral\"\nwhen_slow = \"drop-newest\"", WhenSlow::DropNewest),
        ("preset = \"notify\"\nwhen_slow = \"disconnect\"", WhenSlow::Disconnect),
        ("preset = \"ticker\"", WhenSlow::Latest),
        ("preset = \"ticker\"\nwhen_slow = \"drop-oldest\"", WhenSlow::DropOldest),
        ("preset = \"ticker\"\nclass = \"recoverable\"", WhenSlow::Lag),
        ("sample = \"1s\"", WhenSlow::Latest),
        ("when_slow = \"latest-by-key\"\nkey = \"symbol\"", WhenSlow::LatestByKey),
    ] {
        let rule = format!("[[tenants.rules]]\npattern = \"a\"\n{settings}\n");

        let config = Setup::new(&tenant("acme", &rule)).config();

        let rules = config.channel_rules.of(&Tenant::parse("acme").expect("tenant"));
        assert_eq!(rules[0].when_slow, expected, "{settings}");
    }
}

#[test]
fn a_rule_says_whether_presence_is_kept_and_how_long_members_are_waited_for() {
    for (settings, expected) in [
        ("", None),
        ("presence_debounce = \"1m\"", None),
        ("presence = \"members\"", Some(members(5))),
        ("presence = \"members\"\npresence_debounce = \"0s\"", Some(members(0))),
        ("preset = \"presence\"\npresence_debounce = \"1m\"", Some(members(60))),
        ("preset = \"presence\"\npresence = \"off\"", None),
        ("presence = \"count\"", Some(PresenceRule { mode: PresenceMode::Count, ..members(5) })),
        (
            "preset = \"presence\"\npresence_listed = 100000",
            Some(PresenceRule { listed: 100_000, ..members(5) }),
        ),
    ] {
        let rule = format!("[[tenants.rules]]\npattern = \"a\"\n{settings}\n");

        let config = Setup::new(&tenant("acme", &rule)).config();

        let rules = config.channel_rules.of(&Tenant::parse("acme").expect("tenant"));
        assert_eq!(rules[0].presence, expected, "{settings}");
    }
}

fn members(seconds: u64) -> PresenceRule {
    PresenceRule { debounce: Duration::from_secs(seconds), ..PresenceRule::default() }
}

fn with_members(rule: ChannelRule) -> ChannelRule {
    ChannelRule { presence: Some(members(5)), ..rule }
}

#[test]
fn a_preset_holds_where_a_rule_says_nothing_itself() {
    const DAY: Duration = Duration::from_hours(24);
    let basis = || ChannelRule::new(Filter::parse("a").expect("filter"));
    let kept = |size, ttl| Some(Retention { size, ttl });
    let ephemeral = |milliseconds, when_slow| ChannelRule {
        class: DeliveryClass::Ephemeral,
        flush_window: Duration::from_millis(milliseconds),
        when_slow,
        ..basis()
    };
    for (settings, expected) in [
        ("", basis()),
        ("preset = \"chat\"", ChannelRule { retention: kept(1_000, DAY), ..basis() }),
        (
            "preset = \"notify\"",
            ChannelRule { class: DeliveryClass::Durable, retention: kept(100, 7 * DAY), ..basis() },
        ),
        (
            "preset = \"notify\"\nclass = \"recoverable\"",
            ChannelRule { retention: kept(100, 7 * DAY), ..basis() },
        ),
        (
            "preset = \"state\"",
            ChannelRule {
                retention: kept(16, DAY),
                gives_latest: true,
                delta: Some(DeltaFormat::Fossil),
                ..basis()
            },
        ),
        ("preset = \"ticker\"", ephemeral(50, WhenSlow::Latest)),
        ("preset = \"presence\"", with_members(ephemeral(100, WhenSlow::DropOldest))),
        ("preset = \"ticker\"\nflush_window = \"0s\"", ephemeral(0, WhenSlow::Latest)),
        ("class = \"ephemeral\"", ephemeral(0, WhenSlow::DropOldest)),
        (
            "preset = \"ticker\"\nclass = \"recoverable\"\nhistory_size = 5\nhistory_ttl = \"1h\"",
            ChannelRule {
                class: DeliveryClass::Recoverable,
                retention: kept(5, Duration::from_hours(1)),
                ..ephemeral(50, WhenSlow::Lag)
            },
        ),
        (
            "preset = \"state\"\nlatest = \"off\"\ndelta = \"off\"\nhistory_ttl = \"1m\"",
            ChannelRule { retention: kept(16, Duration::from_mins(1)), ..basis() },
        ),
        (
            "history_size = 7\nlatest = \"on\"",
            ChannelRule {
                retention: kept(7, Duration::from_mins(5)),
                gives_latest: true,
                ..basis()
            },
        ),
    ] {
        let rule = format!("[[tenants.rules]]\npattern = \"a\"\n{settings}\n");

        let config = Setup::new(&tenant("acme", &rule)).config();

        let rules = config.channel_rules.of(&Tenant::parse("acme").expect("tenant"));
        assert_eq!(rules, [expected], "{settings}");
    }
}

fn tenant(name: &str, rules: &str) -> String {
    format!(
        "[[tenants]]\nname = \"{name}\"\n[[tenants.keys]]\nid = \"{name}\"\n\
         algorithm = \"HS256\"\nsecret = \"a secret of {name}, of 32 bytes or more\"\n{rules}"
    )
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let config = Setup::new("")
        .with_variable("TIDEWIRE_NATS__USER", "")
        .with_variable("TIDEWIRE_HISTORY__SIZE", "")
        .config();

    assert_eq!(config.history.size, 1000);
    assert!(matches!(config.nats.login, NatsLogin::Anonymous));
}

#[test]
fn secrets_can_stand_in_files_beside_the_configuration() {
    let config = Setup::new(
        "[redis]\npassword_file = \"redis\"\n\
         [session]\nresume_keys_file = \"keys\"\n\
         [[tenants]]\nname = \"acme\"\n\
         [[tenants.keys]]\nid = \"k\"\nalgorithm = \"HS256\"\nsecret_file = \"hs256\"\n",
    )
    .with_file("redis", "hunter2 \r\n")
    .with_file("keys", "a resume key that has 32 bytes!!\n\n  another resume key of 32 bytes!!\n")
    .with_file("hs256", "a secret of the tenant, 32 bytes\n")
    .config();

    assert_eq!(config.redis.login.expect("login").password.expose(), "hunter2 ");
    assert_eq!(config.session.resume_keys.len(), 2);
    assert_eq!(config.auth.ring.tenants().count(), 1);
}

#[test]
fn a_secret_file_named_by_a_variable_replaces_the_files_secret() {
    let setup = Setup::new("[redis]\npassword = \"old\"\n[nats]\ntoken_file = \"missing\"\n")
        .with_file("redis", "new\n");
    let file = setup.path("redis");
    let config = setup
        .with_variable("TIDEWIRE_REDIS__PASSWORD_FILE", &file)
        .with_variable("TIDEWIRE_NATS__TOKEN", "t")
        .config();

    assert_eq!(config.redis.login.expect("login").password.expose(), "new");
    assert!(matches!(config.nats.login, NatsLogin::Token(token) if token.expose() == "t"));
}

#[test]
fn redis_is_one_server_sentinels_or_a_cluster() {
    let topology = |toml: &str| Setup::new(toml).config().redis.topology;
    let addresses = vec!["redis://a:1".to_owned(), "rediss://b:2".to_owned()];
    let listed = "addresses = [\"redis://a:1\", \"rediss://b:2\"]";

    assert_eq!(
        topology("[redis]\naddresses = [\"redis://a:1/3\"]"),
        RedisTopology::Single { address: "redis://a:1/3".into() }
    );
    assert_eq!(
        topology(&format!("[redis]\nmode = \"sentinel\"\nmaster_name = \"m\"\n{listed}")),
        RedisTopology::Sentinel { addresses: addresses.clone(), master_name: "m".into() }
    );
    assert_eq!(
        topology(&format!("[redis]\nmode = \"cluster\"\n{listed}")),
        RedisTopology::Cluster { addresses }
    );
}

#[test]
fn debug_shows_no_secret() {
    let loaded = Setup::new(
        "[redis]\npassword = \"hunter2\"\n[session]\nresume_keys = [\"a resume key that has 32 bytes!!\"]\n\
         [nats]\nuser = \"u\"\npassword = \"hunter3\"\n",
    )
    .load()
    .expect("valid");

    let shown = format!("{:?}", loaded.config) + &format!("{:?}", loaded.document);

    assert!(!shown.contains("hunter") && !shown.contains("a resume key"), "{shown}");
}

#[test]
fn a_generated_name_is_the_hosts_and_never_the_same() {
    let id = generated_node_id("web-1.example.com\n");

    assert!(id.as_str().starts_with("web-1examplecom-"), "{id}");
    assert_ne!(id, generated_node_id("web-1.example.com\n"));
    assert!(generated_node_id("").as_str().starts_with("node-"));
    assert!(generated_node_id(&"x".repeat(300)).as_str().len() <= 64);
}

#[test]
fn clients_are_talked_to_in_tls_if_there_is_a_certificate_and_its_key() {
    let certificate = include_str!("../../../tidewire-transport/tests/tls/certificate.pem");
    let key = include_str!("../../../tidewire-transport/tests/tls/key.pem");
    let setup = Setup::new("[tls]\ncertificate_file = \"certificate.pem\"\n")
        .with_file("certificate.pem", certificate)
        .with_variable("TIDEWIRE_TLS__KEY", key);

    assert!(setup.config().tls.is_some());
    assert!(Setup::new("").config().tls.is_none());
}

#[test]
fn a_node_takes_the_slot_of_its_host() {
    assert_eq!(slot_of("web-1.example.com\n").as_str(), "web-1-example-com");
    assert_eq!(slot_of("").as_str(), "node");
    assert_eq!(slot_of(&"x".repeat(300)).as_str(), "x".repeat(64));
}
