{{/*
tidewire.toml. JSON's scalars and arrays of scalars are TOML's too, so `toJson` writes every value;
Helm's own `toToml` turns integers from a values file into floats.
*/}}

{{- define "tidewire.toml" -}}
{{- include "tidewire.checkConfig" . -}}
{{- $managed := dict
      "server" (dict "listen" "0.0.0.0:8000")
      "ops" (dict "listen" "0.0.0.0:8001")
      "session" (dict "resume_keys_file" "/etc/tidewire/secrets/resume-keys")
      "nats" (include "tidewire.nats" . | fromJson)
      "redis" (include "tidewire.redis" . | fromJson) -}}
{{- if .Values.registry.enabled -}}
{{- $_ := set $managed "registry" (dict "keys_file" "/etc/tidewire/secrets/registry-keys") -}}
{{- end -}}
{{- if .Values.tls.existingSecret -}}
{{- $_ := set $managed "tls" (dict "certificate_file" "/etc/tidewire/tls/tls.crt" "key_file" "/etc/tidewire/tls/tls.key") -}}
{{- end -}}
{{- range $section, $keys := mergeOverwrite (deepCopy .Values.config) $managed }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{ end }}
{{- range .Values.tenants }}
{{- include "tidewire.tenant" . }}
{{- end }}
{{- end -}}

{{- define "tidewire.tenant" -}}
{{- $tenant := .name }}
[[tenants]]
name = {{ toJson .name }}
{{ range .keys }}
[[tenants.keys]]
id = {{ toJson .id }}
algorithm = {{ toJson .algorithm }}
{{- if eq .algorithm "HS256" }}
secret_file = {{ printf "/etc/tidewire/secrets/tenant.%s.key.%s" $tenant .id | toJson }}
{{- else }}
public_key = {{ toJson .publicKey }}
{{- end }}
{{ end }}
{{- range .apiKeys }}
[[tenants.api_keys]]
id = {{ toJson .id }}
{{- if .sha256 }}
sha256 = {{ toJson .sha256 }}
{{- else }}
secret_file = {{ printf "/etc/tidewire/secrets/tenant.%s.api-key.%s" $tenant .id | toJson }}
{{- end }}
{{- with .channels }}
[tenants.api_keys.channels]
{{- range $filter, $actions := . }}
{{ toJson $filter }} = {{ toJson $actions }}
{{- end }}
{{- end }}
{{ end }}
{{- range .rules }}
[[tenants.rules]]
pattern = {{ toJson .pattern }}
{{- with .flushWindow }}
flush_window = {{ toJson . }}
{{- end }}
{{- with .delta }}
delta = {{ toJson . }}
{{- end }}
{{- with .presence }}
presence = {{ toJson . }}
{{- end }}
{{- with .presenceDebounce }}
presence_debounce = {{ toJson . }}
{{- end }}
{{- with .presenceListed }}
presence_listed = {{ int . }}
{{- end }}
{{ end }}
{{- end -}}

{{- define "tidewire.nats" -}}
{{- $external := .Values.nats.external -}}
{{- $nats := dict "servers" (list (printf "nats://%s-nats:4222" (include "tidewire.fullname" .))) -}}
{{- if not .Values.nats.bundled.enabled -}}
{{- $_ := set $nats "servers" (required "nats.external.servers is needed when nats.bundled.enabled is false" (empty $external.servers | ternary nil $external.servers)) -}}
{{- if eq $external.auth "password" -}}
{{- $_ := set $nats "user" (required "nats.external.user is needed when nats.external.auth is password" $external.user) -}}
{{- $_ := set $nats "password_file" "/etc/tidewire/secrets/nats-password" -}}
{{- else if eq $external.auth "token" -}}
{{- $_ := set $nats "token_file" "/etc/tidewire/secrets/nats-token" -}}
{{- else if eq $external.auth "credentials" -}}
{{- $_ := set $nats "credentials_file" "/etc/tidewire/secrets/nats-credentials" -}}
{{- end -}}
{{- end -}}
{{- toJson $nats -}}
{{- end -}}

{{- define "tidewire.redis" -}}
{{- $external := .Values.redis.external -}}
{{- $redis := dict "mode" "single" "addresses" (list (printf "redis://%s-redis:6379" (include "tidewire.fullname" .))) -}}
{{- if not .Values.redis.bundled.enabled -}}
{{- $_ := set $redis "mode" $external.mode -}}
{{- $_ := set $redis "addresses" (required "redis.external.addresses is needed when redis.bundled.enabled is false" (empty $external.addresses | ternary nil $external.addresses)) -}}
{{- if eq $external.mode "sentinel" -}}
{{- $_ := set $redis "master_name" (required "redis.external.masterName is needed when redis.external.mode is sentinel" $external.masterName) -}}
{{- end -}}
{{- if eq $external.auth "password" -}}
{{- $_ := set $redis "password_file" "/etc/tidewire/secrets/redis-password" -}}
{{- with $external.username }}{{ $_ := set $redis "username" . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $redis -}}
{{- end -}}

{{/* The keys of `config` that have values of their own. */}}
{{- define "tidewire.checkConfig" -}}
{{- $elsewhere := dict
      "server.listen" "service.port"
      "ops.listen" "nothing: the port of operations is 8001"
      "session.resume_keys" "secrets.resumeKeys"
      "session.resume_keys_file" "secrets.existingSecret"
      "registry.keys" "registry.enabled and secrets.registryKeys"
      "registry.keys_file" "registry.enabled and secrets.existingSecret"
      "nats.servers" "nats.external.servers"
      "nats.user" "nats.external.user"
      "nats.password" "nats.external.password"
      "nats.password_file" "secrets.existingSecret"
      "nats.token" "nats.external.token"
      "nats.token_file" "secrets.existingSecret"
      "nats.credentials_file" "nats.external.credentials"
      "redis.mode" "redis.external.mode"
      "redis.addresses" "redis.external.addresses"
      "redis.master_name" "redis.external.masterName"
      "redis.username" "redis.external.username"
      "redis.password" "redis.external.password"
      "redis.password_file" "secrets.existingSecret" -}}
{{- range $section, $keys := .Values.config -}}
{{- range $key, $_ := $keys -}}
{{- with get $elsewhere (printf "%s.%s" $section $key) -}}
{{- fail (printf "config.%s.%s is set by the chart: use %s" $section $key .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
