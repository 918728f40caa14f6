"""The objects of a fleet beside its pods, and the files that they are written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enclavectl.deploy.kubernetes.pod import (
    ANNOUNCED,
    APP,
    CONFIG_MAP,
    METRICS_PORT,
    PORT,
    STATE_DIR,
    Object,
    pod_labels,
    pod_spec,
)
from enclavectl.deploy.kubernetes.request import FleetRequest, ReleaseImage, ServiceKind
from enclavectl.deploy.kubernetes.seccomp import PROFILE_FILE, seccomp_profile

MARK = "# Written by enclavectl fleet render; written anew by the next one.\n"
KUSTOMIZATION = "kustomization.yaml"
# What the autoscaler aims at: a client keeps up to 8 pictures on their way.
IN_FLIGHT = "enclavectl_gateway_requests_in_flight"
_IN_FLIGHT_TARGET = "8"
# A boot takes minutes, so what is not needed now is kept for a while.
_SCALE_DOWN_S = 600
# Boots of a node come one after the other, each within nitro-cli's bound and a wait of 600 s.
_PROGRESS_S = 1800
_AWS = "service.beta.kubernetes.io/aws-load-balancer"


def fleet_objects(request: FleetRequest) -> dict[str, Object]:
    """Return each object by the name of its file, in the order in which to apply them."""
    found = {
        "namespace.yaml": _namespace(request),
        "configmap.yaml": _config_map(request),
        "networkpolicy.yaml": _network_policy(request),
        "poddisruptionbudget.yaml": _disruption_budget(request),
        "service-metrics.yaml": _metrics_service(request),
        "service.yaml": _service(request, "gateway", {"app.kubernetes.io/name": APP}),
    }
    for release in request.releases:
        name = release.short
        found[f"deployment-{name}.yaml"] = _deployment(request, release)
        found[f"service-{name}.yaml"] = _service(request, f"gateway-{name}", pod_labels(release))
    if request.most is not None:
        newest = request.releases[0]
        found[f"horizontalpodautoscaler-{newest.short}.yaml"] = _autoscaler(request, newest, request.most)
    return found


def fleet_files(request: FleetRequest) -> dict[str, bytes]:
    """Return the content of each file of a fleet, by name. The profile of seccomp goes to the nodes."""
    objects = fleet_objects(request)
    files = {name: to_yaml(value) for name, value in objects.items()}
    files[KUSTOMIZATION] = to_yaml(_kustomization(list(objects)))
    files[PROFILE_FILE] = seccomp_profile()
    return files


def to_yaml(value: Mapping[str, object]) -> bytes:
    """Return the object as a file that says who wrote it."""
    import yaml  # noqa: PLC0415 - takes longer than the rest

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Plain(dumper):  # type: ignore[misc, valid-type]  # a C class, which has no types
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's method
            return True

    text: str = yaml.dump(value, Dumper=Plain, sort_keys=False, width=100)
    return (MARK + text).encode()


def _meta(request: FleetRequest, name: str, **more: object) -> Object:
    labels = {"app.kubernetes.io/name": APP, "app.kubernetes.io/managed-by": APP}
    return {"name": name, "namespace": request.namespace, "labels": labels, **more}


def _namespace(request: FleetRequest) -> Object:
    level = str(request.pod_security)
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": request.namespace, "labels": labels},
    }


def _config_map(request: FleetRequest) -> Object:
    profile = "development" if request.is_debug else "production"
    settings = [
        "backend: nitro",
        f"profile: {profile}",
        f"state_dir: {STATE_DIR}",
        "gateway:",
        f"  announce: {ANNOUNCED}",
    ]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(request, CONFIG_MAP),
        "data": {"config.yaml": "\n".join(settings) + "\n"},
    }


def _network_policy(request: FleetRequest) -> Object:
    metrics = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": request.metrics_from}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(request, "gateway"),
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": APP}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"ports": [{"port": PORT}]},
                {"ports": [{"port": METRICS_PORT}], "from": [metrics]},
            ],
            # Enclaves are reached by vsock, which no NetworkPolicy sees. Only a key is fetched, if any.
            "egress": [] if request.key is None else request.key.egress,
        },
    }


def _disruption_budget(request: FleetRequest) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(request, "gateway"),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {"app.kubernetes.io/name": APP}},
            # A pod whose enclave cannot boot must not keep its node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _service(request: FleetRequest, name: str, selector: Object) -> Object:
    spec: Object = {
        "selector": selector,
        "ports": [{"name": "clients", "port": 443, "targetPort": "clients"}],
    }
    metadata = _meta(request, name)
    if request.service is ServiceKind.NLB:
        metadata["annotations"] = {
            f"{_AWS}-nlb-target-type": "ip",
            f"{_AWS}-scheme": "internal",
            f"{_AWS}-healthcheck-protocol": "https",
            f"{_AWS}-healthcheck-path": "/readyz",
            # Longer than a gateway's drain, and without cutting what it still answers.
            f"{_AWS}-target-group-attributes": "deregistration_delay.timeout_seconds=60,"
            "deregistration_delay.connection_termination.enabled=false,preserve_client_ip.enabled=true",
        }
        spec = {
            "type": "LoadBalancer",
            "loadBalancerClass": "service.k8s.aws/nlb",
            "allocateLoadBalancerNodePorts": False,
            **spec,
        }
    else:
        spec = {"type": "ClusterIP", **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _metrics_service(request: FleetRequest) -> Object:
    """Return the Service whose name has an address for each gateway, also for one that is not ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(request, "gateway-metrics"),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/name": APP},
            "ports": [{"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics"}],
        },
    }


def _deployment(request: FleetRequest, release: ReleaseImage) -> Object:
    is_scaled = request.most is not None and release is request.releases[0]
    # An autoscaler's number is not to be set back by the next apply.
    replicas: Object = {} if is_scaled else {"replicas": release.replicas}
    metadata = _meta(request, f"enclave-{release.short}")
    metadata["labels"] = {**pod_labels(release), "app.kubernetes.io/managed-by": APP}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            **replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": _PROGRESS_S + request.key_wait_s,
            "selector": {"matchLabels": pod_labels(release)},
            # Slots are scarce: a pod beyond them would stay Pending, and the rollout with it.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": pod_labels(release)},
                "spec": pod_spec(request, release),
            },
        },
    }


def _autoscaler(request: FleetRequest, release: ReleaseImage, most: int) -> Object:
    target = {"type": "AverageValue", "averageValue": _IN_FLIGHT_TARGET}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(request, f"enclave-{release.short}"),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": f"enclave-{release.short}",
            },
            "minReplicas": release.replicas,
            "maxReplicas": most,
            # An enclave's vCPUs are no CPU time of its pod, so the CPU says nothing.
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": IN_FLIGHT}, "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": _SCALE_DOWN_S}},
        },
    }


def _kustomization(names: Sequence[str]) -> Object:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(names),
    }
