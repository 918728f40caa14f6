"""``enclavectl fleet probe``: the startup probe of an enclave's container."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.errors import StateError
from enclavectl.gateway.announced import read_announced
from enclavectl.gateway.probes import probe as challenge

# As the gateway's own probes.
_TIMEOUT_S = 5.0

Announced = Annotated[
    Path, typer.Option("--from", metavar="DIR", help="The folder in which run announces enclaves.")
]


def probe(announced: Announced) -> None:
    """Challenge the announced enclaves, as a container's startup probe.

    Exit code 0 if all answer, 6 if one does not or there is none. It asks the enclaves themselves and never
    nitro-cli: a query to that which is killed can end an enclave.

    Examples:
      enclavectl fleet probe --from /run/enclavectl/announced  in a container
    """
    found = read_announced(announced)
    if not found:
        raise StateError("no enclave is announced yet", hint="enclavectl run announces it once it is proved")
    with ThreadPoolExecutor(len(found)) as pool:
        for one in found:
            if not asyncio.run(challenge(one.address, pool, _TIMEOUT_S)):
                raise StateError(
                    f"{one.name}: no evidence came within {_TIMEOUT_S:g} s", hint="does it boot?"
                )
