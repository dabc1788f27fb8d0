{{/*
The entries of the chart's Secret, as JSON of plain text. What values give is used; what they leave
out is generated at the first install and found again by `lookup` on every upgrade.
*/}}
{{- define "tidewire.secretEntries" -}}
{{- $found := dict -}}
{{- with lookup "v1" "Secret" .Release.Namespace (include "tidewire.fullname" .) -}}
{{- $found = default dict .data -}}
{{- end -}}
{{- $entries := dict -}}
{{- range $name, $given := include "tidewire.givenSecrets" . | fromJson -}}
{{- if $given -}}
{{- $_ := set $entries $name $given -}}
{{- else if hasKey $found $name -}}
{{- $_ := set $entries $name (get $found $name | b64dec) -}}
{{- else -}}
{{- $_ := set $entries $name (randAlphaNum 48) -}}
{{- end -}}
{{- end -}}
{{- toJson $entries -}}
{{- end -}}

{{/* Every entry that is needed, with what values say of it: empty to generate. */}}
{{- define "tidewire.givenSecrets" -}}
{{- $given := dict "resume-keys" (join "\n" .Values.secrets.resumeKeys) -}}
{{- if .Values.registry.enabled -}}
{{- $_ := set $given "registry-keys" (join "\n" .Values.secrets.registryKeys) -}}
{{- end -}}
{{- range $tenant := .Values.tenants -}}
{{- range .keys -}}
{{- if eq .algorithm "HS256" -}}
{{- $_ := set $given (printf "tenant.%s.key.%s" $tenant.name .id) (default "" .secret) -}}
{{- end -}}
{{- end -}}
{{- range .apiKeys -}}
{{- if not .sha256 -}}
{{- $_ := set $given (printf "tenant.%s.api-key.%s" $tenant.name .id) (default "" .secret) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (merge $given (include "tidewire.loginSecrets" . | fromJson)) -}}
{{- end -}}

{{/* Logins of external servers. These cannot be generated. */}}
{{- define "tidewire.loginSecrets" -}}
{{- $logins := dict -}}
{{- if and (not .Values.nats.bundled.enabled) (ne .Values.nats.external.auth "none") -}}
{{- $auth := .Values.nats.external.auth -}}
{{- $_ := set $logins (printf "nats-%s" $auth) (get .Values.nats.external $auth) -}}
{{- end -}}
{{- if and (not .Values.redis.bundled.enabled) (eq .Values.redis.external.auth "password") -}}
{{- $_ := set $logins "redis-password" .Values.redis.external.password -}}
{{- end -}}
{{- if not .Values.secrets.existingSecret -}}
{{- range $name, $secret := $logins -}}
{{- if not $secret -}}
{{- fail (printf "the secret %s is needed to log in: give it in values, or in a Secret named by secrets.existingSecret" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $logins -}}
{{- end -}}

{{/* With a Secret of the operator's, a secret in values would be silently ignored: refuse it. */}}
{{- define "tidewire.checkSecrets" -}}
{{- if .Values.secrets.existingSecret -}}
{{- range $name, $given := include "tidewire.givenSecrets" . | fromJson -}}
{{- if $given -}}
{{- fail (printf "%s is given in values although secrets.existingSecret is set: put it into that Secret" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
