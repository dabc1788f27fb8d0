use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    ByTenant, Channel, ChannelLimits, DeltaFormat, Filter, Pace, PresenceMode, PresenceRule,
    Tenant, TenantChannel, WhenSlow,
};

/// How the channels of tenants are treated: each by the most specific rule of its tenant whose
/// filter has its name, whatever their order ([`Filter::compare_specificity`]).
///
/// A look-up takes time linear in the rules of the tenant, so what is asked about a channel again
/// and again is better remembered beside it. A copy shares what it does not change.
#[derive(Clone, Debug, Default)]
pub struct ChannelRules {
    /// The most specific first.
    rules: ByTenant<Arc<[ChannelRule]>>,
    /// Of tenants whose channels may have something else than those of all others.
    limits: ByTenant<ChannelLimits>,
    ordinary: ChannelLimits,
}

/// How the channels are treated that a filter names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChannelRule {
    pub filter: Filter,
    pub class: DeliveryClass,
    /// How much the log keeps; as much as of any other channel if nothing is said.
    pub retention: Option<Retention>,
    /// Whether who subscribes without a position is handed the newest publication first.
    pub gives_latest: bool,
    /// How long publications may wait for others, to be written with them: fewer and larger writes
    /// for so much later a delivery. Zero waits for nothing, and still writes together what comes
    /// together.
    pub flush_window: Duration,
    /// How publications may be written as what changed, for subscribers that ask for it.
    pub delta: Option<DeltaFormat>,
    /// Whether clients may enter, and how it is kept who has.
    pub presence: Option<PresenceRule>,
    /// What becomes of publications for a client that reads too slowly.
    pub when_slow: WhenSlow,
    /// The member of a payload that tells one value of the channel from another.
    pub key: Option<Arc<str>>,
    /// Of what comes in so long a time only the newest is handed out, whoever reads how fast.
    pub sample: Option<Duration>,
    /// How fast it may be published to on each node; as any channel of its tenant if nothing is said.
    pub publish: Option<Pace>,
}

/// How publications of a channel go to its subscribers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Handing {
    /// As in [`ChannelRule`].
    pub flush_window: Duration,
    /// As in [`ChannelRule`].
    pub when_slow: WhenSlow,
    /// As in [`ChannelRule`].
    pub key: Option<Arc<str>>,
    /// As in [`ChannelRule`].
    pub sample: Option<Duration>,
}

/// What is promised of a channel's publications.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DeliveryClass {
    /// At most once, and nothing is kept: the log is never asked, and nothing ends when it does.
    Ephemeral,
    /// In order and without a silent loss, from the log that keeps them.
    #[default]
    Recoverable,
    /// As recoverable, and acknowledged only once it is kept in more than one place.
    Durable,
}

/// How much of a channel a log keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// Publications; the log may keep somewhat more.
    pub size: usize,
    /// Counted from a channel's newest publication.
    pub ttl: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { size: 1_000, ttl: Duration::from_mins(5) }
    }
}

impl ChannelRule {
    /// A rule that treats the channels of `filter` as if there were none.
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            class: DeliveryClass::default(),
            retention: None,
            gives_latest: false,
            flush_window: Duration::ZERO,
            delta: None,
            presence: None,
            when_slow: WhenSlow::default(),
            key: None,
            sample: None,
            publish: None,
        }
    }
}

impl ChannelRules {
    /// The order of a tenant's rules does not matter, unless two have the same filter: then the
    /// first holds.
    pub fn new(rules: HashMap<Tenant, Vec<ChannelRule>>) -> Self {
        let mut all = Self::default();
        for (tenant, rules) in rules {
            all.set(tenant, rules);
        }
        all
    }

    /// Has the channels of every tenant go by these limits that has none of its own.
    #[must_use]
    pub fn with_limits(self, ordinary: ChannelLimits) -> Self {
        Self { ordinary, ..self }
    }

    /// What the channels of a tenant may have that has no limits of its own.
    pub fn ordinary_limits(&self) -> ChannelLimits {
        self.ordinary
    }

    /// Has the channels of a tenant go by limits of its own.
    pub fn set_limits(&mut self, tenant: &Tenant, limits: ChannelLimits) {
        if limits == self.ordinary {
            self.limits.remove(tenant);
        } else {
            self.limits.set(tenant.clone(), limits);
        }
    }

    /// What the channels of a tenant may have.
    pub fn limits(&self, tenant: &Tenant) -> ChannelLimits {
        if self.limits.is_empty() {
            return self.ordinary;
        }
        self.limits.get(tenant).copied().unwrap_or(self.ordinary)
    }

    /// Forgets a tenant.
    pub fn remove(&mut self, tenant: &Tenant) {
        self.rules.remove(tenant);
        self.limits.remove(tenant);
    }

    /// Gives a tenant these rules, and no others; their order is as in [`new`](Self::new).
    pub fn set(&mut self, tenant: Tenant, mut rules: Vec<ChannelRule>) {
        if rules.is_empty() {
            self.rules.remove(&tenant);
            return;
        }
        rules.sort_by(|one, other| other.filter.compare_specificity(&one.filter));
        self.rules.set(tenant, rules.into());
    }

    /// A tenant's rules, the most specific first.
    pub fn of(&self, tenant: &Tenant) -> &[ChannelRule] {
        self.rules.get(tenant).map(|rules| &**rules).unwrap_or_default()
    }

    /// Whether any channel may be of `class` by a rule.
    pub fn has(&self, class: DeliveryClass) -> bool {
        self.rules.iter().any(|(_, rules)| rules.iter().any(|rule| rule.class == class))
    }

    /// Whether every channel is treated alike.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule that holds for a channel, if any does.
    pub fn rule(&self, tenant: &Tenant, channel: &Channel) -> Option<&ChannelRule> {
        if self.is_empty() || channel.is_reserved() {
            return None;
        }
        self.of(tenant).iter().find(|rule| rule.filter.matches(channel))
    }

    pub fn class(&self, channel: &TenantChannel) -> DeliveryClass {
        if channel.channel.is_reserved() {
            return DeliveryClass::Ephemeral;
        }
        self.of_channel(channel).map(|rule| rule.class).unwrap_or_default()
    }

    /// Which way a channel's publications go, and how fast they may come to one node, if that is bounded.
    pub fn publishing(&self, channel: &TenantChannel) -> (DeliveryClass, Option<Pace>) {
        if channel.channel.is_reserved() {
            return (DeliveryClass::Ephemeral, None);
        }
        let rule = self.of_channel(channel);
        let pace = rule.and_then(|rule| rule.publish);
        let class = rule.map(|rule| rule.class).unwrap_or_default();
        (class, pace.or_else(|| self.limits(&channel.tenant).publish))
    }

    /// How much the log keeps of a channel, given what it keeps of others.
    pub fn retention(&self, channel: &TenantChannel, otherwise: Retention) -> Retention {
        self.of_channel(channel).and_then(|rule| rule.retention).unwrap_or(otherwise)
    }

    /// Whether who subscribes to a channel without a position is handed its newest publication.
    pub fn gives_latest(&self, channel: &TenantChannel) -> bool {
        self.of_channel(channel).is_some_and(|rule| rule.gives_latest)
    }

    /// How publications of a channel go to its subscribers.
    pub fn handing(&self, channel: &TenantChannel) -> Handing {
        if channel.channel.is_reserved() {
            return Handing { flush_window: RESERVED_FLUSH_WINDOW, ..Handing::default() };
        }
        self.of_channel(channel).map_or_else(Handing::default, |rule| Handing {
            flush_window: rule.flush_window,
            when_slow: rule.when_slow,
            key: rule.key.clone(),
            sample: rule.sample,
        })
    }

    /// Whether of a channel's publications only some are handed out.
    pub fn is_sampled(&self, channel: &TenantChannel) -> bool {
        self.of_channel(channel).is_some_and(|rule| rule.sample.is_some())
    }

    /// How presence in a channel is kept, if it is.
    pub fn presence(&self, tenant: &Tenant, channel: &Channel) -> Option<PresenceRule> {
        self.rule(tenant, channel).and_then(|rule| rule.presence)
    }

    /// Whether the subscribers of a channel are counted for all to know.
    pub fn counts_subscribers(&self, channel: &TenantChannel) -> bool {
        let rule = self.presence(&channel.tenant, &channel.channel);
        rule.is_some_and(|rule| rule.mode == PresenceMode::Count)
    }

    /// What of a wish for deltas a channel grants.
    pub fn grant(
        &self,
        tenant: &Tenant,
        channel: &Channel,
        wish: Option<DeltaFormat>,
    ) -> Option<DeltaFormat> {
        wish.filter(|_| self.rule(tenant, channel).and_then(|rule| rule.delta) == wish)
    }

    fn of_channel(&self, channel: &TenantChannel) -> Option<&ChannelRule> {
        self.rule(&channel.tenant, &channel.channel)
    }
}

/// Of changes in who is there: many at once are the rule where one is.
const RESERVED_FLUSH_WINDOW: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_holds_whatever_their_order() {
        let filters = ["**", "chat/**", "chat/*", "chat/1", "*/1"];
        let mut backward = filters;
        backward.reverse();

        for order in [filters, backward] {
            let rules = rules("acme", &order);
            for (name, expected) in [
                ("chat/1", "chat/1"),
                ("chat/2", "chat/*"),
                ("chat/1/2", "chat/**"),
                ("game/1", "*/1"),
                ("news", "**"),
            ] {
                let rule = rules.rule(&tenant("acme"), &channel(name)).expect(name);
                assert_eq!(rule.filter.as_str(), expected, "{name}");
            }
        }
    }

    #[test]
    fn a_tenants_rules_say_nothing_about_anothers_channels() {
        let rules = rules("acme", &["**"]);

        assert!(rules.rule(&tenant("acme"), &channel("news")).is_some());
        assert!(rules.rule(&tenant("globex"), &channel("news")).is_none());
    }

    #[test]
    fn where_a_rule_says_nothing_a_channel_is_like_any_other() {
        let long = Retention { size: 5, ttl: Duration::from_hours(1) };
        let said = ChannelRule { retention: Some(long), ..ChannelRule::new(filter("said/*")) };
        let all = vec![said, ChannelRule::new(filter("silent/*"))];
        let rules = ChannelRules::new(HashMap::from([(tenant("acme"), all)]));
        let retention = |name: &str| {
            let channel = TenantChannel::new(tenant("acme"), channel(name));
            rules.retention(&channel, Retention::default())
        };

        assert_eq!(retention("said/1"), long);
        assert_eq!(retention("silent/1"), Retention::default());
        assert_eq!(retention("other"), Retention::default());
        let other = TenantChannel::new(tenant("acme"), channel("other"));
        assert_eq!(rules.class(&other), DeliveryClass::Recoverable);
    }

    #[test]
    fn a_wish_for_deltas_is_granted_only_where_the_rule_has_that_format() {
        let rule =
            ChannelRule { delta: Some(DeltaFormat::Fossil), ..ChannelRule::new(filter("a")) };
        let rules = ChannelRules::new(HashMap::from([(tenant("acme"), vec![rule])]));
        let grant = |name, wish| rules.grant(&tenant("acme"), &channel(name), wish);

        assert_eq!(grant("a", Some(DeltaFormat::Fossil)), Some(DeltaFormat::Fossil));
        assert_eq!(grant("a", None), None);
        assert_eq!(grant("b", Some(DeltaFormat::Fossil)), None);
    }

    #[test]
    fn no_rule_is_for_a_reserved_channel() {
        let presence = Some(PresenceRule::default());
        let rule = ChannelRule { presence, gives_latest: true, ..ChannelRule::new(filter("**")) };
        let rules = ChannelRules::new(HashMap::from([(tenant("acme"), vec![rule])]));
        let base = channel("a");
        let reserved = TenantChannel::new(tenant("acme"), base.presence().expect("short enough"));

        assert_eq!(rules.presence(&tenant("acme"), &base), presence);
        assert_eq!(rules.presence(&tenant("acme"), &reserved.channel), None);
        assert_eq!(rules.class(&reserved), DeliveryClass::Ephemeral);
        assert_eq!(rules.handing(&reserved).flush_window, RESERVED_FLUSH_WINDOW);
        assert!(!rules.gives_latest(&reserved));
    }

    #[test]
    fn a_rule_says_how_fast_a_channel_is_published_to_else_its_tenant_else_what_holds_for_all() {
        let pace = |per_second| Some(Pace::doubled(per_second));
        let rule = ChannelRule { publish: pace(1), ..ChannelRule::new(filter("slow/*")) };
        let all = HashMap::from([(tenant("acme"), vec![rule])]);
        let mut rules = ChannelRules::new(all)
            .with_limits(ChannelLimits { publish: pace(3), ..ChannelLimits::default() });
        let limits = ChannelLimits { publish: pace(2), ..ChannelLimits::default() };
        rules.set_limits(&tenant("acme"), limits);
        let publishing = |rules: &ChannelRules, owner, name| {
            rules.publishing(&TenantChannel::new(tenant(owner), channel(name))).1
        };

        assert_eq!(publishing(&rules, "acme", "slow/1"), pace(1));
        assert_eq!(publishing(&rules, "acme", "other"), pace(2));
        assert_eq!(publishing(&rules, "globex", "slow/1"), pace(3));
        let reserved = channel("slow/1").presence().expect("short enough");
        let reserved = TenantChannel::new(tenant("acme"), reserved);
        assert_eq!(rules.publishing(&reserved), (DeliveryClass::Ephemeral, None));
        rules.remove(&tenant("acme"));
        assert_eq!(publishing(&rules, "acme", "slow/1"), pace(3));
    }

    fn rules(owner: &str, filters: &[&str]) -> ChannelRules {
        let rules = filters.iter().map(|pattern| ChannelRule::new(filter(pattern))).collect();
        ChannelRules::new(HashMap::from([(tenant(owner), rules)]))
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).expect("tenant")
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name).expect("channel")
    }

    fn filter(pattern: &str) -> Filter {
        Filter::parse(pattern).expect("filter")
    }
}
