"""systemd units for an enclave, the listener, and one vsock-proxy for each endpoint that an enclave calls.

They work with every systemd from 219 (Amazon Linux 2) on, which ignores settings that it does not know.
nitro-cli leaves a daemon behind for each enclave, and the enclave ends with it. A oneshot unit without
RemainAfterExit would kill that daemon with the control group as soon as ``run`` returns.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enclavectl.deploy.gateway_unit import (
    ANNOUNCED,
    GatewayUnitRequest,
    gateway_unit,
    prepare_commands,
)
from enclavectl.deploy.words import (
    HARDENING,
    MARK,
    UnitFile,
    check_name,
    enable_commands,
    exec_line,
    quoted,
    unit_file,
)
from enclavectl.errors import Interrupted, UsageError
from enclavectl.host.reservation import SERVICE as ALLOCATOR

LIST_DIR = "/etc/nitro_enclaves"
_READY_PORT = 9000
_NITRO_CLI_FOLDERS = ("/run/nitro_enclaves", "/var/log/nitro_enclaves")
_MAX_VSOCK_PORT = 2**32 - 2
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}", re.ASCII)
# The proxy's own default is four connections; the fifth then waits silently (issue 413 of nitro-cli).
_WORKERS = 32
# Seconds beyond nitro-cli's bound of a boot: launches take turns, and `run` verifies the enclave afterwards.
_START_MARGIN_S = 300
# Seconds: the minute that nitro-cli may take to end an enclave, and the time to wait for its turn.
_STOP_S = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A host that an enclave may call: the parent's vsock port ``local`` leads to ``host:port``."""

    local: int
    host: str
    port: int

    @property
    def name(self) -> str:
        """The name of its unit and its list, without the suffix."""
        return f"enclavectl-vsock-proxy-{self.local}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsRequest:
    """The inputs of the units. All paths are absolute; ``boot_bound_s`` is nitro-cli's."""

    name: str
    eif: Path
    memory_mib: int
    cpus: int
    user: str
    home: Path
    state_dir: Path
    enclavectl: Path
    boot_bound_s: int
    cid: int | None = None
    policy: Path | None = None
    endpoints: tuple[Endpoint, ...] = ()
    vsock_proxy: Path = Path("/usr/bin/vsock-proxy")
    has_gateway: bool = False

    def __post_init__(self) -> None:
        """Refuse values that systemd would misread.

        Raises:
            UsageError: a name that is not valid in a unit's name, a relative path, or a port used twice.
        """
        for what, name in (("--name", self.name), ("--user", self.user)):
            check_name(what, name)
        for path in (self.eif, self.home, self.state_dir, self.enclavectl, self.vsock_proxy):
            if not path.is_absolute():
                raise UsageError(f"{path}: expected an absolute path: systemd starts units in /")
        ports = [endpoint.local for endpoint in self.endpoints]
        twice = next((port for port in ports if ports.count(port) > 1), None)
        if twice is not None:
            raise UsageError(f"--endpoint: port {twice} is used twice; a proxy has one endpoint")


def parse_endpoint(text: str) -> Endpoint:
    """Parse an endpoint ``PORT:HOST:PORT``: vsock port, host, TCP port.

    Raises:
        UsageError: the text has another form, or its vsock port is nitro-cli's own.
    """
    local, _, rest = text.partition(":")
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    ports = [int(word) if re.fullmatch(r"[0-9]{1,10}", word, re.ASCII) else 0 for word in (local, port)]
    if not (0 < ports[0] <= _MAX_VSOCK_PORT and 0 < ports[1] < 65_536 and _HOST.fullmatch(host)):
        raise UsageError(
            f"--endpoint: expected PORT:HOST:PORT, found {text!r:.100}",
            hint="such as 8001:secretsmanager.eu-west-1.amazonaws.com:443",
        )
    if ports[0] == _READY_PORT:
        raise UsageError(
            f"--endpoint: vsock port {_READY_PORT} is the one on which booting enclaves report: "
            "a proxy there stops every launch"
        )
    return Endpoint(local=ports[0], host=host, port=ports[1])


def write_units(request: UnitsRequest) -> list[UnitFile]:
    """Make the files: the enclave's unit, the listener's, two for each endpoint, and the gateway's."""
    files = [_enclave(request), _listener(request)]
    for endpoint in request.endpoints:
        files += [_proxy(request, endpoint), _allowlist(endpoint)]
    return [*files, gateway_unit(_gateway(request))] if request.has_gateway else files


def install_commands(request: UnitsRequest, files: Sequence[UnitFile], folder: str) -> list[str]:
    """Return the commands, in order, that install these files of ``folder`` and start the units."""
    # The units may write nowhere else in the home, and cannot create this folder themselves.
    state = f"sudo -u {request.user} mkdir -p -m 0700 {shlex.quote(str(request.state_dir))}"
    prepared = prepare_commands(_gateway(request)) if request.has_gateway else []
    return [state, *prepared, *enable_commands(files, folder)]


def _enclave_unit(request: UnitsRequest) -> str:
    return f"enclavectl-enclave-{request.name}.service"


def _enclave(request: UnitsRequest) -> UnitFile:
    cid = [] if request.cid is None else ["--cid", str(request.cid)]
    run = [
        *(str(request.enclavectl), "run", str(request.eif), "--name", request.name, "--backend", "nitro"),
        *("--memory", str(request.memory_mib), "--cpus", str(request.cpus), *cid),
    ]
    stop = [str(request.enclavectl), "terminate", request.name, "--backend", "nitro"]
    proxies = [f"{endpoint.name}.service" for endpoint in request.endpoints]
    # Requires=: a restart of the allocator first stops the enclave; otherwise the allocator would refuse.
    return unit_file(
        _enclave_unit(request),
        {
            "Unit": [
                f"Description=Nitro enclave {request.name}",
                f"Requires={ALLOCATOR}",
                f"After={' '.join([ALLOCATOR, *proxies])}",
                *([f"Wants={' '.join(proxies)}"] if proxies else []),
            ],
            "Service": [
                "# The enclave's processes stay when run has returned; terminate ends them.",
                "Type=oneshot",
                "RemainAfterExit=yes",
                *_who(request),
                *_sandbox(request, "/dev/nitro_enclaves", "/dev/vsock"),
                "# What a host that went down uncleanly left under this name; nothing, as a rule.",
                f"ExecStartPre=-{exec_line(stop)}",
                f"ExecStart={exec_line(run)}",
                f"ExecStop={exec_line(stop)}",
                f"TimeoutStartSec={request.boot_bound_s + _START_MARGIN_S}",
                f"TimeoutStopSec={_STOP_S}",
            ],
            "Install": ["WantedBy=multi-user.target"],
        },
    )


def _listener(request: UnitsRequest) -> UnitFile:
    policy = [] if request.policy is None else ["--policy", str(request.policy)]
    listen = [str(request.enclavectl), "listen", "--backend", "nitro", "--output", "json", *policy]
    # Not to the journal, which others read and which may be forwarded: answers are about patients. A shell
    # instead of StandardOutput=append:, which systemd before 240 ignores; it would journal the answers.
    keep = ["/bin/sh", "-c", 'umask 077; exec "$@" >> "$0"', str(answers_file(request)), *listen]
    # After the enclave: without --policy the listener takes the registers measured at the enclave's start.
    return unit_file(
        "enclavectl-listen.service",
        {
            "Unit": [
                "Description=Answers of Nitro enclaves",
                f"Wants={_enclave_unit(request)}",
                f"After={_enclave_unit(request)}",
            ],
            "Service": [
                "Type=simple",
                *_who(request),
                *_sandbox(request, "/dev/vsock"),
                f"# One JSON object a line, into {answers_file(request)}; only the notes go to the journal.",
                "StandardOutput=null",
                f"ExecStart={exec_line(keep)}",
                # systemctl stop sends SIGTERM, which ends a command with the code of an interruption.
                f"SuccessExitStatus={Interrupted.exit_code}",
                "Restart=on-failure",
                "RestartSec=5",
            ],
            "Install": ["WantedBy=multi-user.target"],
        },
    )


def _proxy(request: UnitsRequest, endpoint: Endpoint) -> UnitFile:
    proxy = [
        *(str(request.vsock_proxy), "--num_workers", str(_WORKERS)),
        *("--config", f"{LIST_DIR}/{endpoint.name}.yaml"),
        *(str(endpoint.local), endpoint.host, str(endpoint.port)),
    ]
    # The proxy resolves its host before it listens, so it needs the network, and ends if a lookup fails
    # later.
    return unit_file(
        f"{endpoint.name}.service",
        {
            "Unit": [
                f"Description=vsock port {endpoint.local} of enclaves to {endpoint.host}:{endpoint.port}",
                "Wants=network-online.target",
                "After=network-online.target",
            ],
            "Service": [
                "Type=simple",
                f"User={request.user}",
                *HARDENING,
                "PrivateDevices=yes",
                "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_VSOCK",
                "Environment=RUST_LOG=warn",
                f"ExecStart={exec_line(proxy)}",
                "Restart=always",
                "RestartSec=5",
            ],
            "Install": ["WantedBy=multi-user.target"],
        },
    )


def _allowlist(endpoint: Endpoint) -> UnitFile:
    # Quoted, because an IPv6 address has colons.
    text = f'{MARK}\nallowlist:\n- {{address: "{endpoint.host}", port: {endpoint.port}}}\n'
    return UnitFile(name=f"{endpoint.name}.yaml", folder=LIST_DIR, text=text)


def _gateway(request: UnitsRequest) -> GatewayUnitRequest:
    return GatewayUnitRequest(enclavectl=request.enclavectl, enclaves_user=request.user)


def _who(request: UnitsRequest) -> Iterator[str]:
    yield f"User={request.user}"
    yield "SupplementaryGroups=ne"
    # A unit has no HOME before systemd 227, and nitro-cli ends with E51 without these.
    yield f"Environment={quoted(f'HOME={request.home}')}"
    yield f"Environment={quoted(f'NITRO_CLI_ARTIFACTS={request.home}/.nitro_cli')}"
    yield f"Environment={quoted(f'ENCLAVECTL_STATE_DIR={request.state_dir}')}"
    if request.has_gateway:
        yield f"Environment=ENCLAVECTL_GATEWAY_ANNOUNCE={ANNOUNCED}"


def _sandbox(request: UnitsRequest, *devices: str) -> Iterator[str]:
    yield from HARDENING
    yield "DevicePolicy=closed"
    yield from (f"DeviceAllow={device} rw" for device in devices)
    yield "IPAddressDeny=any"
    yield "RestrictAddressFamilies=AF_UNIX AF_VSOCK"
    # The setting's old name, which systemd 219 knows as well. "-" ignores folders that do not exist yet.
    announced = (ANNOUNCED,) if request.has_gateway else ()
    folders = (str(request.state_dir), f"{request.home}/.nitro_cli", *_NITRO_CLI_FOLDERS, *announced)
    yield f"ReadWriteDirectories={' '.join(quoted(f'-{folder}') for folder in folders)}"


def answers_file(request: UnitsRequest) -> Path:
    """Return the path of the listener's answers; only its user may read the file."""
    return request.state_dir / "answers.jsonl"
