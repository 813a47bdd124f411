{{/* Refuses what the schema cannot see, each with what to do. */}}
{{- define "gateway.checks" -}}
{{- $managed := dict
  "listen" "set listenAddress"
  "hostname" "set hostname"
  "tls.certificate" "set tls.secretName"
  "tls.key" "set tls.secretName"
  "state_dir" "the chart sets it"
  "journal" "set journal.kind and journal.postgresql.secretName: a URL holds a password, and this is a ConfigMap"
  "zones" "set zones.secretName: zones hold keys, and this is a ConfigMap"
  "ca" "set ca.configMapName"
  "cache" "set cache"
  "registry.config" "set quay.configSecret"
  "registry.account" "set account"
  "admin.listen" "the chart sets it"
  "admin.token_file" "set admin.secretName"
  "admin.tls" "set admin.tls: the probes depend on it"
  "replication.database" "set database.secretName: a URL holds a password, and this is a ConfigMap"
  "timeouts.lame_duck" "set shutdown.lameDuckSeconds: the pod's grace period depends on it"
  "timeouts.drain" "set shutdown.drainSeconds: the pod's grace period depends on it"
-}}
{{- range $path, $advice := $managed -}}
{{- $parts := splitList "." $path -}}
{{- $found := hasKey $.Values.config (first $parts) -}}
{{- if and $found (gt (len $parts) 1) -}}
{{- $group := get $.Values.config (first $parts) -}}
{{- $found = hasKey (ternary $group dict (kindIs "map" $group)) (last $parts) -}}
{{- end -}}
{{- if $found -}}
{{- fail (printf "config.%s is not set here: %s" $path $advice) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is required: where your build of deploy/Containerfile is" -}}
{{- end -}}
{{- if not .Values.hostname -}}
{{- fail "hostname is required: what clients dial, host[:port]" -}}
{{- end -}}
{{- $registry := default dict .Values.config.registry -}}
{{- if not (or $registry.url $registry.instances) -}}
{{- fail "config.registry.url is required (or config.registry.instances): where the gateway dials Quay, such as https://quay-quay-app.quay.svc:443" -}}
{{- end -}}
{{- if eq (default "quay" $registry.kind) "quay" -}}
{{- if not .Values.quay.configSecret -}}
{{- fail "quay.configSecret is required: the Secret with Quay's config.yaml (the operator's config bundle), or config.registry.kind: distribution" -}}
{{- end -}}
{{- else if .Values.quay.configSecret -}}
{{- fail "quay.configSecret is for Quay: remove it, or config.registry.kind" -}}
{{- else if not .Values.zones.secretName -}}
{{- fail "zones.secretName is required for config.registry.kind: distribution: the Secret with its zones" -}}
{{- end -}}
{{- if eq .Values.journal.kind "postgresql" -}}
{{- if not .Values.journal.postgresql.secretName -}}
{{- fail "journal.postgresql.secretName is required: the Secret with the URL postgres://user:password@host/database" -}}
{{- end -}}
{{- if not .Values.tls.secretName -}}
{{- fail "tls.secretName is required with journal.kind: postgresql: a CA that the gateway makes would be another one in each pod" -}}
{{- end -}}
{{- else -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "autoscaling needs journal.kind: postgresql: copies that wait in the SQLite journal of a removed pod would not be made" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.tls.secretName) -}}
{{- fail "tls.secretName is required for more than one pod: a CA that the gateway makes would be another one in each pod" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- if and .Values.account.username (not .Values.account.secretName) -}}
{{- fail "account.secretName is required with account.username: the Secret with its password" -}}
{{- end -}}
{{- if and .Values.account.secretName (not .Values.account.username) -}}
{{- fail "account.username is required with account.secretName" -}}
{{- end -}}
{{- if and .Values.route.enabled (not .Values.route.host) (regexMatch ":[0-9]+$" .Values.hostname) (not (hasSuffix ":443" .Values.hostname)) -}}
{{- fail "a Route is reached at port 443: remove the port from hostname, or set route.host" -}}
{{- end -}}
{{- if and .Values.tlsRoute.enabled (not .Values.tlsRoute.parentRefs) -}}
{{- fail "tlsRoute.parentRefs is required: the Gateway whose listener passes TLS through" -}}
{{- end -}}
{{- end }}
