use tidewire_auth::random_secret;

/// A small file with fresh secrets that works as it stands, with NATS and Redis on this machine.
pub fn initial_file() -> String {
    let [resume_key, registry_key, signing_secret, api_secret] =
        std::array::from_fn(|_| random_secret());
    format!(
        r#"# Tidewire. Every other key, with its default: `tidewire config print --defaults`.
# Check this file with `tidewire config check --config FILE`.

[server]
listen = "127.0.0.1:8000"     # clients; "[::]:8000" for every interface

[ops]
listen = "127.0.0.1:8001"     # metrics and health; keep it away from clients

[nats]
servers = ["nats://127.0.0.1:4222"]

[redis]
addresses = ["redis://127.0.0.1:6379"]

[session]
# The same on every node. To change it, put the new one first and keep the old one for a while.
resume_keys = ["{resume_key}"]

[registry]
# Tenants beside those of this file, added and changed while nodes run: `tidewire tenant --help`. The
# same on every node, as above.
keys = ["{registry_key}"]

[admin]
listen = "127.0.0.1:8002"     # whoever can connect here owns the cluster

[[tenants]]
name = "demo"

# Your application signs its users' tokens with this secret. Try it:
#   tidewire token create --config FILE --tenant demo --user ada --channel '**=subscribe,publish'
[[tenants.keys]]
id = "main"
algorithm = "HS256"
secret = "{signing_secret}"

# Your servers publish with it: `Authorization: Bearer server.<secret>`
[[tenants.api_keys]]
id = "server"
secret = "{api_secret}"
channels = {{ "**" = ["publish", "history"] }}
"#
    )
}
