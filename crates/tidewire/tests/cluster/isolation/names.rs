//! What one tenant's things are called, and the same of nobody.

use tidewire_witness::Random;

/// Names that somebody else may guess or see, and credentials that were stolen. Each has something in
/// it that occurs nowhere else.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) tenant: String,
    pub(super) channel: String,
    pub(super) ephemeral: String,
    pub(super) present: String,
    pub(super) user: String,
    pub(super) publication: String,
    pub(super) epoch: String,
    pub(super) mark: String,
    pub(super) token: String,
    /// Of its channel, and of its user.
    pub(super) channel_token: String,
    pub(super) resume: String,
    pub(super) api_key: String,
}

impl Names {
    /// Of a tenant that may or may not be there.
    pub(super) fn draw(tenant: &str, random: &mut Random) -> Self {
        let mut canary = |name: &str| format!("{name}{:016x}", random.draw());
        Self {
            tenant: tenant.into(),
            channel: canary("plans-"),
            ephemeral: canary("ticker/"),
            present: canary("present/"),
            user: canary("user-"),
            publication: canary("id-"),
            epoch: canary(""),
            mark: "0:17".into(),
            token: canary("eyJhbGciOiJIUzI1NiJ9.e30."),
            channel_token: canary("eyJhbGciOiJIUzI1NiJ9.e30.c"),
            resume: canary("AQ"),
            api_key: canary("backend."),
        }
    }

    /// In the same order for everybody.
    fn all(&self) -> [&str; 11] {
        let Self { tenant, channel, ephemeral, present, user, publication, .. } = self;
        let Self { epoch, token, channel_token, resume, api_key, .. } = self;
        let names = [
            tenant,
            channel,
            ephemeral,
            present,
            user,
            publication,
            epoch,
            token,
            channel_token,
            resume,
            api_key,
        ];
        names.map(String::as_str)
    }

    /// Whether one of these is in a text, but for that of the tenant.
    pub(super) fn is_any_in(&self, text: &str) -> bool {
        self.all()[1..].iter().any(|name| text.contains(name))
    }

    /// A text about these as it would be about `others`, without numbers and names that are new each time.
    /// Its lines are sorted, as answers to different commands come in any order.
    pub(super) fn told_of(&self, others: &Self, text: &str) -> String {
        let mut text = text.to_owned();
        for (own, other) in self.all().into_iter().zip(others.all()) {
            text = text.replace(own, other);
        }
        let blank = |word| if is_of_its_own(word) { "…" } else { word };
        let is_between = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_';
        let lines = text.lines().map(|line| line.split_inclusive(is_between).map(blank).collect());
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines.join("\n")
    }
}

/// A random name, an epoch, which may have no digit in it, a time.
fn is_of_its_own(word: &str) -> bool {
    let has_digit = || word.bytes().any(|byte| byte.is_ascii_digit());
    word.len() >= 16 || word.len() >= 10 && has_digit()
}
