{{- /*
Names that several templates need. Those of objects are fixed, whatever the release is called: admission policies and
keyd know them, and a cluster has one installation.
*/ -}}

{{- define "hauberk.labels" -}}
app.kubernetes.io/name: hauberk
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: hauberk
{{- end }}

{{- /* By which a workload finds its pods: never changes. Takes the component's name. */ -}}
{{- define "hauberk.selector" -}}
app.kubernetes.io/name: hauberk
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "hauberk.image" -}}
{{- $repository := printf "%s/%s" .Values.image.registry .Values.image.repository | trimPrefix "/" -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* ServiceAccounts, as the admission policies know them. */ -}}
{{- define "hauberk.keyd.account" -}}hauberk-keyd{{- end }}
{{- define "hauberk.controller.account" -}}hauberk-controller{{- end }}
{{- define "hauberk.accounts" -}}system:serviceaccounts:{{ .Release.Namespace }}{{- end }}

{{- define "hauberk.apiServer.configMap" -}}
{{ .Values.apiServer.configMap | default "hauberk-api-server" }}
{{- end }}

{{- /* Environment by which Kubernetes' clients find the API server. The kubelet's own says the Service's address. */ -}}
{{- define "hauberk.apiServer.env" -}}
- name: KUBERNETES_SERVICE_HOST
  valueFrom: {configMapKeyRef: {name: {{ include "hauberk.apiServer.configMap" . }}, key: host}}
- name: KUBERNETES_SERVICE_PORT
  valueFrom: {configMapKeyRef: {name: {{ include "hauberk.apiServer.configMap" . }}, key: port}}
{{- end }}

{{- /* Annotations of pods. A change of the API server's address starts them anew. Takes the root and the values' own. */ -}}
{{- define "hauberk.annotations" -}}
{{- $own := dict }}
{{- with .root.Values.apiServer.host }}
{{- $_ := set $own "hauberk.dev/api-server" (printf "%s %v" . $.root.Values.apiServer.port) }}
{{- end }}
{{- with merge $own .more }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The image is built and tested for these. */ -}}
{{- define "hauberk.nodeAffinity" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
    - matchExpressions:
      - {key: kubernetes.io/os, operator: In, values: [linux]}
      - {key: kubernetes.io/arch, operator: In, values: [amd64]}
{{- end }}
