{{/* Names */}}

{{- define "tidewire.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that the longest suffix, "-test-health", still fits into 63 characters. */}}
{{- define "tidewire.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains (include "tidewire.name" .) .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidewire.name" .) | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidewire.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidewire.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tidewire.secretName" -}}
{{- default (include "tidewire.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "tidewire.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Labels: what selects, and what describes. `component` is node, nats or redis. */}}

{{- define "tidewire.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidewire.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tidewire.labels" -}}
{{ include "tidewire.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Security: what the "restricted" standard asks for, and a root that cannot be written. */}}

{{- define "tidewire.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .gid }}
fsGroup: {{ .gid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tidewire.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Drain: a duration as the configuration writes it, such as "90s", in whole seconds, rounded up. */}}

{{- define "tidewire.seconds" -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h|d)$" .) -}}
{{- fail (printf "config.drain.deadline: %q is not a duration such as 90s or 2m" .) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+" . -}}
{{- $millis := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) (trimPrefix $number .) -}}
{{- div (add (mul (atoi $number) $millis) 999) 1000 -}}
{{- end -}}

{{- define "tidewire.gracePeriodSeconds" -}}
{{- $deadline := int (include "tidewire.seconds" (.Values.config.drain).deadline) -}}
{{- $needed := add $deadline .Values.drain.marginSeconds -}}
{{- $given := .Values.drain.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{- $needed -}}
{{- else if lt (int $given) (int $needed) -}}
{{- fail (printf "drain.terminationGracePeriodSeconds is %d, but a drain may take %d seconds (config.drain.deadline %d + margin %d): Kubernetes would kill nodes with clients on them" (int $given) (int $needed) $deadline (int .Values.drain.marginSeconds)) -}}
{{- else -}}
{{- $given -}}
{{- end -}}
{{- end -}}
