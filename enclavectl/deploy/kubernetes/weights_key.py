"""Where pods with sealed weights get the key: from the weights' owner over TLS, or from AWS KMS."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from enclavectl.errors import UsageError

_KMS = "kms"
_OWNER = re.compile(
    r"tls:(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)):([0-9]{1,5})",
    re.ASCII,
)
# Hex or base64, as ``run`` reads it.
_PIN = re.compile(r"sha256:(?:[0-9A-Fa-f]{64}|[A-Za-z0-9+/]{43}=?)", re.ASCII)
# Where Dockerfile.parent puts the sealed weights.
SEALED_MODEL = "/opt/enclavectl/model.sealed"
# ``run`` waits so long for the owner, and then for the weights to be loaded (enclavectl.weights.bringing).
KEY_WAIT_S = 600 + 60
_IMDS = "169.254.169.254/32"

Object = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsKey:
    """``source`` is ``kms`` or ``tls:HOST:PORT``; ``pin`` is of the owner's TLS key, as ``run`` takes it.

    Raises:
        UsageError: pods could not use it.
    """

    source: str
    pin: str | None = None

    def __post_init__(self) -> None:
        """Check the rules above."""
        owner = _OWNER.fullmatch(self.source)
        if self.source != _KMS and (owner is None or not 1 <= int(owner[3]) <= 65_535):
            raise UsageError(
                f"--release: expected tls:HOST:PORT or kms, found {self.source!r:.100}",
                hint="pods are not dialed, and hold no key files; model release --listen is the owner's side",
            )
        if (self.pin is None) != (owner is None):
            found = "none" if self.pin is None else "one"
            raise UsageError(
                f"--tls-pin: expected one with --release tls:HOST:PORT and none with kms, found {found}",
                hint="it is the SHA-256 of the owner's TLS key: pods believe that key and no CA",
            )
        if self.pin is not None and _PIN.fullmatch(self.pin) is None:
            raise UsageError(f"--tls-pin: expected sha256:DIGEST, found {self.pin!r:.100}")

    @property
    def arguments(self) -> list[str]:
        """What ``run`` is told."""
        pin = [] if self.pin is None else ["--tls-pin", self.pin]
        return ["--model", SEALED_MODEL, "--release", self.source, *pin]

    @property
    def egress(self) -> list[Object]:
        """Rules of a NetworkPolicy for what a pod dials until it has the key."""
        names: Object = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
        owner = _OWNER.fullmatch(self.source)
        if owner is None:
            # The role's credentials come from the instance, whose hop limit must be 2 for pods.
            instance: Object = {"to": [{"ipBlock": {"cidr": _IMDS}}], "ports": [{"port": 80}]}
            return [names, {"ports": [{"port": 443}]}, instance]
        rule: Object = {"ports": [{"port": int(owner[3])}]}
        try:
            address = ipaddress.ip_address(owner[1] or owner[2])
        except ValueError:
            return [names, rule]
        return [{"to": [{"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}], **rule}]
