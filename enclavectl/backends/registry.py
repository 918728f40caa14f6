"""The choice of backend, enclave and policy, which several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.state import EnclaveState
from enclavectl.config.choices import BackendChoice
from enclavectl.config.load import Config
from enclavectl.errors import StateError
from enclavectl.files import read_bounded
from enclavectl.progress import Progress
from enclavectl.suggest import suggestion

if TYPE_CHECKING:
    from enclavectl.attestation import Policy
    from enclavectl.backends.base import Backend, Enclave

_NITRO_DEVICE = Path("/dev/nitro_enclaves")


def resolve_backend(config: Config) -> BackendChoice:
    """Resolve ``auto`` on this host: ``nitro`` if its device exists, else ``local``."""
    if config.backend is BackendChoice.AUTO:
        return BackendChoice.NITRO if _NITRO_DEVICE.exists() else BackendChoice.LOCAL
    return config.backend


def choose_backend(config: Config, progress: Progress | None = None) -> Backend:
    """Return the configured backend; it reports long work to ``progress``."""
    choice = resolve_backend(config)
    if choice is BackendChoice.NITRO:
        from enclavectl.backends.nitro.backend import NitroBackend
        from enclavectl.backends.nitro.settings import NitroSettings

        return NitroBackend(
            NitroSettings(
                state_dir=config.state_dir,
                environ=os.environ,
                port_in=config.enclave.port_in,
                vsock_dir=config.nitro.vsock_dir,
                root=config.nitro.root,
                host_root=config.nitro.host_root,
            ),
            progress,
        )
    if choice is BackendChoice.QEMU:
        from enclavectl.backends.qemu.backend import QemuBackend
        from enclavectl.backends.qemu.settings import QemuSettings

        return QemuBackend(
            QemuSettings(
                state_dir=config.state_dir,
                environ=os.environ,
                program=config.qemu.program,
                accelerator=config.qemu.accelerator,
            ),
            progress,
        )
    from enclavectl.backends.local.backend import LocalBackend

    return LocalBackend(config.state_dir, progress)


def find_enclave(backend: Backend, reference: str) -> Enclave:
    """Return the enclave with that name or id, or the only one whose name or id starts with it.

    Raises:
        StateError: no or several enclaves match.
    """
    known = backend.enclaves()
    exact = [enclave for enclave in known if reference in (enclave.name, enclave.enclave_id)]
    # Names are unique only among this user's enclaves, so those have precedence.
    ours = [enclave for enclave in exact if enclave.started is not None]
    if len(found := ours or exact) == 1:
        return found[0]
    if exact:
        ids = ", ".join(enclave.enclave_id for enclave in exact)
        raise StateError(
            f"{reference}: expected one enclave, found several of this name ({ids})", hint="name the id"
        )
    similar = [
        e for e in known if reference and (e.name.startswith(reference) or e.enclave_id.startswith(reference))
    ]
    if len(similar) == 1:
        return similar[0]
    if similar:
        several = ", ".join(enclave.name for enclave in similar)
        raise StateError(
            f"{reference}: expected one enclave, found several ({several})", hint="name it in full"
        )
    names = [enclave.name for enclave in known]
    raise StateError(
        f"{reference}: no such enclave; {suggestion(reference, names)}"
        if names
        else f"{reference}: no enclave is running",
        hint="enclavectl list shows what runs; enclavectl run starts one",
    )


def require_running(enclave: Enclave) -> Enclave:
    """Check that the enclave runs and every command may use it; return it.

    Raises:
        StateError: it does not run, or it belongs to one command.
    """
    if enclave.is_owned:
        raise StateError(
            f"{enclave.name}: expected an enclave that stays, found one that belongs to the command that "
            "started it and ends with it",
            hint="enclavectl run starts one that stays",
            code="owned",
        )
    if enclave.state in (EnclaveState.BOOTING, EnclaveState.TERMINATING, EnclaveState.UNKNOWN):
        raise StateError(
            f"{enclave.name}: expected a running enclave, found one that is {enclave.state}",
            hint="enclavectl list shows when it runs",
        )
    if enclave.state is not EnclaveState.RUNNING:
        raise StateError(
            f"{enclave.name}: expected a running enclave, found a dead one",
            hint=f"enclavectl console {enclave.name} shows its last words, enclavectl terminate removes it",
        )
    return enclave


def only_running(enclaves: Sequence[Enclave]) -> Enclave | None:
    """Return the only running enclave, or None. Enclaves that belong to a command do not count.

    Raises:
        StateError: several run, so one must be named.
    """
    running = [one for one in enclaves if one.state is EnclaveState.RUNNING and not one.is_owned]
    if len(running) > 1:
        names = ", ".join(enclave.name for enclave in running)
        raise StateError(f"several enclaves are running: {names}", hint="choose one with --enclave NAME")
    return running[0] if running else None


def load_policy(path: Path, *, allow_debug: bool) -> Policy:
    """Read the policy in a file.

    Raises:
        UsageError: it cannot be read or is not a policy.
    """
    from dataclasses import replace

    from enclavectl.attestation.policy_file import MAX_POLICY_BYTES, decode_policy, parse_policy

    data = read_bounded(path, MAX_POLICY_BYTES, what="policy")
    policy = parse_policy(decode_policy(data, source=str(path)), source=str(path))
    return replace(policy, unsafe_allow_debug=True) if allow_debug else policy
