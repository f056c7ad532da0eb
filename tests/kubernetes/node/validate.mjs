// Validates manifests of the Prometheus operator, a JSON array on standard input. Exits 1 with the errors.
import { readFileSync } from "node:fs";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

// The validators accept keys that no type has, so every key must be one of the types of this package.
const types = ["PrometheusRule", "PrometheusRuleSpec", "ServiceMonitor", "ServiceMonitorSpec", "Endpoint", "TLSConfig", "RuleGroup", "Rule"].map((name) => {
  const path = new URL(`node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/${name}.d.ts`, import.meta.url);
  return readFileSync(path, "utf8");
});
const known = (key) => types.some((type) => new RegExp(`["\\s]${key}"?\\??:`).test(type));
const keysOf = (value, path) => {
  if (Array.isArray(value)) return value.flatMap((item) => keysOf(item, path));
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, item]) =>
    ["labels", "annotations", "matchLabels"].includes(key) ? [key] : [key, ...keysOf(item, `${path}.${key}`)]);
};

for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  const Model = { PrometheusRule, ServiceMonitor }[manifest.kind];
  new Model(manifest).validate();
  const foreign = keysOf(manifest.spec, manifest.kind).filter((key) => !known(key) && key !== "matchLabels");
  if (foreign.length > 0) throw new Error(`${manifest.kind}: no type has ${foreign}`);
}
