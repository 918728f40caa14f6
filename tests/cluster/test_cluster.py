"""What ``fleet render`` writes, in the hands of Kubernetes: admission, scheduling, rollouts, drains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from enclavectl.deploy.kubernetes.objects import IN_FLIGHT, fleet_objects
from enclavectl.deploy.kubernetes.pod import NODE_LABEL, RELEASE_LABEL, SLOT
from enclavectl.deploy.kubernetes.request import FleetRequest, PodSecurity
from tests.cluster.control_plane_process import Api, Object, Refused, wait_until
from tests.cluster.metrics_stub import metrics
from tests.cluster.nodes import add_node, clear, finish_deletions, is_ready, make_ready, placed, settle
from tests.deploy.fleets import FLEETS, NEW, OLD, fleet, release

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
PATH = "/api/v1/namespaces"


def apply(api: Api, request: FleetRequest) -> dict[str, Any]:
    objects: dict[str, Any] = fleet_objects(request)
    for value in objects.values():
        api.apply(value)
    return objects


def template(request: FleetRequest) -> Object:
    """A pod of the newest release, as its ReplicaSet would make it."""
    deployment: Any = fleet_objects(request)[f"deployment-{NEW[:8]}.yaml"]
    pod = deployment["spec"]["template"]
    meta = {"name": "one", "namespace": request.namespace, **pod["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"]}


@pytest.fixture
def nodes(api: Api) -> Iterator[list[str]]:
    """Two nodes of four slots, without a pod of another test; they are gone afterwards."""
    names = ["n1", "n2"]
    clear(api)
    for name in names:
        add_node(api, name)
    yield names
    clear(api)
    for node in api.get("/api/v1/nodes")["items"]:
        api.call("DELETE", f"/api/v1/nodes/{node['metadata']['name']}")


@pytest.mark.parametrize("name", FLEETS)
def test_the_cluster_takes_every_object_strictly(api: Api, name: str) -> None:
    request = replace(FLEETS[name], namespace=f"take-{name}")
    apply(api, request)
    # The ReplicaSet's pods are admitted one by one; a Deployment only warns.
    api.apply(template(request), dry_run=True)


@pytest.mark.parametrize(
    ("level", "change", "told"),
    [
        (PodSecurity.RESTRICTED, {"securityContext": {"runAsUser": 0}}, "violates PodSecurity"),
        (PodSecurity.BASELINE, {"hostNetwork": True}, "violates PodSecurity"),
        (
            PodSecurity.BASELINE,
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            "violates PodSecurity",
        ),
    ],
)
def test_a_pod_that_asks_for_more_is_refused_at_that_level(
    api: Api, level: PodSecurity, change: dict[str, Any], told: str
) -> None:
    request = fleet(namespace=f"level-{level}", pod_security=level)
    api.apply(fleet_objects(request)["namespace.yaml"])
    pod = template(request)
    api.apply(pod, dry_run=True)
    pod["spec"].update(change)
    with pytest.raises(Refused, match=told):
        api.apply(pod, dry_run=True)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"hugepages-1Gi": "1500Mi"}, "integer multiple"),
        ({SLOT: "500m"}, "must be an integer"),
        ({"hugepages-2Mi": "3Mi"}, "integer multiple"),
    ],
)
def test_what_fleet_check_finds_the_cluster_refuses_as_well(
    api: Api, limits: dict[str, str], told: str
) -> None:
    request = fleet(namespace="refused")
    api.apply(fleet_objects(request)["namespace.yaml"])
    pod = template(request)
    resources = pod["spec"]["initContainers"][0]["resources"]
    resources["limits"] = {**resources["limits"], **limits}
    resources["requests"] = {**resources["requests"], **limits}
    with pytest.raises(Refused, match=told):
        api.apply(pod, dry_run=True)


def test_an_unknown_field_is_refused(api: Api) -> None:
    request = fleet(namespace="refused")
    api.apply(fleet_objects(request)["namespace.yaml"])
    pod = template(request)
    pod["spec"]["nodeSelectr"] = pod["spec"].pop("nodeSelector")
    with pytest.raises(Refused, match="nodeSelectr"):
        api.apply(pod, dry_run=True)


def test_nine_pods_take_the_eight_slots_of_two_nodes(api: Api, nodes: list[str]) -> None:
    request = fleet(namespace="nine", releases=(release(replicas=9),))
    apply(api, request)
    settle(api, "nine", {"n1": 4, "n2": 4, "PENDING": 1})
    [waiting] = [pod for pod in api.pods("nine") if "nodeName" not in pod["spec"]]

    def why() -> str:
        found = api.get(f"{PATH}/nine/pods/{waiting['metadata']['name']}")
        return str(found["status"].get("conditions"))

    wait_until(lambda: f"2 Insufficient {SLOT}" in why(), "the scheduler says what is missing")
    add_node(api, "n3")
    settle(api, "nine", {"n1": 4, "n2": 4, "n3": 1})


def test_pages_of_another_size_leave_pods_pending(api: Api, nodes: list[str]) -> None:
    """The allocator makes pages of 1 GiB; --pages 2Mi is for nodes that were made so."""
    request = replace(FLEETS["rollout"], namespace="pages", releases=(release(replicas=1),))
    request = replace(request, arch=fleet().arch, cpus=2)
    apply(api, request)
    settle(api, "pages", {"PENDING": 1})
    wait_until(
        lambda: "Insufficient hugepages-2Mi" in str(api.pods("pages")[0]["status"]), "it is said which"
    )


def test_a_rollout_never_needs_a_ninth_slot(api: Api, nodes: list[str]) -> None:
    request = fleet(namespace="roll", releases=(release(replicas=8),))
    apply(api, request)
    settle(api, "roll", {"n1": 4, "n2": 4})
    make_ready(api, "roll")
    path = f"/apis/apps/v1/namespaces/roll/deployments/enclave-{NEW[:8]}"
    wait_until(lambda: api.get(path)["status"].get("readyReplicas") == 8, "all are ready")
    changed = fleet(namespace="roll", releases=(release(replicas=8, letter="e"),))
    apply(api, changed)
    counts: list[int] = []

    def is_through() -> bool:
        settle_one(api, "roll")
        counts.append(sum(is_ready(pod) for pod in api.pods("roll")))
        found = api.get(path)
        status = found["status"]
        is_seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return is_seen and (status.get("updatedReplicas"), status.get("readyReplicas")) == (8, 8)

    wait_until(is_through, "every pod is of the new image")
    assert min(counts) >= 7
    assert "PENDING" not in placed(api, "roll")


def settle_one(api: Api, namespace: str) -> None:
    finish_deletions(api, namespace)
    make_ready(api, namespace)


def test_two_releases_stand_side_by_side_each_with_its_service(api: Api, nodes: list[str]) -> None:
    request = fleet(namespace="two", releases=(release(replicas=3), release(OLD, replicas=2, letter="d")))
    objects = apply(api, request)
    wait_until(lambda: sum(placed(api, "two").values()) == 5, "all pods are there")
    for label, count in ((NEW, 3), (OLD, 2)):
        selector = objects[f"service-{label[:8]}.yaml"]["spec"]["selector"]
        assert selector[RELEASE_LABEL] == label
        query = ",".join(f"{key}={value}" for key, value in selector.items()).replace("/", "%2F")
        assert len(api.get(f"{PATH}/two/pods?labelSelector={query}")["items"]) == count


def test_a_drain_takes_one_pod_at_a_time(api: Api, nodes: list[str]) -> None:
    request = fleet(namespace="drain", releases=(release(replicas=4),))
    apply(api, request)
    wait_until(lambda: placed(api, "drain").get("PENDING", 0) == 0 and len(api.pods("drain")) == 4, "placed")
    make_ready(api, "drain")
    budget = "/apis/policy/v1/namespaces/drain/poddisruptionbudgets/gateway"
    wait_until(lambda: api.get(budget)["status"].get("disruptionsAllowed") == 1, "one may go")

    def evict(name: str) -> None:
        meta = {"name": name, "namespace": "drain"}
        value = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        api.call("POST", f"{PATH}/drain/pods/{name}/eviction", value)

    first, second = (pod["metadata"]["name"] for pod in api.pods("drain")[:2])
    evict(first)
    with pytest.raises(Refused, match="429"):
        evict(second)


def test_the_autoscaler_follows_what_gateways_have_in_flight(
    api: Api, nodes: list[str], tmp_path: Path
) -> None:
    """Twice the target for each pod means twice the pods, and never more than ``--max``."""
    # Within 15 s an autoscaler goes from the one pod that an apply leaves to five and no further.
    request = fleet(namespace="scale", most=5)
    apply(api, request)
    # An apply leaves out the replicas, which are the autoscaler's: it raises one to its least.
    deployment = f"/apis/apps/v1/namespaces/scale/deployments/enclave-{NEW[:8]}"
    wait_until(lambda: api.get(deployment)["spec"]["replicas"] == 2, "the least is there")
    with metrics(api, "scale", tmp_path, value=16) as gateways:

        def replicas() -> int:
            make_ready(api, "scale")
            return int(api.get(deployment)["spec"]["replicas"])

        wait_until(lambda: replicas() == 5, "it has followed the load up to its bound")
        assert gateways.asked == {IN_FLIGHT}


def test_awss_plugin_and_our_pods_stand_on_the_same_nodes(api: Api, nodes: list[str]) -> None:
    """As its chart has it with the values of ``fleet node``: a daemon set on labeled, tainted nodes."""
    labels = {"name": "nitro-device-plugin"}
    mounts = {"device": "/dev", "sys": "/sys", "plugins": "/var/lib/kubelet/device-plugins"}
    container = {
        "name": "plugin",
        "image": "public.ecr.aws/aws-nitro-enclaves/aws-nitro-enclaves-k8s-device-plugin:0.4.1",
        "env": [{"name": "MAX_ENCLAVES_PER_NODE", "value": "4"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    spec = {
        "nodeSelector": {NODE_LABEL: "enabled"},
        "tolerations": [{"key": NODE_LABEL, "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "system-node-critical",
        "containers": [container],
        "volumes": [{"name": name, "hostPath": {"path": path}} for name, path in mounts.items()],
    }
    value = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "nitro-device-plugin", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    api.apply(value)
    settle(api, "kube-system", {"n1": 1, "n2": 1})
    request = fleet(namespace="beside", releases=(release(replicas=8),))
    apply(api, request)
    settle(api, "beside", {"n1": 4, "n2": 4})
