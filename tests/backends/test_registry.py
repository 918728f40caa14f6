from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclavectl.attestation import Policy, Release, Trust, TrustRoot, render_policy
from enclavectl.backends.base import Enclave, EnclaveSpec, ProcessEnclave, RunningEnclave
from enclavectl.backends.registry import (
    choose_backend,
    find_enclave,
    load_policy,
    only_running,
    require_running,
)
from enclavectl.backends.state import EnclaveState
from enclavectl.config.load import load_config
from enclavectl.errors import StateError, UsageError
from enclavectl.net.address import HostAddress, UnixAddress
from tests.in_process import PCRS

POLICY = Policy(accept=frozenset({Trust.SIMULATED}), releases=(Release(name="one", pcrs=PCRS),))


def enclave(name: str, enclave_id: str, state: EnclaveState = EnclaveState.RUNNING) -> Enclave:
    return ProcessEnclave(
        enclave_id=enclave_id,
        module_id=None,
        name=name,
        backend="listed",
        trust=Trust.SIMULATED,
        state=state,
        debug=False,
        is_owned=False,
        pid=None,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        memory_mib=256,
        model_id="m",
        model_sha256="00" * 32,
        measured=PCRS,
        address=UnixAddress(Path("/nowhere")),
    )


@dataclass(frozen=True)
class Listed:
    """A backend whose enclaves are a list, for what only looks at the list."""

    known: Sequence[Enclave]
    name: str = "listed"

    def enclaves(self) -> list[Enclave]:
        return list(self.known)

    def start(self, spec: EnclaveSpec, *, detached: bool) -> RunningEnclave:
        raise NotImplementedError

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        raise NotImplementedError

    def terminate(self, enclave: Enclave) -> None:
        raise NotImplementedError

    def trust_root(self) -> TrustRoot:
        raise NotImplementedError

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        raise NotImplementedError

    def outbound_address(self, port: int) -> HostAddress:
        raise NotImplementedError


FIRST, FIRSTBORN, SECOND = (
    enclave("first", "enc11aa"),
    enclave("firstborn", "enc11bb"),
    enclave("second", "enc22cc"),
)
BACKEND = Listed([FIRST, FIRSTBORN, SECOND])


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("first", FIRST),  # in full, though another begins so too
        ("firstb", FIRSTBORN),
        ("s", SECOND),
        ("enc11bb", FIRSTBORN),
        ("enc2", SECOND),
    ],
)
def test_a_name_or_id_or_its_start_finds_one(reference: str, found: Enclave) -> None:
    assert find_enclave(BACKEND, reference) is found


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("fir", r"expected one enclave, found several \(first, firstborn\)"),
        ("enc", r"found several \(first, firstborn, second\)"),
        ("fisrt", "no such enclave; .*first"),
        ("", "no such enclave"),
        ("FIRST", "no such enclave"),
    ],
)
def test_none_or_several_are_a_state_error(reference: str, message: str) -> None:
    with pytest.raises(StateError, match=message) as info:
        find_enclave(BACKEND, reference)
    assert info.value.hint


def test_where_none_runs_there_is_nothing_to_suggest() -> None:
    with pytest.raises(StateError, match="x: no enclave is running"):
        find_enclave(Listed([]), "x")


def test_a_name_that_others_use_too_means_ours_or_wants_the_id() -> None:
    ours = enclave("skin", "i-0-enc1")
    theirs = [replace(enclave("skin", f"i-0-enc{number}"), started=None, measured=None) for number in (2, 3)]
    assert find_enclave(Listed([ours, *theirs]), "skin") is ours
    assert find_enclave(Listed(theirs[:1]), "skin") is theirs[0]
    with pytest.raises(StateError, match=r"several of this name \(i-0-enc2, i-0-enc3\)"):
        find_enclave(Listed(theirs), "skin")
    assert find_enclave(Listed(theirs), "i-0-enc3") is theirs[1]


def test_a_dead_enclave_is_not_used() -> None:
    dead = replace(FIRST, state=EnclaveState.DEAD)
    with pytest.raises(StateError, match="expected a running enclave, found a dead one") as info:
        require_running(dead)
    assert "enclavectl console first" in str(info.value.hint)
    assert require_running(FIRST) is FIRST
    assert only_running([dead]) is None
    assert only_running([dead, SECOND]) is SECOND
    assert only_running([]) is None
    with pytest.raises(StateError, match="several enclaves are running: firstborn, second"):
        only_running([dead, FIRSTBORN, SECOND])


def test_an_enclave_that_a_command_owns_is_nobody_elses() -> None:
    owned = replace(FIRST, is_owned=True)
    assert only_running([owned]) is None
    assert only_running([owned, SECOND]) is SECOND
    with pytest.raises(StateError, match="belongs to the command that started it") as info:
        require_running(owned)
    assert info.value.code == "owned"
    assert find_enclave(Listed([owned]), "first") is owned  # describe, console and terminate may
    assert owned.to_json()["owned"] is True


def test_the_backend_is_the_one_that_was_chosen_and_local_where_there_is_no_nitro(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    for choice, name in (
        ("local", "local"),
        ("qemu", "qemu"),
        *([("auto", "local")] if not Path("/dev/nitro_enclaves").exists() else []),
    ):
        config = load_config(path=None, environ=environ, flags={"backend": choice})
        assert choose_backend(config).name == name


def test_a_policy_file_is_read_and_debug_is_allowed_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(render_policy(POLICY))
    assert load_policy(path, allow_debug=False) == POLICY
    assert load_policy(path, allow_debug=True) == replace(POLICY, unsafe_allow_debug=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "policy.yaml"),
        (b"\xff\xfe", "policy.yaml"),
        (b"x" * 600_000, "at most"),
        (b"a: [", "policy.yaml:1: while parsing"),
    ],
)
def test_what_is_no_policy_is_a_usage_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_policy(path, allow_debug=False)
    with pytest.raises(UsageError, match="no such policy"):
        load_policy(tmp_path / "absent", allow_debug=False)
