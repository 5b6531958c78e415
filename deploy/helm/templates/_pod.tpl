{{/* The pod of one role, or of the job that migrates. Secrets are copied, since the server accepts a master key only if nobody else can read it. */}}
{{- define "dustrun.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "dustrun.pod" -}}
automountServiceAccountToken: false
terminationGracePeriodSeconds: 60
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
initContainers:
  - name: keys
    image: {{ .root.Values.image | quote }}
    command: [sh, -c, install -m 0600 /from/master.key /keys/ && install -m 0600 /from/owner.key /data/]
    securityContext: {{- include "dustrun.security" . | nindent 6 }}
    volumeMounts:
      - {name: from, mountPath: /from, readOnly: true}
      - {name: keys, mountPath: /keys}
      - {name: data, mountPath: /data}
containers:
  - name: {{ .name }}
    image: {{ .root.Values.image | quote }}
    {{- if .command }}
    command: {{ .command | toJson }}
    {{- end }}
    env:
      - name: DUSTRUN_DATABASE_URL
        valueFrom: {secretKeyRef: {name: {{ .root.Values.secret | quote }}, key: database-url}}
      - {name: DUSTRUN_TEMPORAL_ADDRESS, value: {{ .root.Values.temporalAddress | quote }}}
      - {name: DUSTRUN_PUBLIC_URL, value: {{ .root.Values.publicUrl | quote }}}
      - {name: DUSTRUN_DATA_DIR, value: /data}
      - {name: DUSTRUN_MASTER_KEY_FILE, value: /keys/master.key}
      {{- if not .command }}
      - {name: DUSTRUN_ROLES, value: {{ .name }}}
      {{- end }}
      {{- range $name, $value := .root.Values.settings }}
      - {name: {{ $name }}, value: {{ $value | quote }}}
      {{- end }}
    {{- if not .command }}
    ports:
      - {name: http, containerPort: 8080}
    startupProbe:
      httpGet: {path: /healthz, port: http}
      periodSeconds: 2
      failureThreshold: 60
    livenessProbe:
      httpGet: {path: /healthz, port: http}
      periodSeconds: 10
      timeoutSeconds: 5
    readinessProbe:
      httpGet: {path: /readyz, port: http}
      periodSeconds: 5
      timeoutSeconds: 5
    {{- end }}
    resources: {{- .root.Values.resources | toYaml | nindent 6 }}
    securityContext: {{- include "dustrun.security" . | nindent 6 }}
    volumeMounts:
      - {name: keys, mountPath: /keys}
      - {name: data, mountPath: /data}
      - {name: temporary, mountPath: /tmp}
volumes:
  - name: from
    secret: {secretName: {{ .root.Values.secret | quote }}, defaultMode: 288}
  - name: keys
    emptyDir: {medium: Memory, sizeLimit: 1Mi}
  - name: data
    emptyDir: {medium: Memory, sizeLimit: 16Mi}
  - name: temporary
    emptyDir: {sizeLimit: 1Gi}
{{- end -}}
