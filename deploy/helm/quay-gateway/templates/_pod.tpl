{{/* The Secrets that are mounted below /etc/quay-gateway: folder and Secret, as JSON. */}}
{{- define "gateway.secrets" -}}
{{- $journal := ternary .Values.journal.postgresql.secretName "" (eq .Values.journal.kind "postgresql") -}}
{{- toJson (dict "quay" .Values.quay.configSecret "tls" .Values.tls.secretName "journal" $journal "account" .Values.account.secretName "database" .Values.database.secretName "admin" .Values.admin.secretName) -}}
{{- end }}

{{/* The claim of a volume: size and storage class. */}}
{{- define "gateway.claim" -}}
accessModes: {{ toJson .accessModes }}
{{- with .storageClassName }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size | quote }}
{{- end }}

{{/* The pod of the StatefulSet or the Deployment. */}}
{{- define "gateway.pod" -}}
metadata:
  labels:
    {{- include "gateway.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Only a change that needs a restart replaces the pods. The gateway applies all others by itself.
    checksum/config: {{ include "gateway.restart" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "gateway.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # timeouts.lame_duck, timeouts.drain, and 15 s for clean-up.
  terminationGracePeriodSeconds: {{ include "gateway.gracePeriod" . }}
  securityContext:
    {{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") "fsGroupChangePolicy" "OnRootMismatch" }}
    {{- if ne (include "gateway.openshift" .) "true" }}{{ $_ := set $context "fsGroup" 1001 }}{{ end }}
    {{- toYaml (mergeOverwrite $context (deepCopy .Values.podSecurityContext)) | nindent 4 }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $own := dict "labelSelector" (dict "matchLabels" (include "gateway.selector" $ | fromYaml)) }}
    - {{- toYaml (merge (deepCopy .) $own) | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: quay-gateway
      image: {{ include "gateway.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, --log-format, {{ .Values.log.format }}]
      env:
        - name: QUAY_GATEWAY_CONFIG
          value: /etc/quay-gateway/config/gateway.yaml
        - name: RUST_LOG
          value: {{ .Values.log.filter | quote }}
        {{- with .Values.zones.secretName }}
        - name: QUAY_GATEWAY__ZONES
          valueFrom:
            secretKeyRef:
              name: {{ . }}
              key: {{ $.Values.zones.key }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: https
          containerPort: 8443
          protocol: TCP
        - name: admin
          containerPort: 9090
          protocol: TCP
      # A new release may change the journal's tables at its first start, for up to 30 minutes.
      startupProbe:
        httpGet:
          path: /healthz
          port: admin
          {{- if .Values.admin.tls }}
          scheme: HTTPS
          {{- end }}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 360
      # Neither probe asks the registry or a zone.
      livenessProbe:
        httpGet:
          path: /healthz
          port: admin
          {{- if .Values.admin.tls }}
          scheme: HTTPS
          {{- end }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
          {{- if .Values.admin.tls }}
          scheme: HTTPS
          {{- end }}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      resources:
        {{- $resources := deepCopy .Values.resources }}
        {{- if eq .Values.cache.kind "emptyDir" }}
        {{- /* The scheduler must know what the cache takes from the node's disk. */}}
        {{- $resources = mergeOverwrite (dict "requests" (dict "ephemeral-storage" (include "gateway.cacheVolumeSize" .))) $resources }}
        {{- end }}
        {{- toYaml $resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/quay-gateway/config
          readOnly: true
        {{- range $folder, $secret := include "gateway.secrets" . | fromJson }}
        {{- if $secret }}
        - name: {{ $folder }}
          mountPath: /etc/quay-gateway/{{ $folder }}
          readOnly: true
        {{- end }}
        {{- end }}
        {{- if .Values.ca.configMapName }}
        - name: ca
          mountPath: /etc/quay-gateway/ca
          readOnly: true
        {{- end }}
        - name: state
          mountPath: /var/lib/quay-gateway
        - name: cache
          mountPath: /var/cache/quay-gateway
        # For what SQLite does not sort in memory.
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "gateway.fullname" . }}
    {{- range $folder, $secret := include "gateway.secrets" . | fromJson }}
    {{- if $secret }}
    - name: {{ $folder }}
      secret:
        secretName: {{ $secret }}
        # Group 0 on OpenShift, fsGroup elsewhere.
        defaultMode: 0440
        {{- if and (eq $folder "quay") $.Values.quay.items }}
        items:
          {{- toYaml $.Values.quay.items | nindent 10 }}
        {{- end }}
    {{- end }}
    {{- end }}
    {{- if .Values.ca.configMapName }}
    - name: ca
      configMap:
        name: {{ .Values.ca.configMapName }}
    {{- end }}
    {{- if eq .Values.journal.kind "postgresql" }}
    # Only where the sweep is, and blobs while they are fetched through the registry.
    - name: state
      emptyDir: {}
    {{- end }}
    {{- if eq .Values.cache.kind "emptyDir" }}
    - name: cache
      emptyDir:
        sizeLimit: {{ include "gateway.cacheVolumeSize" . }}
    {{- else if eq .Values.journal.kind "postgresql" }}
    - name: cache
      ephemeral:
        volumeClaimTemplate:
          spec:
            {{- include "gateway.claim" (dict "accessModes" (list "ReadWriteOnce") "storageClassName" .Values.cache.storageClassName "size" (include "gateway.cacheVolumeSize" .)) | nindent 12 }}
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
