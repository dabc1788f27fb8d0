//! How a tenant's channels are treated.

use std::collections::HashMap;
use std::time::Duration;

use tidewire_model::{
    ChannelRule, DeliveryClass, DeltaFormat, Filter, Pace, PresenceMode, PresenceRule, Retention,
    WhenSlow,
};

use crate::document::{self, LatestName, PresenceName, PresetName};
use crate::{Period, Problems};

/// The rules of one tenant, or nothing if one of them cannot hold, which has then been reported.
/// `history` is what is kept of a channel of which a rule names only one bound.
pub(super) fn check(
    rules: &[document::ChannelRule],
    path: &str,
    history: Retention,
    problems: &mut Problems,
) -> Option<Vec<ChannelRule>> {
    let mut valid = Vec::new();
    let mut first_with = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}.rules[{index}]");
        let place = format!("{path}.pattern");
        let Some(filter) = problems.accept(&place, Filter::parse(&rule.pattern)) else { continue };
        if let Some(first) = first_with.insert(filter.clone(), index) {
            let message = format!("rules[{first}] has this pattern too, and only one could hold");
            problems.add(&place, message);
            continue;
        }
        valid.extend(agreeing(rule, checked(rule, filter, history), &path, problems));
    }
    (valid.len() == rules.len()).then_some(valid)
}

/// The rule, unless what it says itself contradicts something else.
fn agreeing(
    rule: &document::ChannelRule,
    checked: ChannelRule,
    path: &str,
    problems: &mut Problems,
) -> Option<ChannelRule> {
    let contradictions = [class_contradicts(rule, &checked), handing_contradicts(rule, &checked)];
    let mut agrees = true;
    for (key, message) in contradictions.into_iter().flatten() {
        problems.add(&format!("{path}.{key}"), message);
        agrees = false;
    }
    agrees.then_some(checked)
}

type Contradiction = (&'static str, &'static str);

/// What the class leaves no room for.
fn class_contradicts(rule: &document::ChannelRule, checked: &ChannelRule) -> Option<Contradiction> {
    let wants_log = [
        ("history_size", rule.history_size.is_some()),
        ("history_ttl", rule.history_ttl.is_some()),
        ("latest", rule.latest == Some(LatestName::On)),
    ];
    let wants_log = wants_log.into_iter().find(|(_, is_wanted)| *is_wanted);
    match (checked.class, wants_log) {
        (DeliveryClass::Ephemeral, Some((key, _))) => {
            Some((key, "nothing is kept of an ephemeral channel"))
        }
        (DeliveryClass::Recoverable | DeliveryClass::Durable, _) if drops(checked.when_slow) => {
            let message = "what is kept is not dropped: choose another, or let the class be \
                           `ephemeral`";
            Some(("when_slow", message))
        }
        _ => None,
    }
}

/// What cannot be handed out so.
fn handing_contradicts(
    rule: &document::ChannelRule,
    checked: &ChannelRule,
) -> Option<Contradiction> {
    let is_by_key = checked.when_slow == WhenSlow::LatestByKey;
    if is_by_key && rule.key.is_none() {
        return Some(("when_slow", "`latest-by-key` needs `key`"));
    }
    if rule.key.is_some() && !is_by_key {
        return Some(("key", "is for `when_slow = \"latest-by-key\"`"));
    }
    let is_sampled = checked.sample.is_some();
    if is_sampled && checked.delta.is_some() {
        return Some(("sample", "leaves publications out, so none can be a `delta` of another"));
    }
    let window = rule.flush_window.is_some_and(|window| !window.duration().is_zero());
    (is_sampled && window).then_some(("flush_window", "`sample` is one already"))
}

fn drops(when_slow: WhenSlow) -> bool {
    matches!(when_slow, WhenSlow::DropOldest | WhenSlow::DropNewest)
}

/// What the rule says itself, else its preset, else what holds for any channel.
fn checked(rule: &document::ChannelRule, filter: Filter, history: Retention) -> ChannelRule {
    let basis = match rule.preset {
        Some(preset) => preset_rule(preset, filter),
        None => ChannelRule::new(filter),
    };
    let kept = basis.retention.unwrap_or(history);
    let size = rule.history_size.and_then(|size| usize::try_from(size).ok());
    let ttl = rule.history_ttl.map(Period::duration);
    let own = (size.is_some() || ttl.is_some())
        .then(|| Retention { size: size.unwrap_or(kept.size), ttl: ttl.unwrap_or(kept.ttl) });
    let class = rule.class.map_or(basis.class, Into::into);
    // A preset's is for the class of the preset.
    let when_slow = match rule.sample {
        Some(_) => WhenSlow::Latest,
        None if class == basis.class => basis.when_slow,
        None => WhenSlow::of(class),
    };
    ChannelRule {
        class,
        when_slow: rule.when_slow.map_or(when_slow, Into::into),
        key: rule.key.as_deref().map(Into::into),
        sample: rule.sample.map(Period::duration),
        publish: rule.publish_rate.map(Pace::doubled),
        retention: own.or(basis.retention),
        gives_latest: rule.latest.map_or(basis.gives_latest, |latest| latest == LatestName::On),
        flush_window: rule.flush_window.map_or(basis.flush_window, Period::duration),
        delta: rule.delta.map_or(basis.delta, Into::into),
        presence: presence_rule(rule, basis.presence),
        ..basis
    }
}

fn presence_rule(
    rule: &document::ChannelRule,
    basis: Option<PresenceRule>,
) -> Option<PresenceRule> {
    let mode = match rule.presence {
        None => basis.map(|basis| basis.mode),
        Some(PresenceName::Off) => None,
        Some(PresenceName::Members) => Some(PresenceMode::Members),
        Some(PresenceName::Count) => Some(PresenceMode::Count),
    };
    let otherwise = PresenceRule::default();
    Some(PresenceRule {
        mode: mode?,
        debounce: rule.presence_debounce.map_or(otherwise.debounce, Period::duration),
        listed: rule.presence_listed.unwrap_or(otherwise.listed),
    })
}

/// What a preset stands for; the reference of the configuration says the same in words.
fn preset_rule(preset: PresetName, filter: Filter) -> ChannelRule {
    const DAY: Duration = Duration::from_hours(24);
    let rule = ChannelRule::new(filter);
    match preset {
        PresetName::Chat => {
            ChannelRule { retention: Some(Retention { size: 1_000, ttl: DAY }), ..rule }
        }
        PresetName::Notify => ChannelRule {
            class: DeliveryClass::Durable,
            retention: Some(Retention { size: 100, ttl: 7 * DAY }),
            ..rule
        },
        // More than one is kept, so that a short break is no gap.
        PresetName::State => ChannelRule {
            retention: Some(Retention { size: 16, ttl: DAY }),
            gives_latest: true,
            delta: Some(DeltaFormat::Fossil),
            ..rule
        },
        PresetName::Ticker => ChannelRule {
            when_slow: WhenSlow::Latest,
            ..ephemeral(Duration::from_millis(50), rule)
        },
        PresetName::Presence => {
            let presence = Some(PresenceRule::default());
            ephemeral(Duration::from_millis(100), ChannelRule { presence, ..rule })
        }
    }
}

fn ephemeral(flush_window: Duration, rule: ChannelRule) -> ChannelRule {
    let class = DeliveryClass::Ephemeral;
    ChannelRule { class, flush_window, when_slow: WhenSlow::of(class), ..rule }
}
