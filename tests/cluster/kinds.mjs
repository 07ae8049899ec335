// Judges resources of others' kinds, JSON on stdin, by their types: no required key missing, and each of its type. Prints the kinds.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const PACKAGES = {
  "gateway.networking.k8s.io/v1": "gateway-api",
  "keda.sh/v1alpha1": "keda",
  "monitoring.coreos.com/v1": "prometheus-operator",
};

for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const { apiVersion, kind } = resource;
  // The packages are not beside this file, where a plain import would look for them.
  const folder = `${process.argv[2]}/node_modules/@kubernetes-models/${PACKAGES[apiVersion]}`;
  const kinds = await import(pathToFileURL(`${folder}/${apiVersion}/index.js`));
  new kinds[kind](resource).validate();
  console.log(kind);
}
