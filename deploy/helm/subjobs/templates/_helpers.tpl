{{- define "subjobs.name" -}}
{{- if contains "subjobs" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-subjobs" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* The alerts name the job `subjobs`, which the ServiceMonitor takes from app.kubernetes.io/name. */}}
{{- define "subjobs.selector" -}}
app.kubernetes.io/name: subjobs
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "subjobs.labels" -}}
{{ include "subjobs.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "subjobs.accessSecret" -}}
{{- if and .Values.access.content .Values.access.existingSecret }}{{ fail "access.content and access.existingSecret exclude each other" }}{{ end }}
{{- if not (or .Values.access.content .Values.access.existingSecret) }}{{ fail "set access.content, or access.existingSecret" }}{{ end }}
{{- .Values.access.existingSecret | default (printf "%s-access" (include "subjobs.name" .)) }}
{{- end }}

{{- /* The volumes, mounts and variables of both listeners' certificates: a list of the files of Secrets. */}}
{{- define "subjobs.tlsFiles" -}}
{{- range $listener, $prefix := dict "tls" "" "internalTls" "INTERNAL_" }}
{{- $tls := index $.Values $listener }}
{{- if and $tls.clientCaSecret (not $tls.secret) }}{{ fail (printf "%s.clientCaSecret needs %s.secret" $listener $listener) }}{{ end }}
{{- $name := $prefix | lower | replace "_" "-" }}
{{- if $tls.secret }}
- volume: {{ $name }}tls
  secret: {{ $tls.secret }}
  variables:
    SUBJOBS_{{ $prefix }}TLS_CERT: {{ $tls.certificateKey }}
    SUBJOBS_{{ $prefix }}TLS_KEY: {{ $tls.privateKeyKey }}
{{- end }}
{{- if $tls.clientCaSecret }}
- volume: {{ $name }}tls-client-ca
  secret: {{ $tls.clientCaSecret }}
  variables:
    SUBJOBS_{{ $prefix }}TLS_CLIENT_CA: {{ $tls.clientCaKey }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What asks the internal listener: kubelet, which has no certificate to send. */}}
{{- define "subjobs.probe" -}}
{{- if not .Values.internalTls.clientCaSecret -}}
httpGet:
  path: {{ .path }}
  port: internal
  {{- if .Values.internalTls.secret }}
  scheme: HTTPS
  {{- end }}
{{- else if eq .path "/readyz" -}}
exec:
  command: [/subjobs, healthcheck]
{{- else -}}
tcpSocket:
  port: internal
{{- end }}
{{- end }}
