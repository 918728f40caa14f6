"""What ``fleet render`` writes: the same as before, sound by its own check, and never over others' files."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from enclavectl.deploy.kubernetes.checking import check_manifests, check_schemas, read_manifests
from enclavectl.deploy.kubernetes.node import NodeRequest
from enclavectl.deploy.kubernetes.objects import MARK, fleet_files, fleet_objects
from enclavectl.deploy.kubernetes.pod import SLOT, SLOT_CPUS
from enclavectl.deploy.kubernetes.request import (
    Arch,
    FleetRequest,
    PageSize,
    ReleaseImage,
    check_code_registers,
    check_whole_pages,
    whole_pages,
)
from enclavectl.deploy.kubernetes.seccomp import seccomp_profile
from enclavectl.deploy.kubernetes.weights_key import WeightsKey
from enclavectl.deploy.kubernetes.writing import write_fleet
from enclavectl.errors import UsageError
from enclavectl.weights import bringing
from tests.deploy.fleets import FLEETS, MIB, NEW, OLD, fleet, release

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_is_rendered_as_it_was(name: str) -> None:
    """After a change on purpose: ENCLAVECTL_TEST_WRITE_GOLDEN=1, and look at the difference."""
    found = fleet_files(FLEETS[name])
    if os.environ.get("ENCLAVECTL_TEST_WRITE_GOLDEN"):
        write_fleet(GOLDEN / name, found)
    there = {path.name: path.read_bytes() for path in (GOLDEN / name).iterdir()}
    assert found == there


@pytest.mark.parametrize("name", FLEETS)
def test_a_rendered_fleet_passes_its_own_check(name: str, tmp_path: Path) -> None:
    write_fleet(tmp_path / "k8s", fleet_files(FLEETS[name]))
    manifests = read_manifests(tmp_path / "k8s")
    labels = [frozenset([one.label]) for one in FLEETS[name].releases]
    assert check_manifests(manifests, labels) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FLEETS)
def test_a_rendered_fleet_passes_the_schemas_of_kubernetes(name: str) -> None:
    pytest.importorskip("kubernetes_validate")
    assert check_schemas(fleet_objects(FLEETS[name])) == []
    wrong = fleet_objects(FLEETS[name])
    wrong["namespace.yaml"]["spec"] = {"finalisers": []}
    assert [one.file for one in check_schemas(wrong)] == ["namespace.yaml"]


def test_the_kustomization_names_every_object_and_nothing_else() -> None:
    files = fleet_files(FLEETS["restricted"])
    value = yaml.safe_load(files["kustomization.yaml"])
    assert sorted(value["resources"]) == sorted(
        name for name in files if name.endswith(".yaml") and name != "kustomization.yaml"
    )


@pytest.mark.parametrize("text", ["kind: Secret\n", f"# mine\n{MARK}kind: Secret\n", f"{{\n{MARK}}}\n"])
def test_an_earlier_fleet_of_ours_is_replaced_and_a_foreign_file_stops_it(tmp_path: Path, text: str) -> None:
    write_fleet(tmp_path, fleet_files(FLEETS["rollout"]))
    write_fleet(tmp_path, fleet_files(FLEETS["baseline"]))
    assert {path.name for path in tmp_path.iterdir()} == set(fleet_files(FLEETS["baseline"]))
    (tmp_path / "mine.yaml").write_text(text)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"mine\.yaml") as caught:
        write_fleet(tmp_path, fleet_files(FLEETS["rollout"]))
    assert "overlay" in str(caught.value.hint)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"namespace": "Mine"}, "--namespace", "Kubernetes"),
        ({"namespace": "a" * 64}, "--namespace", "Kubernetes"),
        ({"namespace": "kube-system"}, "--namespace", "Pod Security"),
        ({"metrics_from": "a_b"}, "--metrics-from", "Kubernetes"),
        ({"releases": (release(replicas=2), release(replicas=1))}, "another release", "runs now"),
        ({"cpus": 3}, "whole cores", "--cpus 4"),
        ({"cpus": 0}, "whole cores", "--cpus 2"),
        ({"memory_mib": 512}, "at least 720 MiB", "--memory 1024"),
        ({"slots": 5}, "1 to 4", ""),
        ({"most": 1}, "at least --replicas", ""),
        ({"nodes": 2, "releases": (release(replicas=9),)}, r"2 nodes x 4 slots\), found 9$", "3 nodes"),
        ({"nodes": 2, "most": 9}, r"found 9$", "3 nodes"),
        (
            {"nodes": 1, "releases": (release(replicas=3), release(OLD, replicas=2))},
            r"1 node x 4 slots\), found 3 \+ 2 = 5",
            "2 nodes",
        ),
    ],
)
def test_what_no_cluster_could_run_is_refused(change: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        fleet(**change)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["", "Registry Example/x", "x" * 501, "-x", "a\nb", "x@sha256:ab", "x@y"])
def test_an_image_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--image"):
        fleet(releases=(ReleaseImage(label=NEW, image=name, eif_size=1, replicas=1),))


@pytest.mark.parametrize(
    ("source", "pin", "told"),
    [
        ("file:demo.key", None, "tls:HOST:PORT or kms"),
        ("tls:owner.example", None, "tls:HOST:PORT or kms"),
        ("tls:owner.example:70000", None, "tls:HOST:PORT or kms"),
        ("tls:owner.example:7443\n", None, "tls:HOST:PORT or kms"),
        ("tls:owner.example:7443", None, "found none"),
        ("kms", "sha256:" + "ab" * 32, "found one"),
        ("tls:owner.example:7443", "sha256:ab", "sha256:DIGEST"),
    ],
)
def test_a_key_that_no_pod_could_get_is_refused(source: str, pin: str | None, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        WeightsKey(source=source, pin=pin)


def test_sealed_weights_need_a_key_and_others_take_none() -> None:
    with pytest.raises(UsageError, match="expected --release") as caught:
        fleet(releases=(release(is_sealed=True),))
    assert caught.value.code == "sealed-release"
    with pytest.raises(UsageError, match="found one with a model"):
        fleet(key=WeightsKey(source="kms"))


def test_a_pod_may_wait_for_its_key_as_long_as_run_does() -> None:
    """The startup probe ends a container; until the weights are there the enclave is not announced."""

    def bound_s(request: FleetRequest) -> int:
        probe = containers(request)[0]["startupProbe"]
        return int(probe["periodSeconds"] * probe["failureThreshold"])

    more_s = bound_s(FLEETS["sealed"]) - bound_s(FLEETS["baseline"])
    assert more_s > bringing.OWNER_S
    objects: Any = fleet_objects(FLEETS["sealed"])
    spec = objects[f"deployment-{NEW[:8]}.yaml"]["spec"]
    assert spec["progressDeadlineSeconds"] > bound_s(FLEETS["sealed"])


def test_only_pods_with_sealed_weights_ask_for_a_key_and_may_dial_its_owner() -> None:
    objects: Any = fleet_objects(FLEETS["sealed"])
    for label, has_key in ((NEW, True), (OLD, False)):
        pod = objects[f"deployment-{label[:8]}.yaml"]["spec"]["template"]["spec"]
        assert ("tls:owner.example:7443" in pod["initContainers"][0]["args"]) == has_key
    egress = objects["networkpolicy.yaml"]["spec"]["egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in egress] == [[53, 53], [7443]]
    [only] = WeightsKey(source="tls:[2001:db8::1]:7443", pin="sha256:" + "ab" * 32).egress
    assert only["to"] == [{"ipBlock": {"cidr": "2001:db8::1/128"}}]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a\nb: c", "a" * 101])
def test_a_cluster_name_that_eks_has_not_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--cluster"):
        NodeRequest(cluster=name, slots=4, memory_mib=3072, cpus=2, pages=PageSize.GIB, arch=Arch.AMD64)


def test_cores_with_one_thread_may_be_odd() -> None:
    assert fleet(arch=Arch.ARM64, cpus=3).cpus == 3


@pytest.mark.parametrize(
    ("mib", "pages", "expected"),
    [
        (1024, PageSize.GIB, 1024),
        (1025, PageSize.GIB, 2048),
        (256, PageSize.GIB, 1024),
        (1000, PageSize.TWO_MIB, 1000),
        (1001, PageSize.TWO_MIB, 1002),
    ],
)
def test_memory_is_in_whole_pages(mib: int, pages: PageSize, expected: int) -> None:
    assert whole_pages(mib, pages) == expected
    check_whole_pages(expected, pages, where="--memory")


@pytest.mark.parametrize(("mib", "pages"), [(1500, PageSize.GIB), (1001, PageSize.TWO_MIB)])
def test_a_chosen_size_that_no_pages_fit_is_refused(mib: int, pages: PageSize) -> None:
    with pytest.raises(UsageError, match=f"^here: expected a multiple .* found {mib}$"):
        check_whole_pages(mib, pages, where="here")


Break = Callable[[dict[str, Any]], object]


def pod(objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = objects[f"deployment-{NEW[:8]}.yaml"]["spec"]["template"]["spec"]
    return found


def limits(objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(objects)["initContainers"][0]["resources"]["limits"]
    return found


def requests(objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(objects)["initContainers"][0]["resources"]["requests"]
    return found


def spec(objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = objects[f"deployment-{NEW[:8]}.yaml"]["spec"]
    return found


BREAKS: dict[str, Break] = {
    "hugepages": lambda o: limits(o).pop("hugepages-1Gi"),
    "hugepages-multiple": lambda o: (limits(o), limits(o).update({"hugepages-1Gi": "1500Mi"})),
    "hugepages-request": lambda o: requests(o).update({"hugepages-1Gi": "1Gi"}),
    "hugepages-alone": lambda o: (
        [one.pop(key, None) for one in (limits(o), requests(o)) for key in ("cpu", "memory")]
    ),
    "device-count": lambda o: limits(o).update({SLOT_CPUS: "500m"}),
    "enclaves-per-pod": lambda o: (limits(o).update({SLOT: "2"}), requests(o).update({SLOT: "2"})),
    "two-enclaves": lambda o: pod(o)["containers"].append(copy.deepcopy(pod(o)["initContainers"][0])),
    "node-selector": lambda o: pod(o).pop("nodeSelector"),
    "seccomp-default": lambda o: pod(o).update(
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}}
    ),
    "debug-mode": lambda o: pod(o)["initContainers"][0]["args"].append("--debug"),
    "max-surge": lambda o: spec(o)["strategy"]["rollingUpdate"].update({"maxSurge": 1}),
    "release-label": lambda o: spec(o)["selector"]["matchLabels"].update({"enclavectl/release": "0" * 16}),
    "release-of-no-lock": lambda o: [
        one["matchLabels" if "matchLabels" in one else "labels"].update({"enclavectl/release": "0" * 16})
        for one in (spec(o)["selector"], spec(o)["template"]["metadata"])
    ],
}


@pytest.mark.parametrize("code", BREAKS)
def test_each_mistake_is_found_with_what_mends_it(code: str) -> None:
    objects: dict[str, Any] = copy.deepcopy(fleet_objects(FLEETS["baseline"]))
    BREAKS[code](objects)
    found = check_manifests(objects, [frozenset([NEW])])
    assert code in {one.code for one in found}
    assert all(one.fix and one.message for one in found)


def test_a_lock_that_no_deployment_is_of_is_told() -> None:
    objects = fleet_objects(FLEETS["baseline"])
    assert [one.code for one in check_manifests(objects, [frozenset([NEW]), frozenset([OLD])])] == [
        "lock-without-release"
    ]


def test_a_manifest_with_anything_anywhere_is_judged() -> None:
    name = f"deployment-{NEW[:8]}.yaml"
    objects: dict[str, Any] = {name: fleet_objects(FLEETS["baseline"])[name]}
    for path in paths_of(objects[name]):
        junks: tuple[object, ...] = (None, 5, "x", [], [1], [{}], {"x": 1})
        for junk in junks:
            broken = copy.deepcopy(objects)
            *way, last = (name, *path)
            parent: Any = broken
            for step in way:
                parent = parent[step]
            parent[last] = junk
            check_manifests(broken, [frozenset([NEW])])


def paths_of(value: object) -> Iterator[tuple[Any, ...]]:
    """Where something is in a manifest, below its kind and version."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, one in members:
        if key not in ("kind", "apiVersion"):
            yield (key,)
            yield from ((key, *rest) for rest in paths_of(one))


def test_a_kind_that_kubernetes_has_not_is_told() -> None:
    pytest.importorskip("kubernetes_validate")
    [found] = check_schemas({"x.yaml": {"apiVersion": "karpenter.sh/v1", "kind": "NodePool"}})
    assert "has no karpenter.sh/v1 NodePool" in found.message


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", "kind: 5\n", "a: &x 1\nb: *x\nkind: Pod\n", "kind: A\n---\nkind: B\n", "\t: x"),
        *("kind: Pod\n", "apiVersion: 1\nkind: Pod\n", "apiVersion: ../v1\nkind: Pod\n"),
        "apiVersion: v1\nkind: ../Pod\n",
    ],
)
def test_a_file_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError):
        read_manifests(tmp_path)


def test_a_folder_without_manifests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found 0"):
        read_manifests(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        read_manifests(tmp_path / "none")


@pytest.mark.parametrize("rest", [{}, {"PCR0": "01" * 48}])
def test_a_lock_without_the_registers_of_code_is_refused(rest: dict[str, str], tmp_path: Path) -> None:
    from enclavectl.artifacts.lock import read_lock
    from tests.deploy.fleets import write_lock

    lock = read_lock(write_lock(tmp_path / "l.json", pcrs=rest))
    with pytest.raises(UsageError, match="PCR1, PCR2") as caught:
        check_code_registers(lock, "l.json", allow_debug=True)
    assert caught.value.code == "lock-without-pcrs"


def test_zeros_are_a_debug_mode_enclave_and_refused_unless_that_is_said(tmp_path: Path) -> None:
    from enclavectl.artifacts.lock import read_lock
    from tests.deploy.fleets import write_lock

    zeros = {f"PCR{index}": "0" * 96 for index in range(3)}
    lock = read_lock(write_lock(tmp_path / "l.json", pcrs=zeros))
    with pytest.raises(UsageError, match="debug mode") as caught:
        check_code_registers(lock, "l.json", allow_debug=False)
    assert "--unsafe-debug" in str(caught.value.hint)
    check_code_registers(lock, "l.json", allow_debug=True)


def test_the_profile_refuses_what_runtimes_refuse_and_lets_vsock_through() -> None:
    value = json.loads(seccomp_profile())
    refused = {name for rule in value["syscalls"] if "args" not in rule for name in rule["names"]}
    assert {"mount", "ptrace", "bpf", "unshare", "setns", "keyctl", "io_uring_setup"} <= refused
    sockets = {rule["args"][0]["value"] for rule in value["syscalls"] if rule["names"] == ["socket"]}
    assert 40 not in sockets  # AF_VSOCK
    assert 38 in sockets  # AF_ALG
    assert len(seccomp_profile()) < 8192  # user data has 16 KiB


def test_an_image_is_pinned_by_its_digest_alone() -> None:
    def pinned(name: str) -> bool:
        return ReleaseImage(label=NEW, image=name, eif_size=MIB, replicas=1).is_pinned

    assert pinned("r/x@sha256:" + "a" * 64)
    assert not any(map(pinned, ("r/x:1.0", "r/x", "r/x@sha256:abc", "r/x@sha512:" + "a" * 64)))


def containers(request: FleetRequest) -> list[dict[str, Any]]:
    template: Any = fleet_objects(request)[f"deployment-{NEW[:8]}.yaml"]["spec"]
    spec = template["template"]["spec"]
    return [*spec["initContainers"], *spec["containers"]]


@pytest.mark.parametrize("name", FLEETS)
def test_no_container_may_do_more_than_it_must(name: str) -> None:
    for one in containers(FLEETS[name]):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
