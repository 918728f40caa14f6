"""``enclavectl list``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from enclavectl.backends.registry import choose_backend
from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen

if TYPE_CHECKING:
    from enclavectl.backends.base import Enclave
    from enclavectl.backends.machine import Machine
    from enclavectl.cli.enclave_view import WeightsState

LIST_SCHEMA = "enclavectl.enclaves/1"
_COLUMNS = ("NAME", "STATE", "TRUST", "MODEL", "STARTED (UTC)", "PID")
_MACHINE_COLUMNS = ("CID", "MIB", "CPUS", "OWNER")


def list_enclaves(
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """List the enclaves of this host.

    Shows booting, running and dead ones. On backend nitro it shows other users' enclaves as well. Those that
    were ended are in enclavectl history. An enclave of a sealed model says how far it is: EMPTY, MEASURED,
    KEYED or SERVING.

    Examples:
      enclavectl list                      a table
      enclavectl list --output json        for programs
      enclavectl list --backend local      simulated ones, on a host of both kinds
    """
    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config, invocation.screen)
    _show(invocation.screen, chosen.name, chosen.enclaves())


def _show(screen: Screen, backend: str, enclaves: Sequence[Enclave]) -> None:
    weights = [_weights(one) for one in enclaves]
    if screen.as_json:
        found = [
            {
                "trust": str(one.trust),
                **one.to_json(),
                "weights": None if state is None else state.to_json(),
            }
            for one, state in zip(enclaves, weights, strict=True)
        ]
        screen.result({"schema": LIST_SCHEMA, "backend": backend, "enclaves": found})
        return
    if not enclaves:
        screen.note(f"no enclave on backend {backend}; enclavectl run starts one")
        return
    # Not above: while this loads, nitro-cli already runs.
    from enclavectl.backends.machine import machine_of  # noqa: PLC0415 - see the line above

    machines = [machine_of(one) for one in enclaves]
    columns = [*_COLUMNS, *(_MACHINE_COLUMNS if any(machines) else ())]
    rows = [_row(one, machine) for one, machine in zip(enclaves, machines, strict=True)]
    if any(weights):
        columns.append("WEIGHTS")
        cells = ["in the image" if state is None else str(state) for state in weights]
        width = len(columns) - 1
        rows = [[*row, *[""] * (width - len(row)), cell] for row, cell in zip(rows, cells, strict=True)]
    screen.table(columns, rows)


def _weights(enclave: Enclave) -> WeightsState | None:
    if not enclave.is_sealed:
        return None
    # Few enclaves are sealed, and what asks them takes longer to load than the rest of this command.
    from enclavectl.cli.enclave_view import weights_state  # noqa: PLC0415 - see the line above

    return weights_state(enclave)


def _row(enclave: Enclave, machine: Machine | None) -> list[str]:
    started = "" if enclave.started is None else f"{enclave.started:%Y-%m-%d %H:%M:%S}"
    row = [
        enclave.name,
        f"{enclave.state} (owned)" if enclave.is_owned else str(enclave.state),
        str(enclave.trust),
        enclave.model_id or "",
        started,
        str(enclave.pid or ""),
    ]
    if machine is not None:
        row += [str(machine.cid or ""), str(enclave.memory_mib or ""), str(machine.cpus), machine.owner or ""]
    return row
