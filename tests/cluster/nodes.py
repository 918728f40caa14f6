"""Nodes that exist in the cluster's books alone, and what a kubelet would say of their pods."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from enclavectl.deploy.kubernetes.pod import NODE_LABEL, SLOT, SLOT_CPUS
from tests.cluster.control_plane_process import Api, Object, Refused, wait_until


def add_node(api: Api, name: str, *, slots: int = 4, cpus: int = 8, pages_gib: int = 12) -> None:
    """A node as the kubelet and AWS's plugin would have it, with a zone of its own."""
    path = f"/api/v1/nodes/{name}"
    labels = {
        NODE_LABEL: "enabled",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": f"zone-{name}",
    }
    taint = {"key": NODE_LABEL, "value": "enabled", "effect": "NoSchedule"}
    api.call(
        "POST",
        "/api/v1/nodes",
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": [taint]},
        },
    )
    capacity = {
        "cpu": "16",
        "memory": "64Gi",
        "pods": "110",
        "ephemeral-storage": "100Gi",
        "hugepages-1Gi": f"{pages_gib}Gi",
        SLOT: str(slots),
        SLOT_CPUS: str(cpus),
    }
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    api.patch_status(path, {"capacity": capacity, "allocatable": capacity, "conditions": [ready]})
    # Admission adds a taint for a node that is not ready yet; a controller that we do not run takes it away.
    api.call("PATCH", path, {"spec": {"taints": [taint]}}, "application/merge-patch+json")


def placed(api: Api, namespace: str) -> dict[str, int]:
    """How many pods each node has; those without one are under PENDING."""
    found: dict[str, int] = {}
    for pod in api.pods(namespace):
        name = pod["spec"].get("nodeName", "PENDING")
        found[name] = found.get(name, 0) + 1
    return found


def make_ready(api: Api, namespace: str) -> None:
    """Say of each placed pod that it runs and is ready, as its kubelet would."""
    for pod in api.pods(namespace):
        if "nodeName" in pod["spec"] and not is_ready(pod):
            path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
            conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
            api.patch_status(path, {"phase": "Running", "conditions": conditions})


def is_ready(pod: Object) -> bool:
    conditions: list[Any] = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def finish_deletions(api: Api, namespace: str) -> None:
    """Remove the pods that are to be deleted: a kubelet says so once their containers have ended."""
    for pod in api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]:
        if "deletionTimestamp" in pod["metadata"]:
            path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
            api.call("DELETE", path, {"gracePeriodSeconds": 0})


def settle(api: Api, namespace: str, expected: dict[str, int]) -> None:
    def is_settled() -> bool:
        finish_deletions(api, namespace)
        return placed(api, namespace) == expected

    try:
        wait_until(is_settled, f"pods are placed as {expected}")
    except AssertionError as exc:
        raise AssertionError(f"{exc}; found {placed(api, namespace)}: {why_pending(api, namespace)}") from exc


def why_pending(api: Api, namespace: str) -> list[str]:
    """What the scheduler says of the pods that have no node."""
    pods = [pod for pod in api.pods(namespace) if "nodeName" not in pod["spec"]]
    return [str(pod.get("status", {}).get("conditions")) for pod in pods[:1]]


def clear(api: Api) -> None:
    """Remove everything that makes pods, and the pods."""

    def is_clear() -> bool:
        for kind in ("deployments", "replicasets", "daemonsets"):
            for one in api.get(f"/apis/apps/v1/{kind}")["items"]:
                meta = one["metadata"]
                api.call("DELETE", f"/apis/apps/v1/namespaces/{meta['namespace']}/{kind}/{meta['name']}")
        pods = api.get("/api/v1/pods")["items"]
        for pod in pods:
            meta = pod["metadata"]
            with suppress(Refused):  # its controller has just deleted it
                path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
                api.call("DELETE", path, {"gracePeriodSeconds": 0})
        return not pods and not api.get("/apis/apps/v1/replicasets")["items"]

    wait_until(is_clear, "the cluster has no pods")
