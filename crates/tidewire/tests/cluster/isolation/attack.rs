//! What somebody of one tenant tries with the names of another's things.

use http::Method;
use tidewire_client::Codec;
use tidewire_witness::Random;

use super::names::Names;
use crate::command::{Command, Member};

/// Whose credential the attacker has.
pub(super) const OWN: &str = "globex";

/// One thing to try, once with the names of what is there and once with those of what is nobody's.
#[derive(Clone, Debug)]
pub(super) enum Attack {
    /// Commands of a client of one's own tenant.
    Say {
        codec: Codec,
        user: Option<String>,
        is_allowed: bool,
        is_cut: bool,
        says: Vec<Command>,
    },
    /// A first frame with what one has and what one should not have.
    Connect {
        codec: Codec,
        path: String,
        members: Vec<(&'static str, Member)>,
        has_own: bool,
    },
    Ask {
        listener: Listener,
        method: Method,
        path: String,
        bearer: Bearer,
        body: String,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listener {
    Clients,
    Admin,
    Ops,
}

#[derive(Clone, Debug)]
pub(super) enum Bearer {
    Nobody,
    OwnKey,
    OwnToken,
    /// In a place where it is good for nothing.
    Stolen(String),
}

impl Attack {
    /// The same for the same numbers, but for the names.
    pub(super) fn draw(random: &mut Random, names: &Names) -> Self {
        let codec = [Codec::Json, Codec::Protobuf][random.below(2)];
        match random.below(8) {
            0..4 => {
                let user = (random.below(3) == 0).then(|| names.user.clone());
                let (is_allowed, is_cut) = (random.below(4) > 0, random.below(12) == 0);
                let kinds = Command::names();
                let kinds: Vec<_> = kinds.iter().filter(|kind| *kind != "connect").collect();
                // Of one kind: which of several kinds comes first would be seen in what follows.
                let kind = kinds[random.below(kinds.len())];
                let count = 1 + random.below(3);
                let says = (0..count).flat_map(|_| commands(kind, random, names)).collect();
                Self::Say { codec, user, is_allowed, is_cut, says }
            }
            4 => connect(codec, random, names),
            _ => ask(random, names),
        }
    }

    /// Whether what is there is to be answered like what is not: not where the answer is about more than
    /// that.
    pub(super) fn is_to_be_answered_alike(&self) -> bool {
        match self {
            // A good token of somebody else's is told from a forged one to whoever has it.
            Self::Say { says, .. } => {
                says.iter().all(|said| said.name != "refresh" || said.has("channel"))
            }
            Self::Connect { .. } => true,
            Self::Ask { listener, .. } => *listener != Listener::Ops,
        }
    }
}

/// A command of this kind, or two that belong together.
fn commands(kind: &str, random: &mut Random, names: &Names) -> Vec<Command> {
    let channel = ("channel", Member::Text(name(random, names)));
    let one = |members| vec![Command::new(kind, members)];
    match kind {
        "publish" => {
            let id = [&names.publication, &names.user, &names.channel][random.below(3)].clone();
            let data = ("data", Member::Data("\"own\"".into()));
            one(vec![channel, ("id", Member::Text(id)), data])
        }
        "subscribe" => one(match random.below(4) {
            0 => vec![channel],
            3 => vec![channel, ("token", Member::Text(names.channel_token.clone()))],
            1 => vec![channel, ("since", position(random, names))],
            _ => vec![channel, ("last", Member::Number(100))],
        }),
        "history" => one(match random.below(2) {
            0 => vec![channel, ("limit", Member::Number(100))],
            _ => vec![channel, ("from", position(random, names))],
        }),
        "members" => one(match random.below(2) {
            0 => vec![channel, ("limit", Member::Number(100))],
            _ => vec![channel, ("from", Member::Text(names.mark.clone()))],
        }),
        // Who goes on being a member would be counted in another case.
        "enter" => {
            let data = ("data", Member::Data("\"own\"".into()));
            let leave = Command::new("leave", vec![channel.clone()]);
            vec![Command::new("enter", vec![channel, data]), leave]
        }
        // Also of a channel that it is subscribed to itself.
        "refresh" if random.below(2) == 0 => {
            let token = ("token", Member::Text(names.channel_token.clone()));
            let subscribe = Command::new("subscribe", vec![channel.clone()]);
            vec![subscribe, Command::new("refresh", vec![token, channel])]
        }
        "refresh" => one(vec![("token", Member::Text(names.token.clone()))]),
        "ping" => one(vec![("tenant", Member::Text(names.tenant.clone()))]),
        "unsubscribe" | "watch" | "unwatch" | "leave" => {
            one(vec![channel, ("tenant", Member::Text(names.tenant.clone()))])
        }
        new => unreachable!("{new} has no case yet: say what another's names would be in it"),
    }
}

fn position(random: &mut Random, names: &Names) -> Member {
    let offset = Member::Number(random.below(3) as u64);
    Member::Message(vec![("epoch", Member::Text(names.epoch.clone())), ("offset", offset)])
}

/// A name of something, or what somebody who knows how names are made up would try.
pub(super) fn name(random: &mut Random, names: &Names) -> String {
    let channel = [&names.channel, &names.ephemeral, &names.present][random.below(3)];
    let tenant = &names.tenant;
    match random.below(28) {
        0 => format!("{tenant}:{channel}"),
        1 => format!("{tenant}/{channel}"),
        2 => format!("../{tenant}/{channel}"),
        3 => format!("{tenant}%2F{channel}"),
        4 => format!("{tenant}%00{channel}"),
        5 => format!("{tenant}\0{channel}"),
        6 => format!("{tenant}.{channel}"),
        7 => format!("{channel}/>"),
        8 => format!("{channel}/**"),
        9 => "**".into(),
        10 => format!("{tenant}/*"),
        11 => format!("{{{tenant}}}{channel}"),
        12 => format!("$presence/{channel}"),
        13 => format!("$presence/{tenant}:{channel}"),
        14 => format!("$count/{channel}"),
        // A Cyrillic letter, and a space that joins nothing.
        15 => channel.replacen(['p', 't'], "\u{440}", 1),
        16 => format!("{channel}\u{200b}"),
        17 => format!("{channel:x<255}"),
        18 => format!("{channel:x<256}"),
        19 => format!("m:{tenant}:{channel}"),
        20 => format!("tw:m:{tenant}:{channel}\r\nKEYS *"),
        21 => channel.to_uppercase(),
        _ => channel.clone(),
    }
}

/// Where a stolen credential is used, its tenant is not in the path and not implied: it would be theft
/// and no confusion.
fn connect(codec: Codec, random: &mut Random, names: &Names) -> Attack {
    let text = |text: &str| Member::Text(text.into());
    let nonce = ("nonce", text(&format!("{:032x}", random.draw())));
    let positions = ("positions", Member::Reached(names.channel.clone(), names.epoch.clone(), 1));
    let resume =
        ("resume", Member::Message(vec![("token", text(&names.resume)), nonce, positions]));
    let stolen = [&names.token, &names.channel_token][random.below(2)];
    let stolen = ("token", text(stolen));
    let (path, members, has_own) = match random.below(5) {
        0 => (names.tenant.clone(), Vec::new(), true),
        1 => (OWN.into(), vec![stolen], false),
        2 => (OWN.into(), vec![resume], false),
        3 => (OWN.into(), vec![resume], true),
        _ => (format!("{OWN}%2F{}", names.tenant), vec![stolen, resume], false),
    };
    Attack::Connect { codec, path, members, has_own }
}

fn ask(random: &mut Random, names: &Names) -> Attack {
    let routes = routes();
    let (listener, route) = routes[random.below(routes.len())];
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    let method = methods[random.below(4)].clone();
    let (tenant, bearer) = match random.below(5) {
        0 => (names.tenant.clone(), Bearer::OwnKey),
        1 => (names.tenant.clone(), Bearer::OwnToken),
        2 => (names.tenant.clone(), Bearer::Nobody),
        3 => (OWN.into(), Bearer::Stolen(names.api_key.clone())),
        _ => (OWN.into(), Bearer::OwnKey),
    };
    let channel = name(random, names);
    let id = names.publication.clone();
    let body = match random.below(3) {
        0 => serde_json::json!({ "id": id, "data": "own" }),
        1 => serde_json::json!({ "publications": [{ "channel": channel, "id": id, "data": 1 }] }),
        _ => serde_json::json!({ "user": names.user }),
    };
    let path =
        route.replace("{tenant}", &escaped(&tenant)).replace("{channel}", &escaped(&channel));
    let path = path.replace("{id}", &escaped(&names.user));
    let query = match random.below(4) {
        0 => "?limit=100".into(),
        1 => format!("?from={}", names.mark),
        2 => format!("?tenant={}", names.tenant),
        _ => String::new(),
    };
    let (path, body) = (format!("{path}{query}"), body.to_string());
    Attack::Ask { listener, method, path, bearer, body }
}

/// Every route that a node has, from where they are written down.
fn routes() -> Vec<(Listener, &'static str)> {
    let sources = [
        (Listener::Clients, include_str!("../../../../tidewire-edge/src/router.rs")),
        (Listener::Admin, include_str!("../../../../tidewire-edge/src/admin/mod.rs")),
        (Listener::Admin, include_str!("../../../../tidewire-edge/src/admin/keys.rs")),
        (Listener::Ops, include_str!("../../../../tidewire-edge/src/ops.rs")),
        (Listener::Ops, include_str!("../../../../tidewire-edge/src/drain/ask.rs")),
    ];
    let of = |(listener, text): (Listener, &'static str)| {
        let routes = text.split(".route(\"").skip(1);
        routes.map(move |rest| (listener, rest.split('"').next().expect("it ends")))
    };
    sources.into_iter().flat_map(of).collect()
}

fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        // What is escaped already stays so.
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'%' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
