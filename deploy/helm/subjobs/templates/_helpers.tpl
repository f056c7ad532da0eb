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
