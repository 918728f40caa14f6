"""The enclave that a command starts: configuration and command line as a backend's specification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.backends.base import EnclaveSpec, ProcessSpec, SealedModel
from enclavectl.backends.registry import resolve_backend
from enclavectl.config.load import Config
from enclavectl.errors import UsageError
from enclavectl.models.find import PACKAGED_DIR, find_model
from enclavectl.models.weights import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """The command line's part of an enclave to start; the configuration has the rest."""

    name: str | None = None
    debug: bool = False
    image: Path | None = None
    boot_wait_s: int = 0
    sealed: SealedModel | None = None


def launch_spec(config: Config, request: LaunchRequest) -> EnclaveSpec:
    """Return the specification that `run` and a fresh `diagnose` start on the backend in ``config``.

    Raises:
        UsageError: the model does not exist or cannot serve, or an image was named for a backend without
            images.
    """
    machine = config.enclave
    if not resolve_backend(config).runs_machines:
        if request.image is not None:
            raise UsageError(
                f"{request.image}: the local backend runs no images: its payload is a process",
                hint="leave it out, or use --backend nitro or --backend qemu",
            )
        if request.sealed is not None:
            return _process(config, request, request.sealed)
        model = find_model(config.model, data_dir=config.data_dir)
        if model.card_path.parent != PACKAGED_DIR:  # our tests probe the packaged model
            # Imported here: it needs a runtime's modules, which a client of a remote may not have.
            from enclavectl.models.probe import probe

            probe(model)
        return _process(config, request, model)
    from enclavectl.backends.machine import MachineSpec

    return MachineSpec(
        name=request.name,
        debug=request.debug,
        image=request.image or machine.eif,
        memory_mib=machine.memory_mib,
        cpus=machine.cpus,
        cid=machine.cid,
        boot_wait_s=request.boot_wait_s,
        sealed=request.sealed,
        port_in=machine.port_in,
        port_out=machine.port_out,
    )


def _process(config: Config, request: LaunchRequest, model: Model | SealedModel) -> ProcessSpec:
    return ProcessSpec(
        name=request.name,
        debug=request.debug,
        model=model,
        memory_mib=config.local.memory_mib,
        workers=config.local.workers,
        port_in=config.enclave.port_in,
        port_out=config.enclave.port_out,
    )
