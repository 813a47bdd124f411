{{/* The name of the application in labels. */}}
{{- define "gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* The name of all objects. 52 characters leave room for suffixes and for the pods' own. */}}
{{- define "gateway.fullname" -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name (include "gateway.name" .)) (contains (include "gateway.name" .) .Release.Name) -}}
{{- default $release .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: gateway
app.kubernetes.io/part-of: quay
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{- define "gateway.serviceAccount" -}}
{{- default (ternary (include "gateway.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end }}

{{/* "true" on OpenShift. */}}
{{- define "gateway.openshift" -}}
{{- if eq .Values.platform "auto" -}}
{{- .Capabilities.APIVersions.Has "route.openshift.io/v1" -}}
{{- else -}}
{{- eq .Values.platform "openshift" -}}
{{- end -}}
{{- end }}

{{/* The host of `hostname`, without its port. */}}
{{- define "gateway.host" -}}
{{- regexReplaceAll ":[0-9]+$" .Values.hostname "" -}}
{{- end }}

{{/* A way of preferring near pods that this cluster knows, or nothing. */}}
{{- define "gateway.trafficDistribution" -}}
{{- $wanted := .Values.service.trafficDistribution -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- if eq $wanted "none" -}}
{{- else if ne $wanted "auto" -}}
{{ $wanted }}
{{- else if semverCompare ">=1.34.0-0" $version -}}
PreferSameZone
{{- else if semverCompare ">=1.31.0-0" $version -}}
PreferClose
{{- end -}}
{{- end }}

{{- define "gateway.gracePeriod" -}}
{{- add .Values.shutdown.lameDuckSeconds .Values.shutdown.drainSeconds 15 -}}
{{- end }}

{{- define "gateway.cacheVolumeSize" -}}
{{- printf "%dGi" (add .Values.cache.sizeGiB .Values.cache.reserveGiB 2) -}}
{{- end }}

{{/* The ports of the registry and of the proxy, as their URLs name them: a JSON list. */}}
{{- define "gateway.registryPorts" -}}
{{- $registry := default dict .Values.config.registry -}}
{{- $ports := list -}}
{{- $urls := list -}}
{{- with $registry.url }}{{ $urls = append $urls . }}{{ end -}}
{{- range $registry.instances }}{{ $urls = append $urls .url }}{{ end -}}
{{- with (default dict .Values.config.proxy).url }}{{ $urls = append $urls . }}{{ end -}}
{{- range $urls -}}
{{- $parsed := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $parsed.host | trimPrefix ":" -}}
{{- $ports = append $ports (int (default (ternary "80" "443" (eq $parsed.scheme "http")) $port)) -}}
{{- end -}}
{{- toJson $ports -}}
{{- end }}
