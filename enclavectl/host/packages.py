"""The commands that install a host's parts, by distribution, or instructions if it has no package."""

from __future__ import annotations

from dataclasses import dataclass

from enclavectl.artifacts.boot_files import NITRO_BLOBS
from enclavectl.host.changer import Action
from enclavectl.host.distro import Family
from enclavectl.host.host import Host

_APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get")
_SOURCES = (
    "no package for this system; with gcc, make, git and Docker, build it: "
    "git clone https://github.com/aws/aws-nitro-enclaves-cli && cd aws-nitro-enclaves-cli && "
    "make nitro-cli && make vsock-proxy && sudo make NITRO_CLI_INSTALL_DIR=/ install; then run this again"
)
_RHEL_DOCKER = (
    "Red Hat's repositories have no Docker; add Docker's: https://docs.docker.com/engine/install/rhel/, "
    "then run this again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The installation of a part: programs in order, or instructions for a person."""

    actions: tuple[Action, ...] = ()
    by_hand: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part to install: the files that prove its presence, and its recipes."""

    id: str
    title: str
    files: tuple[str, ...]
    recipes: dict[Family, Recipe]

    def is_installed(self, host: Host) -> bool:
        """Return whether one of its files exists."""
        return any(host.tree.exists(name) for name in self.files)


def _run(*argv: str) -> Recipe:
    return Recipe(actions=(Action(argv=argv),))


def _apt(package: str) -> Recipe:
    return Recipe(
        actions=(Action(argv=(*_APT, "update")), Action(argv=(*_APT, "install", "-y", package))),
    )


_BY_HAND = dict.fromkeys((Family.UBUNTU, Family.DEBIAN, Family.FEDORA, Family.RHEL), Recipe(by_hand=_SOURCES))

# Amazon's: https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave-cli-install.html
PARTS = (
    Part(
        id="docker",
        title="Docker, which builds images",
        files=("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"),
        recipes={
            Family.AL2: _run("amazon-linux-extras", "install", "docker", "-y"),
            Family.AL2023: _run("dnf", "install", "docker", "-y"),
            Family.UBUNTU: _apt("docker.io"),
            Family.DEBIAN: _apt("docker.io"),
            Family.FEDORA: _run("dnf", "install", "moby-engine", "-y"),
            Family.RHEL: Recipe(by_hand=_RHEL_DOCKER),
        },
    ),
    Part(
        id="nitro-cli",
        title="nitro-cli with the allocator and vsock-proxy",
        files=("/usr/bin/nitro-cli", "/usr/sbin/nitro-cli", "/usr/local/bin/nitro-cli"),
        recipes={
            Family.AL2: _run("amazon-linux-extras", "install", "aws-nitro-enclaves-cli", "-y"),
            Family.AL2023: _run("dnf", "install", "aws-nitro-enclaves-cli", "-y"),
            **_BY_HAND,
        },
    ),
    Part(
        id="boot-files",
        title="the kernel and the init that images boot with",
        files=(f"{NITRO_BLOBS}/cmdline",),
        recipes={
            Family.AL2: _run("yum", "install", "aws-nitro-enclaves-cli-devel", "-y"),
            Family.AL2023: _run("dnf", "install", "aws-nitro-enclaves-cli-devel", "-y"),
            **_BY_HAND,
        },
    ),
)


def driver_actions(family: Family) -> tuple[Action, ...]:
    """Return the actions that load the driver; on Ubuntu it is in a separate package."""
    load = Action(argv=("modprobe", "nitro_enclaves"))
    return (*_apt("linux-modules-extra-aws").actions, load) if family is Family.UBUNTU else (load,)
