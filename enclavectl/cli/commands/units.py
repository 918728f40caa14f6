"""``enclavectl units``: systemd units for an enclave, its listener and proxies; or for a model's owner."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.names import EIF_NAME
from enclavectl.cli import options
from enclavectl.cli.invocation import Invocation, begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.config.load import Config
from enclavectl.deploy.release_unit import ReleaseUnitRequest, install_release, release_unit
from enclavectl.deploy.systemd import UnitsRequest, install_commands, parse_endpoint, write_units
from enclavectl.deploy.words import MARK, UnitFile
from enclavectl.errors import UsageError
from enclavectl.files import make_folder, read_bounded, status_at, write_atomic
from enclavectl.host.requirements import read_eif
from enclavectl.nitro_cli.limits import boot_bound_s, check_cid

UNITS_SCHEMA = "enclavectl.units/1"
_MAX_UNIT = 1 << 16

ImageToRun = Annotated[Path, typer.Argument(metavar="[EIF]", help="The image that the unit runs.")]
NewName = Annotated[str, typer.Option("--name", metavar="NAME", help="What to call the enclave.")]
Endpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        metavar="PORT:HOST:PORT",
        help="Let enclaves reach HOST:PORT through vsock port PORT of the parent; may be repeated.",
    ),
]
UnitFolder = Annotated[
    Path | None,
    typer.Option("--to", metavar="DIR", help="Folder to write the files to; default: print them."),
]
UnitUser = Annotated[str | None, typer.Option("--user", metavar="USER", help="Who runs them; default: you.")]
Memory = Annotated[int | None, typer.Option("--memory", metavar="MIB", help="MiB; default: as configured.")]
Cpus = Annotated[int | None, typer.Option("--cpus", metavar="COUNT", help="vCPUs; default: as configured.")]
FixedCid = Annotated[
    int | None, typer.Option("--cid", metavar="CID", help="Its address on vsock; default: a free one.")
]

WithGateway = Annotated[
    bool, typer.Option("--gateway", help="Also write the gateway's unit, with a user of its own.")
]
ForOwner = Annotated[
    bool,
    typer.Option(
        "--release", help="Instead, for a model's owner: the service that releases the key of model --name."
    ),
]


def units(
    eif: ImageToRun = Path(EIF_NAME),
    name: NewName = "enclave",
    endpoint: Endpoints = None,
    to: UnitFolder = None,
    user: UnitUser = None,
    memory: Memory = None,
    cpus: Cpus = None,
    cid: FixedCid = None,
    gateway: WithGateway = False,
    release: ForOwner = False,
    policy: options.PolicyFile = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Write systemd units that start an enclave at boot.

    Writes a unit for the enclave, one for its listener, and one for each endpoint that enclaves may call.
    Nothing is installed: the command says where the files belong and what to run. With --release it writes
    one unit, for the machine of a sealed model's owner, and none of the others.

    Examples:
      enclavectl units                             print them
      enclavectl units app.eif --to units          write them to a folder
      enclavectl units --endpoint 8443:kms:443     with a proxy to an endpoint
      enclavectl units --gateway --to units        with a gateway
      enclavectl units --release --name flowers    a model owner's service
    """
    if release:
        others: dict[str, object] = {"--endpoint": endpoint, "--user": user, "--memory": memory}
        others |= {"--cpus": cpus, "--cid": cid, "--gateway": gateway or None, "--policy": policy}
        _show_release(begin(output, config, {}).screen, name, to, others)
        return
    flags = {"enclave.memory_mib": memory, "enclave.cpus": cpus, "policy": policy}
    invocation = begin(output, config, flags)
    endpoints = tuple(parse_endpoint(text) for text in endpoint or ())
    request = _request(invocation, eif, name, user, cid)
    request = replace(request, endpoints=endpoints, has_gateway=gateway)
    files = write_units(request)
    if status_at(eif) is None:
        invocation.screen.note(
            f"{eif}: not there yet, so the start timeout is that of the largest image for "
            f"{request.memory_mib} MiB; run this again once it is built"
        )
    _show(invocation.screen, files, install_commands(request, files, str(to or ".")), to)


def _show_release(screen: Screen, name: str, to: Path | None, others: Mapping[str, object]) -> None:
    if (other := next((flag for flag, value in others.items() if value is not None), None)) is not None:
        raise UsageError(
            f"--release: expected no {other} beside it: the owner's service runs no enclave",
            hint="on the enclaves' host, leave --release out",
        )
    request = ReleaseUnitRequest(name=name, enclavectl=_ourselves())
    file = release_unit(request)
    _show(screen, [file], install_release(request, file, str(to or ".")), to)


def _show(screen: Screen, files: Sequence[UnitFile], commands: Sequence[str], to: Path | None) -> None:
    """Write the files if a folder was named, and show them and what to run."""
    if to is not None:
        _write(files, to)
    if screen.as_json:
        value = {
            "schema": UNITS_SCHEMA,
            "folder": None if to is None else str(to),
            "files": [{"name": one.name, "installs_to": one.folder, "text": one.text} for one in files],
            "commands": list(commands),
        }
        screen.result(value)
        return
    if to is None:
        for one in files:
            typer.echo(f"# ==> {one.folder}/{one.name}\n{one.text}")
    else:
        screen.facts((one.name, f"for {one.folder}") for one in files)
    screen.note("to have them in force:" if to else "write them with --to DIR; to have them in force:")
    for line in commands:
        screen.note(f"  {line}")


def _request(invocation: Invocation, eif: Path, name: str, user: str | None, cid: int | None) -> UnitsRequest:
    if cid is not None:
        check_cid(cid)
    settings = invocation.config
    memory_mib = settings.enclave.memory_mib
    # Without the image, assume the largest that this memory allows.
    size = read_eif(eif).size if status_at(eif) is not None else (memory_mib << 20) // 4
    try:
        account = pwd.getpwuid(os.getuid()) if user is None else pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"--user: there is no user {user or os.getuid()} here") from None
    return UnitsRequest(
        name=name,
        eif=eif.absolute(),
        memory_mib=memory_mib,
        cpus=settings.enclave.cpus,
        cid=cid,
        user=account.pw_name,
        home=Path(account.pw_dir),
        state_dir=_state_dir(settings, account),
        enclavectl=_ourselves(),
        boot_bound_s=boot_bound_s(size, memory_mib),
        policy=settings.policy,
    )


def _state_dir(settings: Config, account: pwd.struct_passwd) -> Path:
    """Return that user's state folder; for this user, the configured one."""
    is_ours = account.pw_uid == os.getuid()
    return settings.state_dir if is_ours else Path(account.pw_dir) / ".local" / "state" / "enclavectl"


def _ourselves() -> Path:
    """Return the path of the running command: as called, or beside the interpreter."""
    called = Path(sys.argv[0]).absolute()
    beside = Path(sys.executable).absolute().with_name("enclavectl")
    return called if called.name == "enclavectl" and called.is_file() else beside


def _write(files: Sequence[UnitFile], folder: Path) -> None:
    """Write each file into the folder, or none if a file there is not enclavectl's.

    Raises:
        HostError: the folder cannot be created.
        UsageError: a file there was not written by enclavectl.
    """
    make_folder(folder)
    for one in files:
        path = folder / one.name
        if status_at(path) is not None and not read_bounded(path, _MAX_UNIT, what="unit").startswith(
            MARK.encode()
        ):
            raise UsageError(
                f"{path}: expected a file that enclavectl wrote, found another", hint="move it away"
            )
    for one in files:
        write_atomic(folder / one.name, one.text.encode(), mode=0o644)
