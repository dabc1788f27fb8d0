//! How a tenant's channels are treated.

use std::collections::HashMap;
use std::time::Duration;

use tidewire_model::{ChannelRule, DeltaFormat, Filter, Retention};

use crate::config::document::{self, LatestName, PresetName};
use crate::config::draft::Draft;

/// The rules of one tenant, or nothing if one of them cannot hold, which has then been reported.
/// `history` is what is kept of a channel of which a rule names only one bound.
pub(super) fn check(
    rules: &[document::ChannelRule],
    path: &str,
    history: Retention,
    draft: &mut Draft,
) -> Option<Vec<ChannelRule>> {
    let mut valid = Vec::new();
    let mut first_with = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}.rules[{index}].pattern");
        let Some(filter) = draft.accept(&path, Filter::parse(&rule.pattern)) else { continue };
        if let Some(first) = first_with.insert(filter.clone(), index) {
            let message = format!("rules[{first}] has this pattern too, and only one could hold");
            draft.problem(&path, &message, None);
            continue;
        }
        valid.push(checked(rule, filter, history));
    }
    (valid.len() == rules.len()).then_some(valid)
}

/// What the rule says itself, else its preset, else what holds for any channel.
fn checked(rule: &document::ChannelRule, filter: Filter, history: Retention) -> ChannelRule {
    let basis = match rule.preset {
        Some(preset) => preset_rule(preset, filter),
        None => ChannelRule::new(filter),
    };
    let kept = basis.retention.unwrap_or(history);
    let size = rule.history_size.and_then(|size| usize::try_from(size).ok());
    let ttl = rule.history_ttl.map(document::Period::duration);
    let own = (size.is_some() || ttl.is_some())
        .then(|| Retention { size: size.unwrap_or(kept.size), ttl: ttl.unwrap_or(kept.ttl) });
    ChannelRule {
        retention: own.or(basis.retention),
        gives_latest: rule.latest.map_or(basis.gives_latest, |latest| latest == LatestName::On),
        flush_window: rule.flush_window.map_or(basis.flush_window, document::Period::duration),
        delta: rule.delta.map_or(basis.delta, Into::into),
        ..basis
    }
}

/// What a preset stands for; the reference of the configuration says the same in words.
fn preset_rule(preset: PresetName, filter: Filter) -> ChannelRule {
    const DAY: Duration = Duration::from_hours(24);
    let rule = ChannelRule::new(filter);
    match preset {
        PresetName::Chat => {
            ChannelRule { retention: Some(Retention { size: 1_000, ttl: DAY }), ..rule }
        }
        PresetName::Notify => {
            ChannelRule { retention: Some(Retention { size: 100, ttl: 7 * DAY }), ..rule }
        }
        // More than one is kept, so that a short break is no gap.
        PresetName::State => ChannelRule {
            retention: Some(Retention { size: 16, ttl: DAY }),
            gives_latest: true,
            delta: Some(DeltaFormat::Fossil),
            ..rule
        },
    }
}
