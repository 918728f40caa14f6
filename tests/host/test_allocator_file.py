"""allocator.yaml: what AWS's own line parser makes of a file, and what we make of what a person wrote."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enclavectl.host.allocator_edit import edit_allocator
from enclavectl.host.cpu_list import format_cpu_list, parse_cpu_list
from enclavectl.host.reservation import AllocatorError, Reservation, parse_allocator
from tests.host.allocator_files import ACCEPTED, REFUSED, SHIPPED, TUTORIAL, corpus


@pytest.mark.parametrize("row", REFUSED)
def test_what_the_allocator_cannot_take_is_refused_with_its_reason(row: str) -> None:
    data, reason = REFUSED[row]
    with pytest.raises(AllocatorError, match=reason) as caught:
        parse_allocator(data, "allocator.yaml")
    assert caught.value.message.startswith("allocator.yaml:")


@pytest.mark.parametrize("row", ACCEPTED)
def test_what_the_allocator_takes_is_read_as_it_reads_it(row: str) -> None:
    data, expected = ACCEPTED[row]
    assert parse_allocator(data) == expected


@pytest.mark.parametrize("row", REFUSED)
def test_every_trap_is_mended_by_an_edit(row: str) -> None:
    edited = edit_allocator(REFUSED[row][0], TUTORIAL, "allocator.yaml")
    assert parse_allocator(edited) == TUTORIAL


def test_an_edit_keeps_the_shipped_comments_and_changes_two_lines() -> None:
    edited = edit_allocator(SHIPPED, TUTORIAL, "allocator.yaml")
    assert edited == SHIPPED.replace(b"512", b"8192").replace(b"cpu_count: 2", b"cpu_count: 4")
    assert edit_allocator(edited, TUTORIAL, "allocator.yaml") is edited


def test_a_pool_in_place_of_a_number_removes_the_number() -> None:
    wanted = Reservation(memory_mib=1024, cpu_pool=frozenset({2, 3, 6, 7, 8}))
    edited = edit_allocator(SHIPPED, wanted, "allocator.yaml")
    assert parse_allocator(edited) == wanted
    assert b"cpu_pool: 2-3,6-8" in edited
    assert not re.search(rb"^cpu_count", edited, re.MULTILINE)


def test_what_a_person_wrote_stays_as_comments() -> None:
    hand = (
        b"# ours\r\n\r\n---\r\nmemory_mib: 4096  # four gigs\r\n'cpu_pool':\r\n  - 2\r\n"
        b"foo: bar # why\r\n# caf\xe9 \\\r\n..."
    )
    edited = edit_allocator(hand, TUTORIAL, "allocator.yaml")
    assert edited.splitlines() == [
        b"# ours",
        b"#",
        b"---",
        b"# four gigs",
        b"memory_mib: 8192",
        b"# - 2",
        b"# foo: bar # why",
        "# café \\ .".encode(),
        b"# ...",
        b"cpu_count: 4",
    ]


def test_a_list_of_reservations_is_left_alone() -> None:
    several = b"---\n- memory_mib: 512\n  cpu_count: 2\n- memory_mib: 512\n  cpu_pool: 2,3\n"
    with pytest.raises(AllocatorError, match=r"yaml:2: expected one reservation, found a list") as caught:
        edit_allocator(several, TUTORIAL, "allocator.yaml")
    assert "by hand" in str(caught.value.hint)


COMMENT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20).map(
    lambda text: "#" + text
)
VALUE = st.one_of(
    st.integers(0, 10**6).map(str),
    st.integers(0, 9999).map(lambda n: f"'{n}'"),
    st.integers(0, 9999).map(lambda n: f'"{n}"'),
    st.sampled_from(["2,3,6-9", "[1, 2]", "~", "|", "{a: b}", "'a # b'", ""]),
)
SETTING = st.builds(
    lambda indent, key, gap, value, comment: f"{indent}{key}:{gap}{value}{comment}",
    st.sampled_from(["", "", " ", "\t"]),
    st.sampled_from(["memory_mib", "cpu_count", "cpu_pool", '"memory_mib"', "foo", "memory_mib ", "- foo"]),
    st.sampled_from([" ", "", "  ", "\t"]),
    VALUE,
    st.one_of(st.just(""), COMMENT.map(lambda comment: " " + comment)),
)
LINE = st.one_of(
    SETTING,
    COMMENT,
    st.sampled_from(["", " ", "---", "...", "--- # x", "{memory_mib: 1}", "%YAML 1.2", "- 1"]),
)
HAND = st.builds(
    lambda lines, end, last: end.join(lines) + (end if last else ""),
    st.lists(LINE, max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
WANTED = st.one_of(
    st.builds(Reservation, memory_mib=st.integers(1, 1 << 30), cpu_count=st.integers(1, 10**4)),
    st.builds(
        Reservation,
        memory_mib=st.integers(1, 1 << 30),
        cpu_pool=st.frozensets(st.integers(0, 500), min_size=1),
    ),
)


@given(HAND, WANTED)
@example("memory_mib: 1 # \\\r---", TUTORIAL)
def test_whatever_a_person_wrote_the_edit_passes_and_keeps_every_comment(
    hand: str, wanted: Reservation
) -> None:
    data = hand.encode()
    edited = edit_allocator(data, wanted, "allocator.yaml")
    assert parse_allocator(edited) == wanted
    assert edit_allocator(edited, wanted, "allocator.yaml") == edited
    written = edited.decode()
    for line in re.split(r"\r\n|\n|\r", hand):
        if line.strip(" \t").startswith("#"):
            assert line.rstrip(" \t") in written


@given(st.binary(max_size=200), WANTED)
def test_any_bytes_at_all_become_a_file_that_passes(data: bytes, wanted: Reservation) -> None:
    assert parse_allocator(edit_allocator(data, wanted, "allocator.yaml")) == wanted


@given(st.frozensets(st.integers(0, 65_535), max_size=40))
def test_cpu_lists_round_trip(cpus: frozenset[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == cpus


@pytest.mark.parametrize("text", ["1-", "a", "3-1", "1,,2", "-1", "0-99999999", "1 2", "\u0661"])
def test_what_is_no_cpu_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="list of CPUs"):
        parse_cpu_list(text)


@dataclass(frozen=True)
class Verdict:
    """What AWS's script made of a file: its words for each key, or None if it ended with an error."""

    data: bytes
    takes: dict[str, str] | None


def verdicts() -> dict[str, Verdict]:
    table = json.loads((Path(__file__).parent / "allocator" / "verdicts.json").read_text())
    return {
        one["name"]: Verdict(data=one["file"].encode("latin-1"), takes=one["takes"])
        for one in table["verdicts"]
    }


VERDICTS = verdicts()
TAKEN = [name for name, one in VERDICTS.items() if one.takes is not None]


def as_words(reservation: Reservation) -> dict[str, str]:
    values = {"memory_mib": "", "cpu_count": "", "cpu_pool": ""}
    return values | {key: line.partition(": ")[2] for key, line in reservation.lines.items()}


def test_awss_verdict_is_recorded_on_every_file_as_it_is_today() -> None:
    """After a change of the edits or of the files: ``python -m tools.allocator_verdicts SCRIPT``."""
    assert {name: one.data for name, one in VERDICTS.items()} == corpus()
    assert len(VERDICTS) > 400
    assert len(TAKEN) > 200


@pytest.mark.parametrize("name", [name for name in VERDICTS if name.endswith(", edited")])
def test_awss_own_script_takes_what_we_write(name: str) -> None:
    one = VERDICTS[name]
    assert one.takes == as_words(parse_allocator(one.data))


@pytest.mark.parametrize("row", ACCEPTED)
def test_awss_own_script_takes_what_our_model_of_it_takes(row: str) -> None:
    found = dict(VERDICTS[row].takes or {})
    found["cpu_pool"] = format_cpu_list(parse_cpu_list(found["cpu_pool"]))
    assert found == as_words(ACCEPTED[row][1])


@pytest.mark.parametrize("name", VERDICTS)
def test_what_our_model_takes_awss_script_takes_for_the_same(name: str) -> None:
    one = VERDICTS[name]
    try:
        ours = parse_allocator(one.data)
    except AllocatorError:
        return  # stricter than the script, which is silent about some of what it drops
    assert one.takes is not None
    found = dict(one.takes)
    found["cpu_pool"] = format_cpu_list(parse_cpu_list(found["cpu_pool"]))
    assert found == as_words(ours)


def test_the_example_has_the_tutorials_values() -> None:
    example = Path(__file__).resolve().parents[2] / "configs" / "allocator.yaml"
    assert parse_allocator(example.read_bytes()) == TUTORIAL
