"""The arithmetic of memory, CPUs and boot times, and the plan that is made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.limits import MIN_DECODERS, Limits
from enclavectl.eif.errors import EifError
from enclavectl.eif.format import SectionKind
from enclavectl.errors import HostError, UsageError
from enclavectl.host.memory import (
    NITRO_CLI_SIZES_MIB,
    mib_of,
    reserve_pages,
    take_pages,
)
from enclavectl.host.plan import Plan, Supply, largest, make_plan, read_supply
from enclavectl.host.requirements import (
    MIN_WORKERS,
    PAYLOAD_BASE_MIB,
    PICTURE_MIB,
    Demand,
    EifFacts,
    payload_memory_mib,
    read_eif,
    round_to_region,
)
from enclavectl.nitro_cli.limits import boot_bound_s, minimum_memory_mib
from tests.cli.command import enclavectl
from tests.eif import samples
from tests.host import trees

GIB, MIB = 1 << 30, 1 << 20


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, 64),
        (16 * MIB, 64),
        (16 * MIB + 1, 68),
        (17 * MIB, 68),
        (500 * MIB, 2000),
        (10 * GIB, 40_960),
    ],
)
def test_memory_is_four_times_the_image_and_at_least_the_drivers_minimum(size: int, expected: int) -> None:
    assert minimum_memory_mib(size) == expected
    assert image(size).min_memory_mib == expected


@pytest.mark.parametrize(
    ("eif", "memory_mib", "expected"),
    [
        (1, 64, 180),
        (6 * GIB, 8192, 180),
        (6 * GIB + 1, 8192, 270),
        (1, 100 * 1024, 180),
        (1, 100 * 1024 + 1, 270),
        (20 * GIB, 250 * 1024, 90 * 4 + 90 * 3),
    ],
)
def test_the_boot_bound_is_nitro_clis_formula(eif: int, memory_mib: int, expected: int) -> None:
    assert boot_bound_s(eif, memory_mib) == expected


def test_odd_sizes_are_rounded_to_the_drivers_regions() -> None:
    assert [round_to_region(mib) for mib in (63, 64, 65)] == [64, 64, 66]


@pytest.mark.parametrize(
    ("free", "wanted", "expected"),
    [
        ({1024: 8}, 8192, {1024: 8}),
        ({1024: 8, 2: 0}, 256, {1024: 1}),  # over-allocation
        ({1024: 8, 2: 128}, 256, {2: 128}),
        ({1024: 8, 2: 100}, 256, {1024: 1}),  # the small ones turn out to be surplus
        ({1024: 1, 2: 512}, 2048, {1024: 1, 2: 512}),
        ({1024: 2, 2: 10}, 1044, {1024: 1, 2: 10}),
        ({1024: 2, 2: 9}, 1044, {1024: 2}),
        ({1024: 1, 2: 9}, 1044, None),
        ({}, 64, None),
        ({64: 100}, 64, None),  # a size that nitro-cli does not look for
        ({32: 3, 2: 4}, 70, {32: 2, 2: 3}),
    ],
)
def test_pages_are_taken_as_nitro_cli_takes_them(
    free: dict[int, int], wanted: int, expected: dict[int, int] | None
) -> None:
    assert take_pages(free, wanted) == expected


@given(
    st.dictionaries(st.sampled_from(NITRO_CLI_SIZES_MIB), st.integers(0, 50)),
    st.integers(1, 60_000).map(lambda n: 2 * n),
)
def test_what_is_taken_suffices_is_there_and_has_no_page_too_many(free: dict[int, int], wanted: int) -> None:
    taken = take_pages(free, wanted)
    if taken is None:
        assert mib_of(free) < wanted
        return
    assert all(0 < count <= free[size] for size, count in taken.items())
    assert mib_of(taken) >= wanted
    assert all(mib_of(taken) - size < wanted for size in taken)


@pytest.mark.parametrize(
    ("sizes", "wanted", "expected"),
    [
        ({1024, 2}, 8192, {1024: 8}),
        ({1024, 2}, 8193, {1024: 8, 2: 1}),
        ({1024, 2}, 512, {2: 256}),
        ({1024}, 512, {1024: 1}),
        (set(), 512, {}),
    ],
)
def test_pages_are_reserved_as_the_allocator_reserves_them(
    sizes: set[int], wanted: int, expected: dict[int, int]
) -> None:
    assert reserve_pages(frozenset(sizes), wanted) == expected


def supply(folder: Path) -> Supply:
    return read_supply(trees.host(folder))


def image(size: int, arch: str = "amd64") -> EifFacts:
    return EifFacts(path=Path("a.eif"), size=size, arch=arch)


def codes(plan: Plan) -> list[str]:
    return [problem.code for problem in plan.problems]


TUTORIAL = Demand(memory_mib=8192, cpus=4)


def test_the_tutorials_enclave_fits_the_tutorials_host(tmp_path: Path) -> None:
    plan = make_plan(TUTORIAL, supply(trees.healthy(tmp_path)))
    assert plan.fits
    assert plan.pages == {1024: 8}
    assert plan.boot_bound_s == 180
    assert plan.allocator.lines == {"memory_mib": "memory_mib: 8192", "cpu_count": "cpu_count: 4"}
    assert plan.notes == ()


def test_an_image_that_needs_more_than_was_configured_gets_more(tmp_path: Path) -> None:
    plan = make_plan(replace(TUTORIAL, eif=image(3 * GIB)), supply(trees.healthy(tmp_path)))
    assert plan.wanted.needed_mib == 12_288
    assert codes(plan) == ["memory-free"]
    assert plan.problems[0].nearest == "enclavectl setup --memory 12288 --cpus 4"
    # 8192 MiB are free, but too few for this image; for a smaller one they are the nearest.
    smaller = make_plan(Demand(memory_mib=12_288, cpus=4, eif=image(MIB)), supply(tmp_path))
    assert smaller.problems[0].nearest.endswith("; or --memory 8192 now")


def test_memory_that_was_named_and_is_below_the_minimum_is_a_problem(tmp_path: Path) -> None:
    wanted = Demand(memory_mib=1000, cpus=2, eif=image(500 * MIB), is_exact=True)
    plan = make_plan(wanted, supply(trees.healthy(tmp_path)))
    assert codes(plan) == ["memory-below-minimum"]
    assert plan.problems[0].nearest == "--memory 2000, or an image of at most 250 MiB"


def test_half_a_core_is_a_problem_with_threads_and_none_without(tmp_path: Path) -> None:
    odd = Demand(memory_mib=1024, cpus=3)
    plan = make_plan(odd, supply(trees.healthy(tmp_path)))
    assert codes(plan) == ["split-core"]
    assert plan.problems[0].nearest == "--cpus 4"
    # The pool has 4: for 5 the next smaller number is nearer than one that it has not.
    assert make_plan(replace(odd, cpus=5), supply(tmp_path)).problems[0].nearest == "--cpus 4"
    trees.cpus(tmp_path, cores=16, threads=1, offline="1-4")
    assert make_plan(odd, supply(tmp_path)).fits


def test_more_cpus_than_the_pool_has(tmp_path: Path) -> None:
    plan = make_plan(Demand(memory_mib=1024, cpus=6), supply(trees.healthy(tmp_path)))
    assert codes(plan) == ["cpus-free"]
    assert plan.problems[0].nearest == "enclavectl setup --memory 1024 --cpus 6; or --cpus 4 now"


def test_more_than_the_host_has_says_what_it_could_give(tmp_path: Path) -> None:
    """CPU 0's core stays with the parent, and so does a gibibyte."""
    found = supply(trees.healthy(tmp_path))
    plan = make_plan(Demand(memory_mib=65_536, cpus=16), found)
    assert codes(plan) == ["cpus-free", "memory-free"]
    assert largest(found, plan.wanted) == (63_000 - 1024, 14)
    assert "can keep 61976 MiB and 14 CPUs for enclaves at most; 4 CPUs free" in plan.problems[0].nearest
    assert "8192 MiB free now" in plan.problems[1].nearest


def test_what_runs_is_not_free_and_stays_reserved(tmp_path: Path) -> None:
    trees.pages(trees.healthy(tmp_path), 1024, 8, 4)
    trees.enclave(tmp_path)
    found = read_supply(trees.host(tmp_path), used_cpus=frozenset({1, 9}))
    plan = make_plan(TUTORIAL, found)
    assert codes(plan) == ["cpus-free", "memory-free"]
    assert found.free_cpus == trees.pool(2, 10)
    # 4096 in use, 8192 more, and a page of slack
    assert plan.allocator.to_json() == {"memory_mib": 13_312, "cpu_count": 6, "cpu_pool": None}
    assert plan.problems[0].nearest.startswith("end the enclaves that run, then enclavectl setup")
    assert make_plan(Demand(memory_mib=2048, cpus=2), found).fits


def test_cpus_of_enclaves_that_nobody_described_are_said_to_be_unknown(tmp_path: Path) -> None:
    trees.enclave(trees.healthy(tmp_path))
    found = supply(tmp_path)
    assert found.free_cpus is None
    assert any("not known" in note for note in make_plan(TUTORIAL, found).notes)


def test_four_enclaves_are_all_that_an_instance_takes(tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    for slot in "abcd":
        trees.enclave(tmp_path, slot)
    assert "too-many-enclaves" in codes(make_plan(TUTORIAL, supply(tmp_path)))


def test_over_allocation_is_shown(tmp_path: Path) -> None:
    plan = make_plan(Demand(memory_mib=256, cpus=2), supply(trees.healthy(tmp_path)))
    assert plan.fits
    assert plan.notes == ("nitro-cli will take 1024 MiB for 256: whole pages of 1024 MiB",)


def test_only_the_pools_node_counts(tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    trees.cpus(tmp_path, cores=16, threads=2, nodes=2, offline="9-10,25-26")
    trees.memory(tmp_path, nodes=2, total_mib=126_000)
    trees.pages(tmp_path, 1024, 8, node=0)
    trees.pages(tmp_path, 1024, 2, node=1)
    plan = make_plan(TUTORIAL, supply(tmp_path))
    assert codes(plan) == ["memory-free"]
    assert "NUMA node 1, 2048 of 2048 MiB are free" in plan.problems[0].message
    small = make_plan(Demand(memory_mib=2048, cpus=4), supply(tmp_path))
    assert small.fits
    assert "numactl --membind=1" in small.notes[0]


def test_a_pool_on_two_nodes_is_a_problem(tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    trees.cpus(tmp_path, cores=8, threads=1, nodes=2, offline="3-4")
    assert "pool-nodes" in codes(make_plan(Demand(memory_mib=1024, cpus=2), supply(tmp_path)))


def test_an_image_for_other_cpus_is_a_problem(tmp_path: Path) -> None:
    plan = make_plan(replace(TUTORIAL, eif=image(MIB, "arm64")), supply(trees.healthy(tmp_path)))
    assert codes(plan) == ["architecture"]


def test_a_laptop_is_told_what_it_is_not(tmp_path: Path) -> None:
    plan = make_plan(TUTORIAL, supply(trees.laptop(tmp_path)))
    assert codes(plan) == ["no-driver", "host-too-small"]


def test_a_host_without_the_driver_is_large_enough_for_as_much_as_it_could_give(tmp_path: Path) -> None:
    here = supply(trees.laptop(tmp_path))
    memory_mib, cpus = largest(here, TUTORIAL)
    most = replace(TUTORIAL, memory_mib=memory_mib, cpus=cpus)
    assert codes(make_plan(most, here)) == ["no-driver"]
    for more in (replace(most, cpus=cpus + 1), replace(most, memory_mib=memory_mib + 2)):
        assert codes(make_plan(more, here)) == ["no-driver", "host-too-small"]


def test_an_image_is_measured_by_its_headers(tmp_path: Path) -> None:
    (tmp_path / "a.eif").write_bytes(samples.image())
    facts = read_eif(tmp_path / "a.eif")
    assert facts.size == len(samples.image())
    assert facts.arch == "amd64"
    (tmp_path / "b.eif").write_bytes(b"not an image")
    with pytest.raises(EifError):
        read_eif(tmp_path / "b.eif")
    with pytest.raises(UsageError, match="no such image file"):
        read_eif(tmp_path / "c.eif")


def test_the_command_answers_in_json_and_in_words(tmp_path: Path) -> None:
    trees.healthy(tmp_path / "host")
    (tmp_path / "a.eif").write_bytes(samples.image())
    arguments = ["plan", tmp_path / "a.eif", "--host-root", tmp_path / "host"]
    done = enclavectl(*arguments, "--output", "json", home=tmp_path)
    assert done.status == 0, done.err
    answer = done.json()
    assert answer["schema"] == "enclavectl.plan/1"
    assert answer["fits"] is True
    assert answer["takes"] == {"memory_mib": 8192, "pages": {"1024 MiB": 8}, "over_mib": 0}
    assert answer["after"] == {"memory_mib": 0, "cpus": 0}
    assert answer["allocator"] == {"memory_mib": 8192, "cpu_count": 4, "cpu_pool": None}
    text = enclavectl(*arguments, home=tmp_path)
    assert "free after" in text.out
    assert "8 x 1024 MiB" in text.out


@pytest.mark.parametrize("is_configured", [False, True])
def test_a_chosen_size_below_the_minimum_does_not_fit_wherever_it_was_chosen(
    tmp_path: Path, is_configured: bool
) -> None:
    """`run` refuses both, so a plan that raised a configured one in silence was wrong."""
    trees.healthy(tmp_path / "host")
    with (tmp_path / "a.eif").open("wb") as file:
        file.write(samples.image([*samples.sections(), (SectionKind.RAMDISK, bytes(40 << 20))]))
    (tmp_path / "c.yaml").write_text("enclave:\n  memory_mib: 128\n")
    chosen = ("--config", tmp_path / "c.yaml") if is_configured else ("--memory", "128")
    arguments = ("plan", tmp_path / "a.eif", "--host-root", tmp_path / "host", *chosen, "--output", "json")
    done = enclavectl(*arguments, home=tmp_path)
    assert done.status == 3, done.err
    assert [problem["code"] for problem in done.json()["problems"]] == ["memory-below-minimum"]


def test_the_command_ends_with_3_where_it_does_not_fit(tmp_path: Path) -> None:
    trees.healthy(tmp_path / "host")
    done = enclavectl(
        *("plan", "--memory", "16384", "--cpus", "5", "--host-root", tmp_path / "host", "--output", "json"),
        home=tmp_path,
    )
    assert done.status == 3
    problems = cast("list[dict[str, str]]", done.json()["problems"])
    assert [problem["code"] for problem in problems] == ["split-core", "cpus-free", "memory-free"]
    assert all(problem["nearest"] for problem in problems)
    text = enclavectl("plan", "--memory", "16384", "--host-root", tmp_path / "host", home=tmp_path)
    assert text.status == 3
    assert "nearest that would" in text.err


def test_this_machine_can_be_planned_for_whatever_it_is(tmp_path: Path) -> None:
    done = enclavectl("plan", "--output", "json", home=tmp_path)
    assert done.status in {0, 3}
    assert done.json()["schema"] == "enclavectl.plan/1"


def test_a_host_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    done = enclavectl("plan", "--host-root", tmp_path / "none", "--output", "json", home=tmp_path)
    assert done.status == 2
    assert "folder with a host's files" in str(done.error()["message"])


def test_the_payloads_worst_case_is_that_of_its_own_limits() -> None:
    assert Limits().picture_memory_bytes == PICTURE_MIB * MIB
    assert Limits().base_memory_bytes == PAYLOAD_BASE_MIB * MIB
    assert MIN_WORKERS == MIN_DECODERS
    assert payload_memory_mib(1) == payload_memory_mib(2) == 600 + 2 * 896
    assert payload_memory_mib(4) == 600 + 4 * 896


@pytest.mark.parametrize(("memory_mib", "words"), [(8192, "which it has"), (1024, "decoder-failed")])
def test_the_plan_shows_the_payloads_worst_case(tmp_path: Path, memory_mib: int, words: str) -> None:
    trees.healthy(tmp_path / "host")
    size = ("--memory", memory_mib, "--cpus", 4, "--host-root", tmp_path / "host")
    shown = " ".join(enclavectl("plan", *size, home=tmp_path).out.split())
    assert "takes 4184 MiB at worst" in shown
    assert words in shown
    found = enclavectl("plan", *size, "--output", "json", home=tmp_path).json()
    assert found["needs"]["payload_memory_mib"] == 4184


def test_an_image_that_cannot_be_read_says_so() -> None:
    with pytest.raises(HostError, match=r"^/proc/self/mem: reading failed"):
        read_eif(Path("/proc/self/mem"))  # its first page is nobody's
