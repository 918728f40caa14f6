"""An enclave as a gateway's destination: its label is the policies' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.backends.base import ProcessEnclave
from enclavectl.backends.state import EnclaveState
from enclavectl.cli.announcing import destination_of, release_label
from enclavectl.errors import UsageError
from enclavectl.label import label_of
from enclavectl.net.address import UnixAddress
from enclavectl.trust import Trust

CODE = {index: bytes([index + 1]) * 48 for index in range(3)}


def enclave(measured: dict[int, bytes] | None) -> ProcessEnclave:
    return ProcessEnclave(
        enclave_id="enc1",
        module_id=None,
        name="one",
        backend="local",
        trust=Trust.SIMULATED,
        state=EnclaveState.RUNNING,
        debug=False,
        is_owned=False,
        pid=1,
        started=None,
        memory_mib=None,
        model_id=None,
        model_sha256=None,
        measured=measured,
        address=UnixAddress(Path("/x")),
    )


@pytest.mark.parametrize("more", [{}, {8: b"8" * 48}, {16: b"m" * 48}, {8: b"8" * 48, 16: b"m" * 48}])
def test_the_label_is_that_of_the_enclaves_release_in_a_policy(more: dict[int, bytes]) -> None:
    pcrs = CODE | more
    assert release_label(enclave(pcrs)) == label_of(pcrs, model=16 in pcrs)
    assert destination_of(enclave(pcrs)).release == label_of(pcrs, model=16 in pcrs)


@pytest.mark.parametrize("measured", [None, {}, {0: b"0" * 48}])
def test_an_enclave_that_was_not_measured_has_no_label(measured: dict[int, bytes] | None) -> None:
    with pytest.raises(UsageError, match="unknown"):
        release_label(enclave(measured))
