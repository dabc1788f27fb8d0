//! The rules, each with what stands in the source without it.

mod isolation;

/// A rule, and how it is taken out.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// File, text that stands in it once, text instead.
    pub(super) edits: &'static [(&'static str, &'static str, &'static str)],
    /// The test that is there for it, where the seeds notice seldom or never.
    pub(super) test: Option<Test>,
}

/// A test by its full name.
pub(super) struct Test {
    pub(super) package: &'static str,
    pub(super) target: &'static [&'static str],
    pub(super) name: &'static str,
}

const LUA: &str = "crates/tidewire-store-redis/src/functions.lua";
const CONNECTION: &str = "crates/tidewire-store-redis/src/connection.rs";
const FEED: &str = "crates/tidewire-node/src/feed.rs";
const APPEND: &str = "crates/tidewire-node/src/append.rs";
const CHECK: &str = "crates/tidewire-node/src/check.rs";
const CHANNEL: &str = "crates/tidewire-node/src/channel.rs";

const fn node(name: &'static str) -> Test {
    Test { package: "tidewire-node", target: &["--test", "it"], name }
}

const fn inside(name: &'static str) -> Test {
    Test { package: "tidewire-node", target: &["--lib"], name }
}

const fn redis(name: &'static str) -> Test {
    Test { package: "tidewire-store-redis", target: &["--test", "it"], name }
}

const fn simulated(name: &'static str) -> Test {
    Test { package: "tidewire-sim", target: &["--lib"], name }
}

/// All there are.
pub(super) fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(isolation::RULES)
}

const RULES: &[Rule] = &[
    Rule {
        name: "the fence",
        edits: &[(
            LUA,
            "  if string.sub(stored, 14) == me then",
            "  if stored ~= '000000000000' then",
        )],
        test: None,
    },
    Rule {
        name: "the random part of an incarnation",
        edits: &[
            (
                LUA,
                "incarnation = base36(start, 8) .. string.sub(nonce, 1, 4)",
                "incarnation = base36(start, 8) .. '0000'",
            ),
            (
                LUA,
                "channel.epoch = call.incarnation .. string.sub(call.nonce, 5, 8)",
                "channel.epoch = call.incarnation .. '0000'",
            ),
        ],
        test: Some(simulated(
            "redis::tests::two_primaries_that_begin_in_the_same_millisecond_share_no_epoch",
        )),
    },
    Rule {
        name: "raising a primary that is behind",
        edits: &[(
            CONNECTION,
            "let raise = retrying.was_behind && self.may_raise(fence).await;",
            "let raise = false;",
        )],
        test: Some(redis("failure::a_primary_that_is_behind_what_was_seen_is_raised_above_it")),
    },
    Rule {
        name: "not believing a deposed primary",
        edits: &[(
            "crates/tidewire-store-redis/src/fence.rs",
            "        incarnation == *seen\n",
            "        true\n",
        )],
        test: Some(Test {
            package: "tidewire-store-redis",
            target: &["--lib"],
            name: "fence::tests::an_older_incarnation_than_one_seen_is_not_believed",
        }),
    },
    Rule {
        name: "the lineage",
        edits: &[(
            LUA,
            "for index = math.max(1, #eras - MAX_ERAS + 1), #eras do",
            "for index = #eras, #eras do",
        )],
        test: None,
    },
    Rule {
        name: "knowing an id again",
        edits: &[(
            LUA,
            "if redis.call('HSETNX', buckets.current, field, next_position) == 1 then",
            "if true then",
        )],
        test: None,
    },
    Rule {
        name: "knowing an id again after the clock was set back",
        edits: &[(LUA, " or redis.call('HGET', buckets.next, field)", "")],
        test: Some(simulated(
            "redis::tests::an_id_is_known_again_when_the_clock_was_set_back_meanwhile",
        )),
    },
    Rule {
        name: "searching for what a lost reply was about",
        edits: &[(
            "crates/tidewire-store-redis/src/retry.rs",
            "            may_have_happened: self.may_have_happened,",
            "            may_have_happened: false,",
        )],
        test: Some(redis(
            "lost_reply::an_append_whose_reply_was_lost_is_found_again_and_not_stored_twice",
        )),
    },
    Rule {
        name: "appending again what was lost",
        edits: &[(
            APPEND,
            "if has_forked { self.begin_heal(channel) } else { self.append_next(channel) }",
            "self.append_next(channel)",
        )],
        test: None,
    },
    Rule {
        name: "appending only in the epoch one knows",
        edits: &[(
            APPEND,
            "let (log, epoch) = (Arc::clone(&self.around.log), self.tail.confirmed(&channel));",
            "let (log, epoch) = (Arc::clone(&self.around.log), None);",
        )],
        test: Some(node("heal::what_is_published_after_a_loss_comes_behind_what_was_lost")),
    },
    Rule {
        name: "the watch over the incarnation",
        edits: &[(CHECK, "        self.watch(now);", "        self.tail.expire(now);")],
        test: Some(node(
            "heal::what_was_lost_comes_back_within_two_seconds_though_nobody_publishes",
        )),
    },
    Rule {
        name: "one batch at a time",
        edits: &[(
            "crates/tidewire-node/src/lane.rs",
            "if !matches!(self.state, State::Idle) || self.waiting.is_empty() {",
            "if self.waiting.is_empty() {",
        )],
        test: Some(inside("lane::tests::one_batch_is_under_way_at_a_time_and_holds_what_gathered")),
    },
    Rule {
        name: "refusing what waits behind what failed",
        edits: &[(
            APPEND,
            "let waiting = self.lanes.get_mut(channel).map(Lane::clear).unwrap_or_default();",
            "let waiting = std::collections::VecDeque::<Pending>::new();",
        )],
        test: Some(simulated(
            "publisher::tests::what_waits_behind_what_is_refused_is_refused_with_it",
        )),
    },
    Rule {
        name: "judging by where the feed stands at the merge",
        edits: &[(FEED, "let has_moved = self.asked_at != Some(at);", "let has_moved = false;")],
        test: Some(inside(
            "feed::tests::a_read_that_was_overtaken_is_judged_by_where_the_feed_stands_now",
        )),
    },
    Rule {
        name: "believing nothing of an older life",
        edits: &[
            (FEED, "            if epoch.incarnation() < self.newest {", "            if false {"),
            (
                FEED,
                "        if read.incarnation < self.newest {\n            return self.read_failed(now);",
                "        if false {\n            return self.read_failed(now);",
            ),
        ],
        test: Some(inside("feed::tests::an_answer_from_an_older_life_of_the_log_is_not_believed")),
    },
    Rule {
        name: "an answer is for the visit that asked",
        edits: &[
            (
                CHANNEL,
                ".find(|joiner| (joiner.connection, joiner.join) == (connection, join))",
                ".find(|joiner| joiner.connection == connection)",
            ),
            (
                CHANNEL,
                "state.joiners.retain(|joiner| (joiner.connection, joiner.join) != key);",
                "",
            ),
        ],
        test: Some(node("asks::a_join_that_was_withdrawn_before_its_answer_is_not_answered")),
    },
    Rule {
        name: "the beacon",
        edits: &[(
            APPEND,
            "            self.announce_later(channel, newest);",
            "            drop(newest);",
        )],
        test: Some(node(
            "publications::a_publication_lost_between_nodes_is_found_soon_though_nothing_follows_it",
        )),
    },
    Rule {
        name: "reading again after subscribing",
        edits: &[(
            FEED,
            "self.rechecks = rechecks.filter(|at| *at > now).collect();",
            "drop(rechecks);",
        )],
        test: Some(inside(
            "feed::tests::a_new_subscription_is_read_again_because_the_network_may_not_have_heard_of_it",
        )),
    },
    Rule {
        name: "comparing positions",
        edits: &[(CHANNEL, "!self.audience.is_empty() && !self.feed.is_fleeting()", "false")],
        test: Some(node("publications::a_reconnect_of_the_network_is_a_reason_to_compare_at_once")),
    },
    Rule {
        name: "finding out that something is missing: beacon, reading again and comparing",
        edits: &[
            (
                APPEND,
                "            self.announce_later(channel, newest);",
                "            drop(newest);",
            ),
            (FEED, "self.rechecks = rechecks.filter(|at| *at > now).collect();", "drop(rechecks);"),
            (CHANNEL, "!self.audience.is_empty() && !self.feed.is_fleeting()", "false"),
        ],
        test: None,
    },
    Rule {
        name: "asking the log while the others are silent",
        edits: &[(CHECK, "if self.around.is_deaf.load(Ordering::Relaxed) {", "if false {")],
        test: Some(node(
            "publications::with_the_network_cut_publications_arrive_by_asking_the_log_each_second",
        )),
    },
    Rule {
        name: "saying where a duplicate is",
        edits: &[(
            APPEND,
            "                self.around.broker.announce(channel, appended.position);\n                continue;",
            "                continue;",
        )],
        test: Some(node(
            "publications::a_retry_completes_a_delivery_that_the_first_attempt_did_not",
        )),
    },
    Rule {
        name: "one claim of a generation",
        edits: &[(
            LUA,
            "elseif session.generation ~= generation + 1 or session.nonce ~= args[3] then",
            "elseif false then",
        )],
        test: Some(redis("conformance::a_claim_with_another_nonce_is_fenced")),
    },
    Rule {
        name: "no save under an older generation",
        edits: &[(
            LUA,
            "  if session and (session.generation > generation\n      or (session.generation == generation and session.owner ~= owner)) then",
            "  if false then",
        )],
        test: Some(redis(
            "conformance::a_save_under_an_old_generation_is_fenced_and_changes_nothing",
        )),
    },
    Rule {
        name: "not handing out again what a rewind brings",
        edits: &[(
            "crates/tidewire-client/src/seen.rs",
            "let is_new = !self.again.remove(&key);",
            "let is_new = true;",
        )],
        test: Some(Test {
            package: "tidewire-client",
            target: &["--test", "it"],
            name: "subscribing::what_a_rewind_brings_again_is_not_passed_on",
        }),
    },
];
