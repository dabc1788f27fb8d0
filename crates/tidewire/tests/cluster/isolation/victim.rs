//! The tenant whose names are known to another one, and what only it may hear.

use std::collections::BTreeMap;

use http::Method;
use tidewire_client::Codec;
use tidewire_transport::http::request;
use tidewire_witness::Random;

use super::names::Names;
use crate::cluster::{API_KEY, NodeProcess, channel_token, token};
use crate::command::{Command, Member};
use crate::socket::{Socket, contains};

pub(super) const TENANT: &str = "acme";

/// A client that is subscribed, a member and a watcher, and has published.
pub(super) struct Victim {
    pub(super) names: Names,
    /// What nobody else may ever be told, by what it is.
    secrets: BTreeMap<&'static str, String>,
    client: Socket,
    url: String,
}

impl Victim {
    pub(super) async fn settle(node: &NodeProcess, random: &mut Random) -> Self {
        let mut names = Names::draw(TENANT, random);
        names.token = token(TENANT, &names.user);
        names.channel_token = channel_token(TENANT, &names.user, &names.channel);
        names.api_key = format!("{API_KEY}-{TENANT}");
        let mut secret = || format!("secret-{:016x}", random.draw());
        let (said, word, hidden) = (secret(), secret(), secret());
        let mut client = Socket::open(&socket_url(node, TENANT), Codec::Json, &names.token).await;
        let connected = client.connected.as_ref().expect("it is let in");
        names.resume = connected.resume_token.as_ref().expect("kept").as_str().into();
        let session = connected.session.to_string();
        let at = |channel: &str| ("channel", Member::Text(channel.into()));
        let text = |text: &str| Member::Text(text.into());
        let data = |data: &str| ("data", Member::Data(format!("\"{data}\"")));
        let channels = [&names.channel, &names.ephemeral, &hidden];
        let mut listen: Vec<_> =
            channels.iter().map(|channel| Command::new("subscribe", vec![at(channel)])).collect();
        listen.push(Command::new("watch", vec![at(&names.present)]));
        let publish = |channel: &&String| {
            let id = ("id", text(&names.publication));
            Command::new("publish", vec![at(channel), id, data(&said)])
        };
        let mut speak: Vec<_> = channels.iter().map(publish).collect();
        speak.push(Command::new("enter", vec![at(&names.present), data(&word)]));
        client.exchange(&listen).await;
        client.exchange(&speak).await;
        let told = client.told.join("\n");
        assert!(!told.contains("Failed"), "{told}");
        let url = format!("{}/v1/{TENANT}", node.http());
        let secrets = [
            ("payload", said.clone()),
            ("what a member says", word),
            ("a name that was never said", hidden),
            ("session", session),
            ("token", names.token.clone()),
            ("token of a channel", names.channel_token.clone()),
            ("resume token", names.resume.clone()),
            ("API key", names.api_key.clone()),
        ];
        let mut victim = Self { names, secrets: secrets.into(), client, url };
        victim.publish(&victim.names.publication, &said).await;
        // What it published by itself and by its server, and that it has joined.
        victim.client.until_heard(&said, 5).await;
        victim.client.until_heard("\"joined\"", 1).await;
        victim.note_positions();
        victim
    }

    /// As its server, under an id.
    pub(super) async fn publish(&self, id: &str, data: &str) {
        for channel in [&self.names.channel, &self.names.ephemeral] {
            let channel = channel.replace('/', "%2F");
            let url = format!("{}/channels/{channel}/publications", self.url);
            let key = format!("Bearer {}", self.names.api_key);
            let body = serde_json::json!({ "id": id, "data": data });
            let headers = [("authorization", key.as_str())];
            let answer = request(Method::POST, &url, &headers, body.to_string()).await;
            assert_eq!(answer.expect("an answer").status, 200);
        }
    }

    /// Where its channel stands is known to others too.
    fn note_positions(&mut self) {
        let text = String::from_utf8_lossy(&self.client.bytes).into_owned();
        let (_, rest) =
            text.split_once(&format!("{}\",\"epoch\":\"", self.names.channel)).expect("told");
        self.names.epoch = rest[..16].into();
        self.names.mark = format!("{}:17", &rest[..12]);
    }

    /// The secrets that are among these bytes.
    pub(super) fn leaked(&self, bytes: &[u8]) -> Vec<&'static str> {
        let leaked = self.secrets.iter().filter(|(_, secret)| contains(bytes, secret));
        leaked.map(|(name, _)| *name).collect()
    }

    /// What it publishes and enters from here on is a secret too.
    pub(super) fn keep(&mut self, name: &'static str, secret: &str) {
        self.secrets.insert(name, secret.into());
    }

    pub(super) async fn until_heard(&mut self, text: &str, times: usize) {
        self.client.until_heard(text, times).await;
    }

    pub(super) fn has_heard(&self, text: &str) -> bool {
        contains(&self.client.bytes, text)
    }

    /// Everything is as it left it, and nobody has told it anything meanwhile.
    pub(super) async fn has_been_left_alone(&mut self) {
        let at = |channel: &str| vec![("channel", Member::Text(channel.into()))];
        let pages = [
            Command::new("history", at(&self.names.channel)),
            Command::new("members", at(&self.names.present)),
        ];
        self.client.forget();
        self.client.exchange(&pages).await;

        let told = String::from_utf8_lossy(&self.client.bytes);
        assert_eq!(self.client.told.len(), 4, "two pages and answers to two pings: {told}");
        assert!(told.contains("\"count\":1,"), "{told}");
        assert!(
            told.contains(&format!("\"top\":{{\"epoch\":\"{}\",\"offset\":2}}", self.names.epoch)),
            "{told}"
        );
    }
}

pub(super) fn socket_url(node: &NodeProcess, tenant: &str) -> String {
    format!("{}/v1/{tenant}/ws", node.url())
}
