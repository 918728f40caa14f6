"""Enclaves as destinations of a gateway, and their announcement in the folder that one watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclavectl.backends.state import EnclaveState
from enclavectl.cli.invocation import Invocation
from enclavectl.errors import EnclavectlError, UsageError
from enclavectl.files import is_folder
from enclavectl.label import MODEL_PCR, REQUIRED_PCRS, label_of

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave
    from enclavectl.gateway.routing import Destination


def check_announcing(invocation: Invocation) -> None:
    """Check, before anything starts, that the folder for announcements is there, if one is configured.

    Raises:
        UsageError: it is not there.
    """
    folder = invocation.config.gateway.announce
    if folder is not None and not is_folder(folder):
        raise UsageError(
            f"gateway.announce: expected a folder, found none at {folder}",
            hint=f"sudo install -d -m 2750 -g GATEWAYS-GROUP {folder}, owned by who runs enclaves",
        )


def announce_running(invocation: Invocation, backend: Backend) -> None:
    """Announce the enclaves of a backend that run, and withdraw those that do not.

    It has no bearing on the enclaves: where it fails, a note says so.
    """
    folder = invocation.config.gateway.announce
    if folder is None:
        return
    from enclavectl.gateway.announced import announce  # noqa: PLC0415 - only where one is configured

    try:
        found = {
            enclave.enclave_id: destination_of(enclave)
            for enclave in backend.enclaves()
            if enclave.state is EnclaveState.RUNNING and not enclave.is_owned and enclave.measured
        }
        announce(folder, backend.name, found)
    except EnclavectlError as error:
        invocation.screen.note(f"the gateway was not told: {error.message}")


def announce_enclave(invocation: Invocation, backend: Backend, enclave: Enclave) -> None:
    """Announce one enclave, which the command that started it stays with; a failure is noted."""
    folder = invocation.config.gateway.announce
    if folder is None:
        return
    from enclavectl.gateway.announced import announce_one  # noqa: PLC0415 - only where one is configured

    try:
        announce_one(folder, backend.name, enclave.enclave_id, destination_of(enclave))
    except EnclavectlError as error:
        invocation.screen.note(f"the gateway was not told: {error.message}")


def destination_of(enclave: Enclave) -> Destination:
    """Return an enclave as a gateway's destination.

    Raises:
        UsageError: it was not measured before its start, so its release has no label.
    """
    from enclavectl.gateway.routing import Destination  # noqa: PLC0415 - only where one is configured

    return Destination(name=enclave.name, address=enclave.address, release=release_label(enclave))


def release_label(enclave: Enclave) -> str:
    """Return the label of an enclave's release, as a policy has it.

    Raises:
        UsageError: it was not measured before its start.
    """
    measured = enclave.measured or {}
    if not set(REQUIRED_PCRS) <= set(measured):
        raise UsageError(
            f"{enclave.name}: its release is unknown: it was not measured before its start",
            hint=f"say which: --to RELEASE@{enclave.address}",
        )
    return label_of(measured, model=MODEL_PCR in measured)
