"""systemd units for an enclave, the listener, and one vsock-proxy for each endpoint that an enclave calls.

They work with every systemd from 219 (Amazon Linux 2) on, which skips settings that it does not know.
nitro-cli leaves a process behind for each enclave, whose end is the enclave's: a oneshot unit without
RemainAfterExit kills it with the control group as soon as ``run`` has returned.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.host.allocation import SERVICE as ALLOCATOR

UNIT_DIR = "/etc/systemd/system"
LIST_DIR = "/etc/nitro_enclaves"
MARK = "# Written by enclavectl units; written anew by the next one."
_READY_PORT = 9000
_NITRO_CLI_FOLDERS = ("/run/nitro_enclaves", "/var/log/nitro_enclaves")
_MAX_VSOCK_PORT = 2**32 - 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}", re.ASCII)
# Four connections are the proxy's own default; the fifth then waits without a word (issue 413 of nitro-cli).
_WORKERS = 32
# Above nitro-cli's bound of a boot: launches take turns, and the enclave proves itself afterwards.
_START_MARGIN_S = 300
# Above the minute that nitro-cli may take to end an enclave, and the turns that it may have to wait for.
_STOP_S = 180
# What is refused, not what is allowed: systemd 219 knows no groups of calls, and would take an allow-list of
# groups for an empty one.
_REFUSED_CALLS = (
    "~@clock @cpu-emulation @debug @module @mount @obsolete @privileged @raw-io @reboot @resources @swap"
)
# What no unit needs. https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
# Left out on purpose: PrivateNetwork hides the enclaves' sockets from /proc/net/unix, where doctor and plan
# see what runs; ProcSubset hides /proc/meminfo, which run reads; RemoveIPC would reach other programs.
_HARDENING = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=read-only",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    f"SystemCallFilter={_REFUSED_CALLS}",
    "UMask=0077",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What an enclave may call: its connections to vsock port ``local`` of the parent go to ``host:port``."""

    local: int
    host: str
    port: int

    @property
    def name(self) -> str:
        """The name of its unit and its list, without what comes behind the dot."""
        return f"enclavectl-vsock-proxy-{self.local}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsRequest:
    """What to write units for. All paths are absolute; ``boot_bound_s`` is nitro-cli's."""

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

    def __post_init__(self) -> None:
        """Refuse what systemd would read as something else.

        Raises:
            UsageError: a name that is no part of a unit's name, a relative path, or a port used twice.
        """
        for what, name in (("--name", self.name), ("--user", self.user)):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{what}: expected letters, digits, and _ . - behind the first, found {name!r}"
                )
        for path in (self.eif, self.home, self.state_dir, self.enclavectl, self.vsock_proxy):
            if not path.is_absolute():
                raise UsageError(f"{path}: expected an absolute path: systemd starts units in /")
        ports = [endpoint.local for endpoint in self.endpoints]
        twice = next((port for port in ports if ports.count(port) > 1), None)
        if twice is not None:
            raise UsageError(f"--endpoint: port {twice} is used twice; a proxy has one endpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFile:
    """A file with its place on the host."""

    name: str
    folder: str
    text: str


def parse_endpoint(text: str) -> Endpoint:
    """Read the endpoint that ``PORT:HOST:PORT`` names: vsock port, host, TCP port.

    Raises:
        UsageError: it is none, or its vsock port is nitro-cli's own.
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
    """Return the files: the enclave's unit, the listener's, and two for each endpoint."""
    files = [_enclave(request), _listener(request)]
    for endpoint in request.endpoints:
        files += [_proxy(request, endpoint), _allowlist(endpoint)]
    return files


def install_commands(request: UnitsRequest, files: Sequence[UnitFile], folder: str) -> list[str]:
    """Return what to run, in order, to have these files of ``folder`` in force."""
    # The units may write nowhere else in the home, and cannot make it themselves.
    state = f"sudo -u {request.user} mkdir -p -m 0700 {shlex.quote(str(request.state_dir))}"
    units = [file.name for file in files if file.folder == UNIT_DIR]
    lines = [
        f"sudo install -m 0644 {shlex.quote(f'{folder}/{file.name}')} {file.folder}/{file.name}"
        for file in files
    ]
    # The proxies first: an enclave calls as soon as it runs.
    ordered = sorted(units, key=lambda name: "vsock-proxy" not in name)
    return [state, *lines, "sudo systemctl daemon-reload", f"sudo systemctl enable --now {' '.join(ordered)}"]


def _unit(name: str, sections: dict[str, list[str]]) -> UnitFile:
    blocks = [f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items()]
    return UnitFile(name=name, folder=UNIT_DIR, text=f"{MARK}\n" + "\n\n".join(blocks) + "\n")


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
    # Requires: whoever restarts the allocator stops the enclave first, without which it would refuse.
    return _unit(
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
    # Not into the journal, which others read and which is sent elsewhere: answers are about patients.
    # A shell in place of StandardOutput=append:, which systemd before 240 would skip, and journal them.
    keep = ["/bin/sh", "-c", 'umask 077; exec "$@" >> "$0"', str(answers_file(request)), *listen]
    # After the enclave: without --policy it takes what was measured when that was started.
    return _unit(
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
    # It looks its host up before it listens, so it needs the network; and ends if that fails later.
    return _unit(
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
                *_HARDENING,
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
    # Quoted: an IPv6 address has colons.
    text = f'{MARK}\nallowlist:\n- {{address: "{endpoint.host}", port: {endpoint.port}}}\n'
    return UnitFile(name=f"{endpoint.name}.yaml", folder=LIST_DIR, text=text)


def _who(request: UnitsRequest) -> Iterator[str]:
    yield f"User={request.user}"
    yield "SupplementaryGroups=ne"
    # A unit has no HOME before systemd 227, and nitro-cli ends with E51 without these.
    yield f"Environment={_quoted(f'HOME={request.home}')}"
    yield f"Environment={_quoted(f'NITRO_CLI_ARTIFACTS={request.home}/.nitro_cli')}"
    yield f"Environment={_quoted(f'ENCLAVECTL_STATE_DIR={request.state_dir}')}"


def _sandbox(request: UnitsRequest, *devices: str) -> Iterator[str]:
    yield from _HARDENING
    yield "DevicePolicy=closed"
    yield from (f"DeviceAllow={device} rw" for device in devices)
    yield "IPAddressDeny=any"
    yield "RestrictAddressFamilies=AF_UNIX AF_VSOCK"
    # The name that systemd 219 knows too. "-": what is not there yet stops nothing.
    folders = (str(request.state_dir), f"{request.home}/.nitro_cli", *_NITRO_CLI_FOLDERS)
    yield f"ReadWriteDirectories={' '.join(_quoted(f'-{folder}') for folder in folders)}"


def answers_file(request: UnitsRequest) -> Path:
    """Return where the listener's unit keeps the answers; only its user may read it."""
    return request.state_dir / "answers.jsonl"


def exec_line(argv: Sequence[str]) -> str:
    """Quote a command line so that systemd splits it into exactly these words and expands nothing.

    https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#Command%20lines
    """
    return " ".join(_quoted(word).replace("$", "$$") for word in argv)


def _quoted(word: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in word):
        raise UsageError(f"{word!r}: expected no control characters: a unit has one line for it")
    word = word.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", word, re.ASCII):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
