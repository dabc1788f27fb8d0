//! Tenants, on the admin listener of a node that runs.

mod admin;
mod document;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Map, Value, json};
use tidewire_auth::{KeyId, random_secret};
use tidewire_model::Tenant;

use self::admin::{Admin, Answer, segment};
use crate::cli::{
    AddKey, ApiKeyCommand, Apply, CreateApiKey, CreateTenant, KeyCommand, List, NewKey, Remove,
    RemoveKey, Reseal, Revoke, Revoked, RotateApiKey, Show, TenantCommand,
};
use crate::output::{self, SecretFile};

pub(crate) fn run(command: TenantCommand) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        match command {
            TenantCommand::List(asked) => list(&asked).await,
            TenantCommand::Show(asked) => show(&asked).await,
            TenantCommand::Create(asked) => create(&asked).await,
            TenantCommand::Apply(asked) => apply(&asked).await,
            TenantCommand::Remove(asked) => remove(&asked).await,
            TenantCommand::Key(KeyCommand::Add(asked)) => add_key(&asked).await,
            TenantCommand::Key(KeyCommand::Remove(asked)) => remove_key(&asked, "keys").await,
            TenantCommand::ApiKey(ApiKeyCommand::Create(asked)) => create_api_key(&asked).await,
            TenantCommand::ApiKey(ApiKeyCommand::Rotate(asked)) => rotate_api_key(&asked).await,
            TenantCommand::ApiKey(ApiKeyCommand::Remove(asked)) => {
                remove_key(&asked, "api-keys").await
            }
            TenantCommand::Revoke(asked) => revoke(&asked).await,
            TenantCommand::Reseal(asked) => reseal(&asked).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(asked: &List) -> anyhow::Result<()> {
    let admin = Admin::new(&asked.admin)?;
    let mut after = String::new();
    loop {
        let path = format!("tenants?after={}", segment(&after));
        let Answer { body, .. } = admin.ask(Method::GET, &path, None).await?;
        for tenant in body["tenants"].as_array().into_iter().flatten() {
            output::data(&if asked.json { format!("{tenant}\n") } else { line(tenant) })?;
        }
        match body["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return Ok(()),
        }
    }
}

fn line(tenant: &Value) -> String {
    let word = |name: &str| tenant[name].as_str().unwrap_or("-");
    let revision = tenant["revision"].as_u64().map_or("-".into(), |revision| revision.to_string());
    format!("{} {revision} {} {}\n", word("name"), word("source"), word("state"))
}

async fn show(asked: &Show) -> anyhow::Result<()> {
    let admin = Admin::new(&asked.admin)?;
    let path = format!("tenants/{}", asked.tenant);
    let Answer { body, revision, .. } = admin.ask(Method::GET, &path, None).await?;
    let text = if asked.json {
        serde_json::to_string_pretty(&body)? + "\n"
    } else {
        let revision =
            revision.map_or_else(String::new, |revision| format!("# revision {revision}\n"));
        revision + &document::to_toml(&body)?
    };
    Ok(output::data(&text)?)
}

async fn create(asked: &CreateTenant) -> anyhow::Result<()> {
    let file = SecretFile::begin(asked.output.output.as_deref())?;
    let (key, secret) = new_key(&asked.key_id, &asked.key)?;
    let document = json!({ "name": asked.tenant, "keys": [key] });
    let admin = Admin::new(&asked.admin)?;
    let path = format!("tenants/{}", asked.tenant);
    let answer = admin.put(&path, ("if-none-match", "*"), &document).await?;
    say(&asked.tenant, "added", &answer);
    file.write(secret)
}

async fn apply(asked: &Apply) -> anyhow::Result<()> {
    let text = if asked.file.as_os_str() == "-" {
        super::remote::standard_input()?
    } else {
        std::fs::read_to_string(&asked.file)
            .with_context(|| format!("{} cannot be read", asked.file.display()))?
    };
    let documents = document::read(&text).with_context(|| asked.file.display().to_string())?;
    if asked.revision.is_some() && documents.len() > 1 {
        bail!("--revision is of one tenant, and the file has {}", documents.len());
    }
    let tag = asked.revision.map(|revision| format!("\"{revision}\""));
    let admin = Admin::new(&asked.admin)?;
    for (tenant, document) in documents {
        let condition = tag.as_ref().map_or(("accept", "*/*"), |tag| ("if-match", tag));
        let answer = admin.put(&format!("tenants/{tenant}"), condition, &document).await?;
        say(&tenant, if answer.is_new { "added" } else { "changed" }, &answer);
    }
    Ok(())
}

async fn remove(asked: &Remove) -> anyhow::Result<()> {
    let admin = Admin::new(&asked.admin)?;
    admin.ask(Method::DELETE, &format!("tenants/{}", asked.tenant), None).await?;
    output::talk(&format!("{}: removed", asked.tenant));
    Ok(())
}

async fn add_key(asked: &AddKey) -> anyhow::Result<()> {
    let file = SecretFile::begin(asked.output.output.as_deref())?;
    let (key, secret) = new_key(&asked.id, &asked.key)?;
    let admin = Admin::new(&asked.admin)?;
    let path = format!("tenants/{}/keys", asked.tenant);
    let answer = admin.ask(Method::POST, &path, Some(&key)).await?;
    say(&asked.tenant, &format!("key {} added", asked.id), &answer);
    file.write(secret)
}

async fn remove_key(asked: &RemoveKey, list: &str) -> anyhow::Result<()> {
    let admin = Admin::new(&asked.admin)?;
    let path = format!("tenants/{}/{list}/{}", asked.tenant, segment(&asked.id));
    admin.ask(Method::DELETE, &path, None).await?;
    output::talk(&format!("{}: key {} removed", asked.tenant, asked.id));
    Ok(())
}

async fn create_api_key(asked: &CreateApiKey) -> anyhow::Result<()> {
    let file = SecretFile::begin(asked.output.output.as_deref())?;
    let mut key = json!({ "id": asked.id });
    if !asked.grants.is_empty() {
        let grants = asked.grants.iter();
        let channels: Map<_, _> =
            grants.map(|grant| (grant.filter.as_str().to_owned(), json!(grant.actions))).collect();
        key["channels"] = channels.into();
    }
    if !asked.scopes.is_empty() {
        key["scopes"] = asked.scopes.iter().map(|scope| scope.as_str()).collect();
    }
    if let Some(ttl) = asked.ttl {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        key["expires_at"] = (now + ttl.duration().as_secs()).into();
    }
    let admin = Admin::new(&asked.admin)?;
    let path = format!("tenants/{}/api-keys", asked.tenant);
    let answer = admin.ask(Method::POST, &path, Some(&key)).await?;
    say(&asked.tenant, &format!("api key {} made", asked.id), &answer);
    file.write(made(&answer))
}

async fn rotate_api_key(asked: &RotateApiKey) -> anyhow::Result<()> {
    let file = SecretFile::begin(asked.output.output.as_deref())?;
    let admin = Admin::new(&asked.admin)?;
    let path = format!("tenants/{}/api-keys/{}/rotate", asked.tenant, segment(&asked.id));
    let overlap = json!({ "overlap": asked.overlap });
    let answer = admin.ask(Method::POST, &path, Some(&overlap)).await?;
    let action =
        format!("api key {} rotated, the one before works for {}", asked.id, asked.overlap);
    say(&asked.tenant, &action, &answer);
    file.write(made(&answer))
}

async fn revoke(asked: &Revoke) -> anyhow::Result<()> {
    let Revoked { user, token, key, all } = &asked.what;
    let (name, value) = match (user, token, key) {
        (Some(user), ..) => ("user", json!(user)),
        (_, Some(token), _) => ("token", json!(token)),
        (.., Some(key)) => ("key", json!(key)),
        (None, None, None) => ("all", json!(all)),
    };
    let mut body = json!({ name: value });
    if let Some(before) = asked.before {
        body["before"] = before.into();
    }
    let admin = Admin::new(&asked.admin)?;
    let path = format!("tenants/{}/revocations", asked.tenant);
    let Answer { body, .. } = admin.ask(Method::POST, &path, Some(&body)).await?;
    let within = body["in_force_by_ms"].as_u64().unwrap_or(0).div_ceil(1_000);
    output::talk(&format!("{}: revoked, on every node within {within} s", asked.tenant));
    Ok(())
}

async fn reseal(asked: &Reseal) -> anyhow::Result<()> {
    let admin = Admin::new(&asked.admin)?;
    let mut resealed = 0;
    loop {
        let Answer { body, .. } = admin.ask(Method::POST, "registry/reseal", None).await?;
        let [some, left] = ["resealed", "left"].map(|name| body[name].as_u64().unwrap_or(0));
        resealed += some;
        if left == 0 {
            output::talk(&format!("{resealed} documents sealed anew"));
            return Ok(());
        }
        if some == 0 {
            bail!("{left} documents cannot be read by this node, and stay as they are");
        }
    }
}

/// A key as documents have it, and its secret if one is made for it.
fn new_key(id: &KeyId, key: &NewKey) -> anyhow::Result<(Value, Option<String>)> {
    if let (Some(path), Some(algorithm)) = (&key.public_key_file, key.algorithm) {
        let pem = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let algorithm = algorithm.as_str();
        return Ok((json!({ "id": id.as_str(), "algorithm": algorithm, "public_key": pem }), None));
    }
    let secret = random_secret();
    let key = json!({ "id": id.as_str(), "algorithm": "HS256", "secret": secret });
    Ok((key, Some(secret)))
}

fn made(answer: &Answer) -> Option<String> {
    answer.body["key"].as_str().map(str::to_owned)
}

fn say(tenant: &Tenant, what: &str, answer: &Answer) {
    let word = |name: &str| answer.body[name].as_u64().unwrap_or(0);
    let (revision, within) = (word("revision"), word("in_force_by_ms").div_ceil(1_000));
    output::talk(&format!(
        "{tenant}: {what}, revision {revision}, on every node within {within} s"
    ));
}
