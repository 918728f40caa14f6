"""The Linux distribution of a host, from os-release(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.errors import HostError
from enclavectl.host.tree import Tree


class Family(StrEnum):
    """The families of distributions whose packages we know."""

    AL2 = "amazon-linux-2"
    AL2023 = "amazon-linux-2023"
    UBUNTU = "ubuntu"
    DEBIAN = "debian"
    FEDORA = "fedora"
    RHEL = "rhel"

    @property
    def has_nitro_cli(self) -> bool:
        """True if the family has a package of nitro-cli: Amazon Linux only."""
        return self in {Family.AL2, Family.AL2023}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distro:
    """A known distribution; ``name`` is its own name."""

    family: Family
    name: str


# A name, perhaps a quote, the value, and that quote again.
_ASSIGNMENT = re.compile(r"""^[ \t]*([A-Za-z0-9_]+)=(["']?)(.*?)\2[ \t\r]*$""", re.MULTILINE)
_ESCAPE = re.compile(r"\\(.?)")
_AMAZON = {"2": Family.AL2, "2023": Family.AL2023}
# By ID or, for derivatives, by the first known word of ID_LIKE.
_BY_ID = {
    "ubuntu": Family.UBUNTU,
    "debian": Family.DEBIAN,
    "fedora": Family.FEDORA,
    "rhel": Family.RHEL,
    "centos": Family.RHEL,
}


def detect_distro(tree: Tree) -> Distro:
    """Detect the distribution of this host.

    Raises:
        HostError: there is no os-release, or it names an unknown distribution.
    """
    text = tree.text("/etc/os-release")
    if text is None:
        text = tree.text("/usr/lib/os-release")
    if text is None:
        raise _unknown("found no /etc/os-release")
    values = parse_os_release(text)
    identity, version = values.get("ID", ""), values.get("VERSION_ID", "")
    name = values.get("PRETTY_NAME") or f"{identity} {version}".strip()
    if identity == "amzn":
        family = _AMAZON.get(version)
    else:
        words = [identity, *values.get("ID_LIKE", "").split()]
        family = next((_BY_ID[word] for word in words if word in _BY_ID), None)
    if family is None:
        raise _unknown(f"found {name or 'an os-release without a name'}")
    return Distro(family=family, name=name)


def parse_os_release(text: str) -> dict[str, str]:
    """Parse the assignments of an os-release: the last of a name counts, other lines are skipped.

    https://www.freedesktop.org/software/systemd/man/latest/os-release.html
    """
    return {name: _ESCAPE.sub(r"\1", value) for name, _, value in _ASSIGNMENT.findall(text)}


def _unknown(found: str) -> HostError:
    return HostError(
        f"expected one of {', '.join(Family)}; {found}",
        hint="docs/operations.md lists what a Nitro host needs; enclavectl doctor checks it on any system",
        code="unknown-distribution",
    )
