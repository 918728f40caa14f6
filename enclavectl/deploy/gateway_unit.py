"""The gateway's systemd unit: a user of its own, no device, no capability, and a certificate to read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from enclavectl.deploy.words import UnitFile, exec_line, service_sandbox, system_user, unit_file

UNIT = "enclavectl-gateway.service"
USER = "enclavectl-gateway"
HOME = "/var/lib/enclavectl-gateway"
TOKENS = f"{HOME}/tokens.json"
# `run` writes there as the enclaves' user; the group of the folder is the gateway's.
ANNOUNCED = "/var/lib/enclavectl-announced"
CERTIFICATE = "/etc/enclavectl/gateway/cert.pem"
KEY = "/etc/enclavectl/gateway/key.pem"
# Above 1024, so that no capability is needed; a load balancer or a redirect maps 443 to it.
LISTEN = "[::]:8443"
# The drain (5 + 30 s), the peers' time for our last words (5 s), and room.
_STOP_S = 50
# 256 sessions take 32 MiB, and more than 128 would be a defect.
_MEMORY = "256M"
_DESCRIPTORS = 2048
_TASKS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayUnitRequest:
    """The program's path, and the user who runs the enclaves and announces them."""

    enclavectl: Path
    enclaves_user: str


def gateway_unit(request: GatewayUnitRequest) -> UnitFile:
    """Make the unit."""
    command = [
        *(str(request.enclavectl), "gateway", "--from", ANNOUNCED, "--listen", LISTEN),
        *("--cert", CERTIFICATE, "--key", KEY, "--tokens", TOKENS),
    ]
    return unit_file(
        UNIT,
        {
            "Unit": [
                "Description=Relay between the network and enclaves",
                "Wants=network-online.target",
                "After=network-online.target",
            ],
            "Service": [
                "Type=simple",
                f"User={USER}",
                f"Environment=HOME={HOME}",
                # Sockets of vsock need no device.
                *service_sandbox(Path(HOME), "AF_INET AF_INET6 AF_VSOCK"),
                f"MemoryMax={_MEMORY}",
                f"TasksMax={_TASKS}",
                f"LimitNOFILE={_DESCRIPTORS}",
                f"ExecStart={exec_line(command)}",
                "# The certificate is read again.",
                "ExecReload=/bin/kill -HUP $MAINPID",
                f"TimeoutStopSec={_STOP_S}",
                "Restart=on-failure",
                "RestartSec=5",
                "# Settings that cannot be used do not get better by themselves.",
                "RestartPreventExitStatus=2",
            ],
            "Install": ["WantedBy=multi-user.target"],
        },
    )


def prepare_commands(request: GatewayUnitRequest) -> list[str]:
    """Return the commands that make the user, its folders and the first token; in order."""
    token = [str(request.enclavectl), "gateway", "token", "add", "first-client", "--tokens", TOKENS]
    owner = shlex.quote(request.enclaves_user)
    return [
        system_user(USER, HOME),
        f"sudo install -d -m 0700 -o {USER} -g {USER} {HOME}",
        f"sudo install -d -m 2750 -o {owner} -g {USER} {ANNOUNCED}",
        f"sudo install -d -m 0750 -g {USER} {Path(CERTIFICATE).parent}",
        f"sudo -u {USER} {shlex.join(token)}",
    ]
