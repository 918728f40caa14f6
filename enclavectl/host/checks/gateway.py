"""Checks of a gateway on this host: its user, and which files others may read. Only where its unit is."""

from __future__ import annotations

import stat

from enclavectl.host.checks.base import Check, Verdict, fail, not_applicable, ok, warn
from enclavectl.host.checks.facts import Facts

# As `enclavectl units --gateway` writes them; tests/deploy/test_systemd.py compares the names.
UNIT = "/etc/systemd/system/enclavectl-gateway.service"
GROUP = "enclavectl-gateway"
ANNOUNCED = "/var/lib/enclavectl-announced"
CERTIFICATE = "/etc/enclavectl/gateway/cert.pem"
KEY = "/etc/enclavectl/gateway/key.pem"
_ABSENT = "no gateway's unit here; enclavectl units --gateway writes one"


def _user(facts: Facts) -> Verdict:
    if not facts.tree.exists(UNIT):
        return not_applicable(_ABSENT)
    if GROUP not in facts.groups:
        return fail(
            f"no group {GROUP}: the unit cannot start",
            f"sudo useradd --system --home-dir /var/lib/{GROUP} --shell /usr/sbin/nologin {GROUP}",
        )
    return ok(f"user and group {GROUP}")


def _announced(facts: Facts) -> Verdict:
    if not facts.tree.exists(UNIT):
        return not_applicable(_ABSENT)
    found = facts.tree.facts(ANNOUNCED)
    make = f"sudo install -d -m 2750 -g {GROUP} -o USER {ANNOUNCED}, for the user who runs enclaves"
    if found is None:
        return fail(f"no {ANNOUNCED}: the gateway hears of no enclave", make)
    if found.permissions & stat.S_IWOTH:
        return fail(f"{ANNOUNCED} may be written by everybody, who could send clients elsewhere", make)
    return ok(ANNOUNCED)


def _certificate(facts: Facts) -> Verdict:
    if not facts.tree.exists(UNIT):
        return not_applicable(_ABSENT)
    missing = [name for name in (CERTIFICATE, KEY) if not facts.tree.exists(name)]
    if missing:
        return fail(f"no {missing[0]}", "put the certificate chain and its key there, both in PEM")
    key = facts.tree.facts(KEY)
    if key is not None and key.permissions & (stat.S_IROTH | stat.S_IWOTH):
        return warn(f"{KEY} may be read by everybody", f"sudo chgrp {GROUP} {KEY}; sudo chmod 640 {KEY}")
    return ok(f"{CERTIFICATE} and its key")


CHECKS = (
    Check(id="gateway.user", why="the unit runs as a user of its own", examine=_user),
    Check(
        id="gateway.announced",
        why="run announces enclaves there, and the gateway reads nothing else of the state",
        examine=_announced,
    ),
    Check(
        id="gateway.certificate",
        why="the gateway listens for others with TLS only",
        examine=_certificate,
    ),
)
