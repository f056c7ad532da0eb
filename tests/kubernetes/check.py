"""Lints and renders the Helm chart for each kind of store, and checks every manifest.

    check.py SUBJOBS NODE_DIR
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/subjobs"
RULES = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
ACCESS = (ROOT / "deploy/access.example.toml").read_text()
OPERATOR = "monitoring.coreos.com/v1"
VERSIONS = ["1.29", kubernetes_validate.latest_version()]

MONITORED = {"serviceMonitor": {"enabled": True, "labels": {"release": "p"}}, "prometheusRule": {"enabled": True}}
DATABASE = {"kind": "database", "database": {"url": "postgres://subjobs@db1/subjobs", "passwordSecret": "p", "caSecret": "c"}}
CASES = {
    "data directory": {"access": {"content": ACCESS}},
    "memory": {"access": {"existingSecret": "mine"}, "store": {"kind": "memory"}},
    "database": {"access": {"content": ACCESS}, "store": DATABASE, **MONITORED},
    "everything": {
        "access": {"existingSecret": "mine", "key": "a.toml"},
        "store": {"kind": "dataDir", "dataDir": {"size": "1Gi", "storageClassName": "fast"}},
        "options": {"SUBJOBS_RETAIN_FINISHED": "30d", "SUBJOBS_MAX_IN_FLIGHT": "7", "RUST_LOG": "debug"},
        "imagePullSecrets": [{"name": "pull"}], "image": {"tag": "1.2.3"}, "podAnnotations": {"a": "b"},
        "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}, "drainSeconds": 40, "drainDelaySeconds": 0,
        "service": {"type": "LoadBalancer", "port": 80, "internalPort": 81},
        **MONITORED,
    },
    "TLS": {
        "access": {"existingSecret": "mine"}, "store": DATABASE, "tls": {"secret": "public-tls", "clientCaSecret": "callers"},
        "internalTls": {"secret": "internal-tls", "certificateKey": "chain.pem", "privateKeyKey": "key.pem"},
        **MONITORED, "serviceMonitor": {"enabled": True, "tlsConfig": {"caFile": "/etc/prometheus/ca.crt"}},
    },
    "certificates of workers": {
        "access": {"existingSecret": "mine"}, "internalTls": {"secret": "internal-tls", "clientCaSecret": "workers"},
        "serviceMonitor": {"enabled": True, "tlsConfig": {"serverName": "jobs"}},
    },
}
REFUSED = {
    "no access file": {},
    "two access files": {"access": {"content": "x", "existingSecret": "y"}},
    "no database": {"access": {"existingSecret": "x"}, "store": {"kind": "database"}},
    "an unknown key": {"access": {"existingSecret": "x"}, "replicsa": 3},
    "an unknown store": {"access": {"existingSecret": "x"}, "store": {"kind": "redis"}},
    "an authority of clients without a certificate": {"access": {"existingSecret": "x"}, "tls": {"clientCaSecret": "y"}},
    "an unknown key of TLS": {"access": {"existingSecret": "x"}, "internalTls": {"cert": "y"}},
    "an option that is no variable": {"access": {"existingSecret": "x"}, "options": {"max-in-flight": "3"}},
}


def render(values):
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="test", namespace="ns")
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def check_workload(subjobs, manifests, values):
    """The pod is safe, ends after the drain, and gives the program options that it accepts."""
    [workload] = [m for m in manifests if m["kind"] in ("Deployment", "StatefulSet")]
    kind = values.get("store", {}).get("kind", "dataDir")
    assert workload["kind"] == ("StatefulSet" if kind == "dataDir" else "Deployment"), workload["kind"]
    assert workload["spec"]["replicas"] == (2 if kind == "database" else 1)
    assert ("PodDisruptionBudget" in [m["kind"] for m in manifests]) == (kind == "database")
    pod = workload["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    drain = sum(int(environment[name].removesuffix("s")) for name in ("SUBJOBS_DRAIN", "SUBJOBS_DRAIN_DELAY"))
    assert pod["terminationGracePeriodSeconds"] > drain + 5
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["internal"] == 9090
    check_probes(container, values.get("internalTls", {}))
    check_tls(pod, container, environment, values)
    assert environment["SUBJOBS_LISTEN"].endswith(":8080") and environment["SUBJOBS_INTERNAL_LISTEN"].endswith(":9090")
    # Each service leads to a port of the container, and only one leads to the internal one.
    services = [m for m in manifests if m["kind"] == "Service"]
    assert sorted(ports[s["spec"]["ports"][0]["targetPort"]] for s in services) == [8080, 9090]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert all(s["spec"]["selector"].items() <= labels.items() for s in services)
    assert [s["spec"]["type"] for s in services if s["metadata"]["name"].endswith("-internal")] == ["ClusterIP"]
    # Every mount has its volume, and every file of an option is in a mount.
    volumes = {v["name"] for v in pod["volumes"]}
    volumes |= {c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])}
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    files = [value for value in environment.values() if value.startswith("/")]
    assert files and all(any(file.startswith(mount + "/") for mount in mounts) for file in files), (files, mounts)
    # The program knows each variable: one that it does not know is a warning. It ends at the first file, which does not exist here.
    without_tls = {name: "" for name in environment if "TLS" in name}
    ended = subprocess.run([subjobs, *container["args"], "--access", "/nowhere", "--log-format", "text"],
                           env=environment | without_tls | {"SUBJOBS_STORE_CA": "", "SUBJOBS_STORE_PASSWORD_FILE": "",
                                              "SUBJOBS_DATA_DIR": "", "SUBJOBS_LISTEN": "127.0.0.1:0",
                                              "SUBJOBS_INTERNAL_LISTEN": "127.0.0.1:0"},
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and "/nowhere: " in ended.stderr, ended.stderr
    assert "unknown environment variable" not in ended.stderr, ended.stderr


def check_probes(container, tls):
    """kubelet asks the internal listener as it speaks; if that wants certificates, the program asks itself."""
    paths = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    for name, path in paths.items():
        probe = container[name + "Probe"]
        if not tls.get("clientCaSecret"):
            scheme = {"scheme": "HTTPS"} if tls.get("secret") else {}
            assert probe["httpGet"] == {"path": path, "port": "internal"} | scheme, probe
        elif name == "readiness":
            assert probe["exec"] == {"command": ["/subjobs", "healthcheck"]} and "httpGet" not in probe, probe
        else:
            assert probe["tcpSocket"] == {"port": "internal"} and "httpGet" not in probe, probe


def check_tls(pod, container, environment, values):
    """Each option of TLS names a file of the Secret of its listener, and without a Secret there is no such option."""
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    found = {}
    for name, value in environment.items():
        if "TLS" in name:
            directory, key = value.rsplit("/", 1)
            found[name] = (secrets[mounts[directory]], key)
    expected = {}
    for listener, prefix in (("tls", "SUBJOBS_TLS_"), ("internalTls", "SUBJOBS_INTERNAL_TLS_")):
        tls = {"certificateKey": "tls.crt", "privateKeyKey": "tls.key", "clientCaKey": "ca.crt"} | values.get(listener, {})
        if "secret" in tls:
            expected[prefix + "CERT"] = (tls["secret"], tls["certificateKey"])
            expected[prefix + "KEY"] = (tls["secret"], tls["privateKeyKey"])
        if "clientCaSecret" in tls:
            expected[prefix + "CLIENT_CA"] = (tls["clientCaSecret"], tls["clientCaKey"])
    assert found == expected, (found, expected)


def check_monitor(manifest, tls, config):
    """Prometheus speaks TLS if the internal listener does, and expects the name of its service unless another is given."""
    [endpoint] = manifest["spec"]["endpoints"]
    assert endpoint.get("scheme") == ("https" if tls else None), endpoint
    expected = {"serverName": "test-subjobs-internal.ns.svc"} | config if tls else None
    assert endpoint.get("tlsConfig") == expected, endpoint


def check_secret(subjobs, manifests):
    """`subjobs check` accepts the access file of the Secret."""
    for secret in (m for m in manifests if m["kind"] == "Secret"):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(secret["stringData"]["access.toml"])
            file.flush()
            subprocess.run([subjobs, "check", "--access", file.name], check=True, stdout=subprocess.DEVNULL, timeout=60)


def main():
    subjobs, node = sys.argv[1:]
    for values in CASES.values():
        found = helm.lint(CHART, values=values, strict=True)
        # 1 is information: the chart has no icon.
        assert not found["errors"] and all(message["severity"] <= 1 for message in found["messages"]), found
    of_operator = []
    for name, values in CASES.items():
        manifests = render(values)
        for manifest in manifests:
            if manifest["apiVersion"] == OPERATOR:
                of_operator.append(manifest)
                if manifest["kind"] == "ServiceMonitor":
                    check_monitor(manifest, "internalTls" in values, values["serviceMonitor"].get("tlsConfig", {}))
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    sys.exit(f"{name}: {manifest['kind']} in {version}: {list(error.path)}: {error.message}")
        check_workload(subjobs, manifests, values)
        check_secret(subjobs, manifests)
        # A change of the access file changes the pods.
        if values["access"].get("content"):
            pods = [[m["spec"]["template"] for m in found if m["kind"] in ("Deployment", "StatefulSet")]
                    for found in (manifests, render(values | {"access": {"content": ACCESS + "\n"}}))]
            assert pods[0] != pods[1]
    assert sorted(m["kind"] for m in of_operator) == ["PrometheusRule"] * 3 + ["ServiceMonitor"] * 4
    for manifest in of_operator:
        if manifest["kind"] == "PrometheusRule":
            assert manifest["spec"] == RULES
        else:
            # The alerts name the job, which is the value of this label.
            assert manifest["spec"]["jobLabel"] == "app.kubernetes.io/name"
            assert manifest["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "subjobs"
    subprocess.run(["node", f"{node}/validate.mjs"], input=json.dumps(of_operator), text=True, check=True, timeout=60)
    for name, values in REFUSED.items():
        try:
            render(values)
        except helm.HelmError:
            continue
        sys.exit(f"the chart accepts {name}")
    print(f"the chart is accepted: {len(CASES)} sets of values, Kubernetes {' and '.join(VERSIONS)}")


main()
