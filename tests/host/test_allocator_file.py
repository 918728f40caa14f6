"""allocator.yaml: what AWS's own line parser makes of a file, and what we make of what a person wrote."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enclavectl.host.allocator_edit import edit_allocator
from enclavectl.host.cpu_list import format_cpu_list, parse_cpu_list
from enclavectl.host.reservation import AllocatorError, Reservation, parse_allocator

TUTORIAL = Reservation(memory_mib=8192, cpu_count=4)
# What the package ships, in its form.
SHIPPED = (
    b"---\n# Enclave configuration file.\n#\n# How much memory.\nmemory_mib: 512\n#\n# How many CPUs.\n"
    b"cpu_count: 2\n#\n# Or these:\n# cpu_pool: 2,3,6-9\n"
)
# The table of traps, row by row: what breaks the parser, and a word of the reason that we give.
REFUSED = {
    "no mark": (b"memory_mib: 512\ncpu_count: 2\n", "exactly ---"),
    "CRLF": (b"---\r\nmemory_mib: 512\r\ncpu_count: 2\r\n", "CRLF"),
    "CRLF in one line": (b"---\nmemory_mib: 512\r\ncpu_count: 2\n", "CRLF"),
    "empty line": (b"---\n\nmemory_mib: 512\ncpu_count: 2\n", "empty line"),
    "closing mark": (b"---\nmemory_mib: 512\ncpu_count: 2\n...\n", "found '...'"),
    "unknown key": (b"---\nmemory_mib: 512\ncpu_count: 2\nfoo: 1\n", "4: expected one of .* found 'foo'"),
    "no newline at the end": (b"---\nmemory_mib: 512\ncpu_count: 2", "no newline"),
    "inline comment": (b"---\nmemory_mib: 512 # half gig\ncpu_count: 2\n", "comment behind"),
    "single quotes": (b"---\nmemory_mib: '512'\ncpu_count: 2\n", "whole number"),
    "quotes without a blank": (b'---\nmemory_mib:"512"\ncpu_count: 2\n', "whole number"),
    "both CPU keys": (b"---\nmemory_mib: 512\ncpu_count: 2\ncpu_pool: 2,3\n", "both"),
    "no memory": (b"---\ncpu_count: 2\n", "no memory_mib"),
    "no CPUs": (b"---\nmemory_mib: 512\n", "no cpu_count"),
    "no value": (b"---\nmemory_mib:\ncpu_count: 2\n", "no value"),
    "octal": (b"---\nmemory_mib: 0512\ncpu_count: 2\n", "whole number"),
    "no CPU": (b"---\nmemory_mib: 512\ncpu_count: 0\n", "at least one CPU"),
    "joined lines": (b"---\n# a \\\nmemory_mib: 512\ncpu_count: 2\n", "joins"),
    "not UTF-8": (b"---\n# caf\xe9\nmemory_mib: 512\ncpu_count: 2\n", "yaml:2: expected UTF-8"),
    "a bad line that a later one replaces": (
        b'---\nmemory_mib: "\nmemory_mib: 512\ncpu_count: 2\n',
        "yaml:2: memory_mib: expected a whole number",
    ),
    "nothing": (b"", "exactly ---"),
    "too much memory": (
        b"---\nmemory_mib: 99999999999999\ncpu_count: 2\n",
        "yaml:2: memory_mib: too large: expected at most 1099511627776, found 99999999999999",
    ),
    "too many CPUs": (b"---\nmemory_mib: 512\ncpu_count: 99999999999999\n", "yaml:3: cpu_count: too large"),
    "more digits than Python reads": (
        b"---\nmemory_mib: " + b"9" * 5000 + b"\ncpu_count: 2\n",
        "yaml:2: memory_mib: too large",
    ),
}
ACCEPTED = {
    "shipped": (SHIPPED, Reservation(memory_mib=512, cpu_count=2)),
    "double quotes": (b'---\nmemory_mib: "512"\ncpu_count: "2"\n', Reservation(memory_mib=512, cpu_count=2)),
    "the last one wins": (
        b"---\nmemory_mib: 1\nmemory_mib: 512\ncpu_count: 2\n",
        Reservation(memory_mib=512, cpu_count=2),
    ),
    "pool with blanks": (
        b"---\nmemory_mib: 512\ncpu_pool: 2, 3, 6-9\n",
        Reservation(memory_mib=512, cpu_pool=frozenset({2, 3, 6, 7, 8, 9})),
    ),
    "sorted keys, as PyYAML dumps": (
        b"---\ncpu_count: 4\nmemory_mib: 8192\n",
        TUTORIAL,
    ),
    "blank lines and keys before the mark": (
        b"\nfoo: 1\n---\nmemory_mib: 512\ncpu_count: 2\n",
        Reservation(memory_mib=512, cpu_count=2),
    ),
}


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


ALLOCATOR = os.environ.get("ENCLAVECTL_TEST_ALLOCATOR")
REAL = pytest.mark.skipif(
    not ALLOCATOR, reason="ENCLAVECTL_TEST_ALLOCATOR names no nitro-enclaves-allocator script of AWS's"
)


def aws_reads(data: bytes, folder: Path) -> dict[str, str] | None:
    """What AWS's script, sourced without its last line, takes from a file; None if it ends with an error."""
    script = Path(ALLOCATOR or "").read_text().rstrip().removesuffix('main "$@"')
    (folder / "allocator.yaml").write_bytes(data)
    (folder / "script").write_text(
        f"{script}\nCONFIG_FILE_PATH={folder}/allocator.yaml\nparse_config\n"
        'for key in memory_mib cpu_count cpu_pool; do echo "$key=${CONFIG[$key]}"; done\n'
    )
    done = subprocess.run(["bash", folder / "script"], capture_output=True, check=False, timeout=30)
    if done.returncode != 0:
        return None
    return dict(line.split("=", 1) for line in done.stdout.decode("utf-8", "replace").splitlines())


def as_words(reservation: Reservation) -> dict[str, str]:
    values = {"memory_mib": "", "cpu_count": "", "cpu_pool": ""}
    return values | {key: line.partition(": ")[2] for key, line in reservation.lines.items()}


@REAL
@pytest.mark.nitro_cli
@pytest.mark.parametrize("row", [*REFUSED, "hand"])
def test_awss_own_script_takes_what_we_write(row: str, tmp_path: Path) -> None:
    hand = b"# \xff\r\n\r\nmemory_mib: '1' # x\\\r\n"
    data = edit_allocator(REFUSED[row][0] if row in REFUSED else hand, TUTORIAL, "allocator.yaml")
    assert aws_reads(data, tmp_path) == as_words(TUTORIAL)


@REAL
@pytest.mark.nitro_cli
@pytest.mark.parametrize("row", ACCEPTED)
def test_awss_own_script_takes_what_our_model_of_it_takes(row: str, tmp_path: Path) -> None:
    data, expected = ACCEPTED[row]
    found = aws_reads(data, tmp_path)
    assert found is not None
    found["cpu_pool"] = format_cpu_list(parse_cpu_list(found["cpu_pool"]))
    assert found == as_words(expected)


@REAL
@pytest.mark.nitro_cli
def test_awss_own_script_takes_what_is_made_of_what_a_person_wrote(tmp_path: Path) -> None:
    @settings(max_examples=40)  # each starts a shell and some dozens of programs
    @given(HAND, WANTED)
    def check(hand: str, wanted: Reservation) -> None:
        edited = edit_allocator(hand.encode(), wanted, "allocator.yaml")
        assert aws_reads(edited, tmp_path) == as_words(wanted)

    check()


def test_the_example_has_the_tutorials_values() -> None:
    example = Path(__file__).resolve().parents[2] / "configs" / "allocator.yaml"
    assert parse_allocator(example.read_bytes()) == TUTORIAL
