"""What nitro-cli prints, read: all of it, of several releases, and nothing but one exception for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.json_object import JsonError, JsonObject, JsonValue
from enclavectl.nitro_cli.answers import Registers, RunInfo
from enclavectl.nitro_cli.build_enclave import BuildInfo
from enclavectl.nitro_cli.describe_enclaves import DescribeInfo, NitroState
from enclavectl.nitro_cli.stream import MAX_BYTES, json_values, objects, one_object
from enclavectl.nitro_cli.terminate_enclave import TerminateInfo
from enclavectl.nitro_cli.version import NitroVersion

ID = "i-0123456789abcdef0-enc1904e4fea1636f6"
RUN: dict[str, JsonValue] = {
    "EnclaveName": "app",
    "EnclaveID": ID,
    "ProcessID": 6383,
    "EnclaveCID": 16,
    "NumberOfCPUs": 2,
    "CPUIDs": [1, 3],
    "MemoryMiB": 1024,
}
PCRS: dict[str, JsonValue] = {
    "HashAlgorithm": "Sha512_48 { .. }",
    "PCR0": "0" * 96,
    "PCR1": "a" * 96,
    "PCR2": "B" * 96,
}
DESCRIBED: dict[str, JsonValue] = {**RUN, "State": "RUNNING", "Flags": "DEBUG_MODE", "Measurements": PCRS}
READERS: list[Callable[[JsonObject], object]] = [
    RunInfo.from_json,
    DescribeInfo.from_json,
    TerminateInfo.from_json,
    BuildInfo.from_json,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_run_enclave_and_back() -> None:
    info = RunInfo.from_json(JsonObject(RUN))
    assert (info.enclave_id, info.name, info.cid, info.cpu_ids, info.memory_mib) == (
        ID,
        "app",
        16,
        (1, 3),
        1024,
    )
    assert RunInfo.from_json(JsonObject.of(info.to_json())) == info
    assert info.to_json() == RUN


@given(
    st.builds(
        RunInfo,
        enclave_id=st.from_regex(r"[a-z0-9]{1,9}-enc[0-9a-f]{1,16}", fullmatch=True),
        name=st.none() | st.text(max_size=40),
        process_id=st.integers(0, 2**32 - 1),
        cid=st.integers(0, 2**32 - 1),
        cpu_ids=st.lists(st.integers(0, 999), max_size=4).map(tuple),
        memory_mib=st.integers(0, 2**40),
    )
)
def test_every_answer_survives_its_own_json(info: RunInfo) -> None:
    assert RunInfo.from_json(JsonObject.parse(json.dumps(info.to_json()).encode())) == info


def test_describe_enclaves() -> None:
    info = DescribeInfo.from_json(JsonObject({**DESCRIBED, "Metadata": {"DockerInfo": "x"}, "New": 1}))
    assert (info.state, info.debug) == (NitroState.RUNNING, True)
    assert info.registers is not None
    assert info.registers.values == {"PCR0": "0" * 96, "PCR1": "a" * 96, "PCR2": "b" * 96}
    assert "DockerInfo" not in repr(info)  # it may hold secrets of the image's environment


@pytest.mark.parametrize("text", ["", "--all", "i-0-enc../../tmp/x", "i-0-enc1 x", "i-0\x1b[2J", "a" * 200])
def test_an_id_that_is_an_option_or_a_path_is_none(text: str) -> None:
    """Any user's process may answer, and its id becomes an argument of terminate-enclave."""
    with pytest.raises(JsonError, match="EnclaveID"):
        RunInfo.from_json(JsonObject({**RUN, "EnclaveID": text}))


def test_what_old_daemons_leave_out() -> None:
    old = {key: value for key, value in DESCRIBED.items() if key not in ("EnclaveName", "Measurements")}
    info = DescribeInfo.from_json(JsonObject({**old, "Flags": "NONE", "State": "SLEEPING"}))
    assert (info.run.name, info.registers, info.debug, info.state) == (None, None, False, NitroState.UNKNOWN)


def test_the_other_answers() -> None:
    assert TerminateInfo.from_json(JsonObject({"EnclaveID": ID, "Terminated": True})).terminated
    assert BuildInfo.from_json(JsonObject({"Measurements": PCRS})).registers.values["PCR0"] == "0" * 96


@pytest.mark.parametrize(
    ("key", "value"),
    [("ProcessID", "3"), ("ProcessID", 3.0), ("EnclaveCID", True), ("EnclaveCID", 2**32), ("CPUIDs", ["1"])],
)
def test_numbers_are_not_coerced(key: str, value: JsonValue) -> None:
    with pytest.raises(JsonError, match=key):
        RunInfo.from_json(JsonObject({**RUN, key: value}))


@pytest.mark.parametrize("read", READERS)
@given(st.dictionaries(st.sampled_from([*DESCRIBED, "Terminated"]), JSON))
def test_readers_are_total(read: Callable[[JsonObject], object], value: dict[str, JsonValue]) -> None:
    try:
        read(JsonObject(value))
    except JsonError:
        return


@pytest.mark.parametrize("register", ["0" * 95, "x" * 96, 1, None])
def test_a_register_is_96_hex_digits(register: JsonValue) -> None:
    with pytest.raises(JsonError):
        Registers.from_json(JsonObject({"PCR0": register}))


def pretty(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def test_arrays_and_objects_in_a_row_are_the_same() -> None:
    one, two = {"a": 1}, {"b": [2]}
    for data in (pretty([one, two]), pretty(one) + pretty(two)):
        assert [found.members for found in objects(data)] == [one, two]
    assert objects(b"") == objects(b"[]\n") == []


def test_a_console_after_the_object_is_not_json() -> None:
    console = b"Connecting to the console for enclave 16...\n[    0.000000] Linux version\r\n\xff"
    values, rest = json_values(pretty(RUN) + console)
    assert values == [RUN]
    assert rest.startswith("Connecting")
    bracket = b"[    0.000000] Linux {"
    assert json_values(pretty(RUN) + bracket) == ([RUN], bracket.decode())
    assert one_object(pretty(RUN) + console).members == RUN


@pytest.mark.parametrize(
    "data", [b"", b"no JSON", b"{", b"[1, 2]", b"[[]]", b'{"a": }', b"[" * 100_000, b" " * (MAX_BYTES + 1)]
)
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(JsonError):
        one_object(data)


@given(st.binary(max_size=60))
def test_streams_are_total(data: bytes) -> None:
    try:
        objects(data)
    except JsonError:
        return


def test_too_many_values() -> None:
    with pytest.raises(JsonError, match="1024"):
        json_values(b"{}" * 1025)


@pytest.mark.parametrize("text", ["Nitro CLI 1.5.0", "Nitro CLI 1.5.0\n", "nitro-cli 1.5.0 (abc)"])
def test_versions(text: str) -> None:
    assert str(NitroVersion.from_text(text)) == "1.5.0"


@pytest.mark.parametrize("text", ["", "Nitro CLI", "1.5", "x" * 500 + " 1.5.0"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="such as Nitro CLI"):
        NitroVersion.from_text(text)
