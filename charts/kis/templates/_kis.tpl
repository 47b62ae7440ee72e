{{/*
The objects are those of manifests/ (a link in this chart): templates read them, set what values say, and print them here.
So there is one source, and tests/test_chart.py compares both ways. kis.print takes the object, the labels that select it
besides its name (kustomize's includeSelectors), and the chart.
*/}}
{{- define "kis.print" -}}
{{- $object := .object }}
{{- $selecting := default (dict) .selecting }}
{{- $partOf := dict "app.kubernetes.io/part-of" "kis-testbed" }}
{{- $_ := set $object.metadata "labels" (merge (deepCopy $selecting) $partOf (default (dict) $object.metadata.labels)) }}
{{- if eq $object.kind "Service" }}
{{- $_ := set $object.spec "selector" (merge $object.spec.selector $selecting) }}
{{- else if eq $object.kind "NetworkPolicy" }}
{{- $_ := set $object.spec.podSelector "matchLabels" (merge $object.spec.podSelector.matchLabels $selecting) }}
{{- else if has $object.kind (list "Deployment" "PodDisruptionBudget") }}
{{- $_ := set $object.spec.selector "matchLabels" (merge $object.spec.selector.matchLabels $selecting) }}
{{- end }}
{{- if eq $object.kind "Deployment" }}
{{- $pods := $object.spec.template }}
{{- $_ := set $pods.metadata "labels" (merge $pods.metadata.labels $selecting $partOf) }}
{{- with .settings }}
{{- $_ := set $pods.metadata "annotations" (merge (dict "checksum/settings" (sha256sum .)) (default (dict) $pods.metadata.annotations)) }}
{{- end }}
{{- range $container := concat $pods.spec.containers (default (list) $pods.spec.initContainers) }}
{{- if eq $container.image "kis-testbed" }}
{{- $_ := set $container "image" $.chart.Values.image }}
{{- end }}
{{- end }}
{{- with .chart.Values.imagePullSecrets }}
{{- $_ := set $pods.spec "imagePullSecrets" . }}
{{- end }}
{{- end }}
---
{{ toYaml $object }}
{{ end }}

{{- define "kis.settings" }}
{{- $data := dict .file .text }}
{{- $map := dict "apiVersion" "v1" "kind" "ConfigMap" "metadata" (dict "name" .name) "data" $data }}
{{- include "kis.print" (dict "object" $map "selecting" .selecting "chart" .chart) }}
{{- end }}

{{- /* The file of manifests/, as YAML, with the given keys set, each as a whole. */}}
{{- define "kis.config" -}}
{{- $config := .chart.Files.Get .file | fromYaml }}
{{- range $key, $value := .given }}
{{- $_ := set $config $key $value }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "kis.serve" -}}
{{- include "kis.config" (dict "file" "manifests/base/serve.yaml" "given" .Values.triton.serve "chart" .) }}
{{- end }}

{{- define "kis.model" -}}{{ (include "kis.serve" . | fromYaml).model }}{{- end }}

{{- define "kis.triton" -}}triton-{{ .Values.triton.name }}{{- end }}
