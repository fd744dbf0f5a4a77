{{/* The name of all things of a release. */}}
{{- define "navvy.fullname" -}}
{{- if .Values.app.name -}}
{{ .Values.app.name | trunc 40 | trimSuffix "-" }}
{{- else if contains "navvy" .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-navvy" .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "navvy.account" -}}
{{ .Values.app.account | default (include "navvy.fullname" .) }}
{{- end -}}

{{- define "navvy.image" -}}
{{ .Values.app.image.repository }}:{{ .Values.app.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "navvy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Values.app.image.tag | default .Chart.AppVersion | toString | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: navvy
{{ include "navvy.selector" . }}
{{- end -}}

{{- define "navvy.selector" -}}
app.kubernetes.io/name: navvy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "navvy.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "navvy.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where the server is, for workers and for KEDA. */}}
{{- define "navvy.host" -}}
{{ include "navvy.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* What the server's certificate says it is called, as a list of --host. */}}
{{- define "navvy.hosts" -}}
{{- $name := include "navvy.fullname" . -}}
{{- $ns := .Release.Namespace -}}
{{- $hosts := list $name (printf "%s.%s" $name $ns) (printf "%s.%s.svc" $name $ns) (printf "%s.%s.svc.cluster.local" $name $ns) -}}
{{ concat $hosts .Values.server.hosts | join "," }}
{{- end -}}

{{/* The broker's account: NAME of a variable, key of the Secret. */}}
{{- define "navvy.queueSecret" -}}
{{ .Values.app.queue.existingSecret | default (printf "%s-queue" (include "navvy.fullname" .)) }}
{{- end -}}

{{- define "navvy.storageSecret" -}}
{{ .Values.storage.existingSecret | default (printf "%s-storage" (include "navvy.fullname" .)) }}
{{- end -}}

{{/* What is in these Secrets; nothing if the chart does not make them. --set-file leaves the end of the line. */}}
{{- define "navvy.queueAccount" -}}
{{- if and .Values.mstc.enabled (not .Values.mstc.urlSecret) (not .Values.app.queue.existingSecret) -}}
user: {{ .Values.app.queue.user | default (ternary .Values.rabbitmq.auth.user "" .Values.rabbitmq.enabled) | trim | quote }}
pass: {{ .Values.app.queue.pass | default (ternary .Values.rabbitmq.auth.pass "" .Values.rabbitmq.enabled) | trim | quote }}
{{- end -}}
{{- end -}}

{{- define "navvy.storageAccount" -}}
{{- if and (or .Values.storage.host .Values.storage.user .Values.minio.enabled) (not .Values.storage.existingSecret) -}}
user: {{ .Values.storage.user | default (ternary .Values.minio.auth.user "" .Values.minio.enabled) | trim | quote }}
pass: {{ .Values.storage.pass | default (ternary .Values.minio.auth.pass "" .Values.minio.enabled) | trim | quote }}
{{- end -}}
{{- end -}}

{{/* Annotations of pods that read these as they start, which are made anew when they are others.
     Whoever may read pods, and no Secrets, has to try passwords slowly: it is scrypt of them. */}}
{{- define "navvy.queueSum" -}}
{{- with include "navvy.queueAccount" . -}}
navvy.run/queue: {{ derivePassword 1 "maximum" . "navvy" "queue" | sha256sum }}
{{- end -}}
{{- end -}}

{{- define "navvy.storageSum" -}}
{{- with include "navvy.storageAccount" . -}}
navvy.run/storage: {{ derivePassword 1 "maximum" . "navvy" "storage" | sha256sum }}
{{- end -}}
{{- end -}}

{{/* Where the S3 service is and who we are there, as variables; nothing if none is named. */}}
{{- define "navvy.storageEnv" -}}
{{- $host := .Values.storage.host -}}
{{- if and .Values.minio.enabled (not $host) }}{{ $host = printf "%s-minio.%s.svc" .Release.Name .Release.Namespace }}{{ end -}}
{{- with .Values.storage.url }}
- {name: NAVVY_BUCKETS, value: {{ . | quote }}}
{{- end }}
{{- with .Values.storage.podSecret }}
- {name: NAVVY_BUCKET_SECRET, value: {{ . | quote }}}
{{- end }}
{{- if $host }}
- {name: MINIO_SERVICE_HOST, value: {{ $host | quote }}}
- {name: MINIO_SERVICE_PORT, value: {{ .Values.storage.port | quote }}}
{{- end }}
{{- if or $host .Values.storage.user .Values.storage.existingSecret }}
- name: MINIO_ROOT_USER
  valueFrom: {secretKeyRef: {name: {{ include "navvy.storageSecret" . }}, key: user}}
- name: MINIO_ROOT_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "navvy.storageSecret" . }}, key: pass}}
{{- end }}
{{- end -}}

{{/* The port of REST of the gateway mstc, and yes if others than the server's pod reach it. */}}
{{- define "navvy.restPort" -}}
{{ .Values.app.ports.rest | default 8080 | int }}
{{- end -}}

{{- define "navvy.restOpen" -}}
{{- $open := .Values.mstc.rest.open -}}
{{- if kindIs "invalid" $open }}{{ $open = not (kindIs "invalid" .Values.app.ports.rest) }}{{ end -}}
{{- if and .Values.mstc.enabled $open }}yes{{ end -}}
{{- end -}}

{{/* The broker of the gateway mstc, as variables. */}}
{{- define "navvy.queueEnv" -}}
{{- $host := .Values.app.queue.host -}}
{{- if and .Values.rabbitmq.enabled (not $host) }}{{ $host = printf "%s-rabbitmq.%s.svc" .Release.Name .Release.Namespace }}{{ end -}}
- {name: WORK_QUEUE_HOST, value: {{ required "mstc.enabled needs app.queue.host, mstc.urlSecret or rabbitmq.enabled" $host | quote }}}
- {name: WORK_QUEUE_PORT, value: {{ .Values.app.queue.port | quote }}}
- name: WORK_QUEUE_USER
  valueFrom: {secretKeyRef: {name: {{ include "navvy.queueSecret" . }}, key: user}}
- name: WORK_QUEUE_PASS
  valueFrom: {secretKeyRef: {name: {{ include "navvy.queueSecret" . }}, key: pass}}
{{- end -}}
