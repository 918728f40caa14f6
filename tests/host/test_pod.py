"""doctor and plan in a pod, which sees its node's sysfs and has its own limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.host.cgroup import read_page_limits
from enclavectl.host.host import Host
from enclavectl.host.plan import Plan, make_plan, read_supply
from enclavectl.host.requirements import Demand, EifFacts
from tests.cli.command import enclavectl
from tests.host import trees

MIB = 1 << 20


def pod(folder: Path, *, cpus: str | None = "4", vsock: str | None = None, **limits_mib: int) -> Host:
    """A pod on a healthy node: no allocator, no vsock device, and limits by the downward API."""
    trees.healthy(folder)
    trees.remove(folder, "/etc/nitro_enclaves/allocator.yaml")
    trees.record(folder, files={"/dev/vsock": None})
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NITRO_ENCLAVES_CPUS": cpus}
    trees.record(
        folder, environ=environ, vsock=vsock, programs={"systemctl": None, "lscpu": None, "file": None}
    )
    for name, mib in limits_mib.items():
        trees.write(folder, f"/etc/enclavectl/pod/{name.replace('_', '-')}", f"{mib}\n")
    return trees.host(folder)


def codes(plan: Plan) -> list[str]:
    return [problem.code for problem in plan.problems]


def test_a_pod_with_its_resources_fits(tmp_path: Path) -> None:
    supply = read_supply(pod(tmp_path, hugepages_1Gi=8192, memory=512))
    assert make_plan(Demand(memory_mib=8192, cpus=4), supply).fits


def test_pages_that_the_pod_did_not_ask_for_are_not_its_own(tmp_path: Path) -> None:
    """The node has pages of 1 GiB; the pod has a limit for those of 2 MiB."""
    host = pod(tmp_path, hugepages_2Mi=8192)
    assert {size: one.limit_mib for size, one in read_page_limits(host.tree).by_size.items()} == {
        1024: 0,
        2: 8192,
    }
    plan = make_plan(Demand(memory_mib=8192, cpus=4), read_supply(host))
    assert codes(plan) == ["memory-free"]
    assert "resources.limits hugepages-1Gi: 8Gi" in plan.problems[0].nearest


def test_more_cpus_than_the_plugin_gave_do_not_fit(tmp_path: Path) -> None:
    plan = make_plan(
        Demand(memory_mib=8192, cpus=4), read_supply(pod(tmp_path, cpus="2", hugepages_1Gi=8192))
    )
    assert codes(plan) == ["pod-cpus"]
    assert 'nitro_enclaves_cpus: "4"' in plan.problems[0].nearest


def test_an_image_that_its_ordinary_memory_cannot_hold_is_refused(tmp_path: Path) -> None:
    eif = EifFacts(path=tmp_path / "a.eif", size=400 * MIB, arch="")
    host = pod(tmp_path, hugepages_1Gi=8192, memory=512)
    plan = make_plan(Demand(memory_mib=8192, cpus=4, eif=eif), read_supply(host))
    assert codes(plan) == ["pod-memory"]
    assert plan.problems[0].nearest == "resources.limits memory: 656Mi"
    trees.write(tmp_path, "/sys/fs/cgroup/memory.max", f"{656 * MIB}\n")
    assert make_plan(Demand(memory_mib=8192, cpus=4, eif=eif), read_supply(host)).fits


def checks(folder: Path, *, status: int) -> dict[str, dict[str, str]]:
    done = enclavectl("doctor", "--host-root", folder, "--output", "json", home=folder)
    assert done.status == status, done.out
    found = done.json()["checks"]
    assert isinstance(found, list)
    return {one["id"]: one for one in found}


def test_doctor_in_a_pod_asks_for_nothing_that_is_the_nodes(tmp_path: Path) -> None:
    pod(tmp_path, hugepages_1Gi=8192, memory=512)
    found = checks(tmp_path, status=0)
    assert not [one for one in found.values() if one["state"] == "fail"]
    assert found["allocator.file"]["state"] == "not-applicable"
    assert found["vsock.device"]["state"] == "ok"
    assert "4 of them" in found["allocator.pool"]["found"]


def test_doctor_tells_a_pod_whose_seccomp_profile_denies_vsock(tmp_path: Path) -> None:
    pod(tmp_path, vsock="EPERM", hugepages_1Gi=8192)
    found = checks(tmp_path, status=3)
    failed = {name for name, one in found.items() if one["state"] == "fail"}
    assert failed == {"vsock.socket"}
    assert "seccomp" in found["vsock.socket"]["fix"]
    assert "--pod-security" in found["vsock.socket"]["fix"]


@pytest.mark.parametrize("text", ["", "-1", "many", "99999"])
def test_a_count_that_is_none_is_no_count(tmp_path: Path, text: str) -> None:
    assert read_supply(pod(tmp_path, cpus=text, hugepages_1Gi=8192)).pod is not None
    assert make_plan(Demand(memory_mib=8192, cpus=4), read_supply(trees.host(tmp_path))).fits
