"""What a cgroup leaves of the huge pages, and what ``plan`` and ``run`` say of it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from enclavectl.backends.nitro.capacity import CapacityCheck, CapacityRequest
from enclavectl.errors import HostError
from enclavectl.host.cgroup import PageLimit, read_page_limits
from enclavectl.host.plan import make_plan, read_supply
from enclavectl.host.requirements import Demand
from enclavectl.host.tree import Tree
from tests.cli.command import enclavectl
from tests.host import trees
from tests.host.breaks import Break, both, cgroup1, cgroup2, put

GIB = 1 << 30
TUTORIAL = Demand(memory_mib=8192, cpus=4)


def limits(folder: Path) -> dict[int, tuple[int, int]]:
    found = read_page_limits(Tree(root=folder)).by_size
    return {size: (one.limit_mib, one.used_mib) for size, one in found.items()}


def test_a_host_without_limits_has_none(tmp_path: Path) -> None:
    assert limits(tmp_path) == {}
    trees.write(tmp_path, "/proc/self/cgroup", "0::/user.slice/user-1000.slice/session-1.scope\n")
    assert limits(tmp_path) == {}


def test_the_narrowest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    trees.write(tmp_path, "/proc/self/cgroup", "0::/a/b\n")
    for folder, limit in (("/a/b", 8 * GIB), ("/a", 2 * GIB), ("", 4 * GIB)):
        trees.write(tmp_path, f"/sys/fs/cgroup{folder}/hugetlb.1GB.max", f"{limit}\n")
    trees.write(tmp_path, "/sys/fs/cgroup/c/hugetlb.1GB.max", "0\n")  # somebody else's
    assert limits(tmp_path) == {1024: (2048, 0)}


def test_what_is_used_of_a_limit_is_gone(tmp_path: Path) -> None:
    trees.write(tmp_path, "/sys/fs/cgroup/hugetlb.1GB.max", f"{8 * GIB}\n")
    trees.write(tmp_path, "/sys/fs/cgroup/hugetlb.1GB.current", f"{6 * GIB}\n")
    found = read_page_limits(Tree(root=tmp_path))
    assert found.by_size[1024].free_mib == 2048
    assert found.cap({1024: 8, 2: 5}) == {1024: 2, 2: 5}
    assert found.cap({1024: 8}, is_fresh=True) == {1024: 8}


@pytest.mark.parametrize(
    ("name", "text"),
    [("hugetlb.64KB.max", "0"), ("hugetlb.1GB.max", "max"), ("hugetlb.1GB.max", "-1"),
     ("hugetlb.1GB.events", "0"), ("memory.max", "0"), ("hugetlb.9999999GB.max", "0")],
)  # fmt: skip
def test_what_is_no_limit_on_pages_of_an_enclave_is_passed_over(name: str, text: str, tmp_path: Path) -> None:
    trees.write(tmp_path, f"/sys/fs/cgroup/{name}", text)
    assert limits(tmp_path) == {}


def test_a_limit_that_was_lowered_below_what_is_used_leaves_nothing(tmp_path: Path) -> None:
    trees.write(tmp_path, "/sys/fs/cgroup/hugetlb.1GB.max", f"{GIB}\n")
    trees.write(tmp_path, "/sys/fs/cgroup/hugetlb.1GB.current", f"{4 * GIB}\n")
    assert read_page_limits(Tree(root=tmp_path)).cap({1024: 8}) == {1024: 0}


def test_a_path_that_leaves_the_namespace_is_not_followed(tmp_path: Path) -> None:
    trees.write(tmp_path, "/proc/self/cgroup", "0::/../../etc\n")
    trees.write(tmp_path, "/sys/etc/hugetlb.2MB.max", "0\n")
    trees.write(tmp_path, "/sys/fs/cgroup/hugetlb.2MB.max", "2097152\n")
    assert limits(tmp_path) == {2: (2, 0)}


def test_pages_of_all_sizes_that_nitro_cli_takes_are_read(tmp_path: Path) -> None:
    for size, mib in (("2MB", 2), ("32MB", 32), ("512MB", 512), ("1GB", 1024), ("16GB", 16384)):
        trees.write(tmp_path, f"/sys/fs/cgroup/hugetlb.{size}.max", "0\n")
        assert mib in limits(tmp_path)
    file = "/sys/fs/cgroup/hugetlb.2MB.max"
    expected = PageLimit(size_mib=2, limit_mib=0, used_mib=0, file=file)
    assert read_page_limits(Tree(root=tmp_path)).by_size[2] == expected


PODS = {
    "without a limit, version 2": both(cgroup2("1GB", 0), cgroup2("2MB", 0)),
    "without a limit, version 1": cgroup1("1GB", 0),
    "with a limit for pages of another size": both(cgroup2("1GB", 0), cgroup2("2MB", 8 * GIB)),
    "with too small a limit": cgroup2("1GB", 4 * GIB),
    "below the path of the process": both(
        put("/proc/self/cgroup", "0::/kubepods.slice/pod1\n"),
        put("/sys/fs/cgroup/kubepods.slice/pod1/hugetlb.1GB.max", "0\n"),
    ),
}


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_that_may_not_use_the_nodes_pages_does_not_fit(pod: str, tmp_path: Path) -> None:
    change: Break = PODS[pod]
    change(trees.healthy(tmp_path))
    plan = make_plan(TUTORIAL, read_supply(trees.host(tmp_path)))
    problem = next(one for one in plan.problems if one.code == "memory-free")
    assert "this process's cgroup may have" in problem.message
    assert "hugetlb.1GB." in problem.message
    assert "resources.limits hugepages-1Gi: 8Gi" in problem.nearest


@pytest.mark.parametrize("pod", PODS)
def test_run_refuses_it_before_it_launches(pod: str, tmp_path: Path) -> None:
    change: Break = PODS[pod]
    change(trees.healthy(tmp_path))
    request = CapacityRequest(name="a", image=tmp_path / "a.eif", image_size=1 << 20, memory_mib=8192, cpus=4)
    with pytest.raises(HostError, match="cgroup may have") as caught:
        CapacityCheck(tmp_path).require(request, (), last_end=0)
    assert caught.value.code == "memory-free"
    assert "hugepages-1Gi: 8Gi" in str(caught.value.hint)


def test_pages_that_the_kernel_may_still_make_help_only_where_a_size_has_no_limit(tmp_path: Path) -> None:
    cgroup2("1GB", 0)(trees.healthy(tmp_path))
    for size in ("1048576kB", "2048kB"):
        trees.write(tmp_path, f"/sys/kernel/mm/hugepages/hugepages-{size}/nr_overcommit_hugepages", "9999\n")
    request = CapacityRequest(name="a", image=tmp_path / "a.eif", image_size=1 << 20, memory_mib=8192, cpus=4)
    CapacityCheck(tmp_path).require(request, (), last_end=0)  # nitro-cli may get pages of 2 MiB
    cgroup2("2MB", 0)(tmp_path)
    with pytest.raises(HostError, match="cgroup may have"):
        CapacityCheck(tmp_path).require(request, (), last_end=0)


def test_a_pod_with_the_right_limit_fits(tmp_path: Path) -> None:
    cgroup2("1GB", 8 * GIB)(trees.healthy(tmp_path))
    assert make_plan(TUTORIAL, read_supply(trees.host(tmp_path))).fits
    request = CapacityRequest(name="a", image=tmp_path / "a.eif", image_size=1 << 20, memory_mib=8192, cpus=4)
    CapacityCheck(tmp_path).require(request, (), last_end=0)


def test_the_command_shows_what_the_pod_may_have(tmp_path: Path) -> None:
    cgroup2("1GB", 2 * GIB)(trees.healthy(tmp_path / "host"))
    arguments = ["plan", "--host-root", tmp_path / "host"]
    done = enclavectl(*arguments, "--output", "json", home=tmp_path)
    assert done.status == 3
    assert cast("dict[str, object]", done.json()["host"])["page_limits"] == {"1024 MiB": 2048}
    text = enclavectl(*arguments, home=tmp_path)
    assert "2048 MiB of them are for this process" in text.out
    assert "; or --memory 2048 now" in text.err
