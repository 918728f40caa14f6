"""The systemd unit of a model owner's release service: a user of its own, the key in its home, one port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.deploy.words import (
    UnitFile,
    check_name,
    enable_commands,
    exec_line,
    quoted,
    service_sandbox,
    system_user,
    unit_file,
)
from enclavectl.errors import Interrupted

USER = "enclavectl-release"
LISTEN = "tls:[::]:7443"
# What takes memory is the interpreter with the verifier.
_MEMORY = "256M"
_DESCRIPTORS = 256
# 32 exchanges at once, and those that have just given way.
TASKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseUnitRequest:
    """The program's path, the service's name, and its folders: its user's ``home``, and root's ``config``."""

    name: str
    enclavectl: Path
    home: Path = Path("/var/lib/enclavectl-release")
    config: Path = Path("/etc/enclavectl/release")
    listen: str = LISTEN

    def __post_init__(self) -> None:
        """Refuse a name that systemd would misread.

        Raises:
            UsageError: the name is not valid in a unit's name.
        """
        check_name("--name", self.name)

    @property
    def unit(self) -> str:
        """The unit's name."""
        return f"enclavectl-release-{self.name}.service"

    @property
    def key(self) -> Path:
        """The model's key: only the service's user reads it."""
        return self.home / f"{self.name}.key"


def release_unit(request: ReleaseUnitRequest) -> UnitFile:
    """Make the unit."""
    config = request.config
    command = [
        *(str(request.enclavectl), "model", "release", str(request.key)),
        *("--policy", str(config / f"{request.name}.yaml"), "--listen", request.listen),
        *("--cert", str(config / "cert.pem"), "--cert-key", str(config / "key.pem")),
        *("--log", str(request.home / f"{request.name}.jsonl")),
    ]
    return unit_file(
        request.unit,
        {
            "Unit": [
                f"Description=The key of the sealed model {request.name}, for enclaves that prove themselves",
                "Wants=network-online.target",
                "After=network-online.target",
            ],
            "Service": [
                "Type=simple",
                f"User={USER}",
                f"Environment={quoted(f'HOME={request.home}')}",
                *service_sandbox(request.home, "AF_INET AF_INET6"),
                f"MemoryMax={_MEMORY}",
                f"TasksMax={TASKS}",
                f"LimitNOFILE={_DESCRIPTORS}",
                "# --lease 24h and --limit N are the owner's choice: systemctl edit.",
                f"ExecStart={exec_line(command)}",
                f"SuccessExitStatus={Interrupted.exit_code}",
                "Restart=on-failure",
                "RestartSec=5",
                "# A key or a policy that cannot be used does not get better by itself.",
                "RestartPreventExitStatus=2",
            ],
            "Install": ["WantedBy=multi-user.target"],
        },
    )


def install_release(request: ReleaseUnitRequest, file: UnitFile, folder: str) -> list[str]:
    """Return the commands, in order, that make the user, bring key, policy and certificate, and start it."""
    config, name = request.config, request.name
    secret = f"sudo install -m 0600 -o {USER} -g {USER}"
    shown = f"sudo install -m 0640 -g {USER}"
    return [
        system_user(USER, request.home),
        f"sudo install -d -m 0700 -o {USER} -g {USER} {request.home}",
        f"sudo install -d -m 0750 -g {USER} {config}",
        f"{secret} {name}.key {request.key}",
        f"{shown} policy.yaml {config}/{name}.yaml",
        f"{shown} cert.pem key.pem {config}/",
        *enable_commands([file], folder),
    ]
