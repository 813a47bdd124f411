{{/* gateway.yaml: what the values say, and what the chart sets over it. */}}
{{- define "gateway.config" -}}
{{- $registry := dict -}}
{{- with .Values.quay.configSecret }}{{ $_ := set $registry "config" "../quay/config.yaml" }}{{ end -}}
{{- with .Values.account.username }}{{ $_ := set $registry "account" (dict "username" . "password_file" (printf "../account/%s" $.Values.account.key)) }}{{ end -}}
{{- $admin := dict "listen" (printf "%s:9090" .Values.listenAddress) -}}
{{- with .Values.admin.secretName }}{{ $_ := set $admin "token_file" (printf "../admin/%s" $.Values.admin.key) }}{{ end -}}
{{- if .Values.admin.tls }}{{ $_ := set $admin "tls" true }}{{ end -}}
{{- $set := dict
  "listen" (printf "%s:8443" .Values.listenAddress)
  "hostname" .Values.hostname
  "state_dir" "/var/lib/quay-gateway/state"
  "registry" $registry
  "admin" $admin
  "cache" (dict "dir" "/var/cache/quay-gateway/blobs" "size" (printf "%dGiB" (int .Values.cache.sizeGiB)) "reserve" (printf "%dGiB" (int .Values.cache.reserveGiB)))
  "timeouts" (dict "lame_duck" (printf "%ds" (int .Values.shutdown.lameDuckSeconds)) "drain" (printf "%ds" (int .Values.shutdown.drainSeconds)))
-}}
{{- if .Values.tls.secretName }}{{ $_ := set $set "tls" (dict "certificate" "../tls/tls.crt" "key" "../tls/tls.key") }}{{ end -}}
{{- if .Values.ca.configMapName }}{{ $_ := set $set "ca" (printf "../ca/%s" .Values.ca.key) }}{{ end -}}
{{- if eq .Values.journal.kind "postgresql" }}{{ $_ := set $set "journal" (dict "url_file" (printf "../journal/%s" .Values.journal.postgresql.key)) }}{{ end -}}
{{- if .Values.database.secretName }}{{ $_ := set $set "replication" (dict "database" (dict "url_file" (printf "../database/%s" .Values.database.key))) }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $set) -}}
{{- end }}

{{/* The keys of gateway.yaml whose changes need a restart, as JSON. The gateway applies all others by itself. */}}
{{- define "gateway.restart" -}}
{{- $config := include "gateway.config" . | fromYaml -}}
{{- $replication := pick (default dict $config.replication) "placements" "database" "quay_lock" "fetch_max" -}}
{{- toJson (dict
  "listen" $config.listen
  "state_dir" $config.state_dir
  "journal" $config.journal
  "kind" (dig "registry" "kind" "" $config)
  "cache" $config.cache
  "admin" (dig "admin" "listen" "" $config)
  "replication" $replication
  "open_files" (dig "limits" "open_files" "" $config)
) -}}
{{- end }}
