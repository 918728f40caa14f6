"""What a fleet is rendered from, as typed values, and what is refused before anything is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.artifacts.lock import Lock
from enclavectl.deploy.kubernetes.weights_key import KEY_WAIT_S, WeightsKey
from enclavectl.errors import UsageError
from enclavectl.host.requirements import IMAGE_SLACK_MIB, MAX_ENCLAVES
from enclavectl.nitro_cli.limits import boot_bound_s, minimum_memory_mib

# RFC 1123 labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# A digest has one length; anything else behind an @ is refused by the runtime, on each node.
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]{0,499}(?:@sha256:[0-9a-f]{64})?", re.ASCII)
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$", re.ASCII)
_GIB = 1024
_ZEROS = re.compile(r"0+", re.ASCII)
CODE_REGISTERS = ("PCR0", "PCR1", "PCR2")


class PodSecurity(StrEnum):
    """The level of Pod Security that the namespace enforces."""

    BASELINE = "baseline"
    RESTRICTED = "restricted"


class ServiceKind(StrEnum):
    """How clients reach the gateways."""

    CLUSTER_IP = "cluster-ip"
    NLB = "nlb"


class PageSize(StrEnum):
    """The huge pages that the nodes' allocator makes: those of 1 GiB as soon as it keeps 1,024 MiB."""

    GIB = "1Gi"
    TWO_MIB = "2Mi"

    @property
    def mib(self) -> int:
        """The size in MiB."""
        return _GIB if self is PageSize.GIB else 2

    @property
    def resource(self) -> str:
        """The name of the resource."""
        return f"hugepages-{self}"


class Arch(StrEnum):
    """The processors of the nodes, as Kubernetes names them."""

    AMD64 = "amd64"
    ARM64 = "arm64"

    @property
    def threads_per_core(self) -> int:
        """2 with simultaneous multithreading, which Graviton does not have."""
        return 2 if self is Arch.AMD64 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseImage:
    """A release in the fleet: the label that policies and gateways give it, and the image of its pods.

    ``eif_size`` is in bytes. ``is_sealed``: its weights are not in the image but beside it, and sealed.
    """

    label: str
    image: str
    eif_size: int
    replicas: int
    is_sealed: bool = False

    @property
    def short(self) -> str:
        """The part of the label that stands in names of objects."""
        return self.label[:8]

    @property
    def is_pinned(self) -> bool:
        """True if the image is named by its digest: the same name is then the same image tomorrow."""
        return _DIGEST.search(self.image) is not None

    @property
    def ordinary_mib(self) -> int:
        """The memory beside the huge pages: nitro-cli reads the whole image to hash it."""
        return -(-self.eif_size >> 20) + IMAGE_SLACK_MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRequest:
    """A fleet. ``releases`` has the newest one first; ``most`` is the bound of the autoscaler, None without.

    ``nodes`` is how many there are, if that is known: then replicas are held to their slots.
    """

    namespace: str
    releases: tuple[ReleaseImage, ...]
    memory_mib: int
    cpus: int
    pages: PageSize
    arch: Arch
    pod_security: PodSecurity
    service: ServiceKind
    metrics_from: str
    most: int | None = None
    nodes: int | None = None
    slots: int = MAX_ENCLAVES
    is_debug: bool = False
    key: WeightsKey | None = None

    def __post_init__(self) -> None:
        """Refuse what no cluster could run.

        Raises:
            UsageError: a name, an image, a size or a number cannot be used; the message has the arithmetic.
        """
        _check_name(self.namespace, "--namespace")
        if self.namespace.startswith("kube-"):
            raise UsageError(
                f"--namespace: expected one of the fleet's own, found {self.namespace}",
                hint="names with kube- are the cluster's; the fleet's Pod Security level would be theirs too",
            )
        _check_name(self.metrics_from, "--metrics-from")
        for release in self.releases:
            _check_image(release.image)
        if len({release.label for release in self.releases}) != len(self.releases):
            raise UsageError(
                f"--previous: expected another release, found {self.releases[0].label} twice",
                hint="name the lock of the release that runs now; leave it out where there is none",
            )
        self._check_key()
        self._check_cpus()
        self._check_memory()
        self._check_replicas()

    @property
    def pages_mib(self) -> int:
        """The memory of an enclave in whole pages."""
        return -(-self.memory_mib // self.pages.mib) * self.pages.mib

    @property
    def boot_bound_s(self) -> int:
        """nitro-cli's timeout of the largest image's boot."""
        return boot_bound_s(max(release.eif_size for release in self.releases), self.pages_mib)

    @property
    def key_wait_s(self) -> int:
        """How long a pod may wait for the key of its weights, after its boot."""
        return 0 if self.key is None else KEY_WAIT_S

    def _check_key(self) -> None:
        sealed = [release.label for release in self.releases if release.is_sealed]
        if sealed and self.key is None:
            raise UsageError(
                f"release {sealed[0]} is a runtime without weights: expected --release",
                hint="--release tls:HOST:PORT of the weights' owner with --tls-pin, or --release kms",
                code="sealed-release",
            )
        if self.key is not None and not sealed:
            raise UsageError(
                "--release: expected the lock of a runtime without weights, found one with a model",
                hint="leave it out; enclavectl build --model none makes a runtime for sealed weights",
            )

    def _check_cpus(self) -> None:
        threads = self.arch.threads_per_core
        if self.cpus < 1 or self.cpus % threads:
            up = max(threads, -(-self.cpus // threads) * threads)
            raise UsageError(
                f"--cpus {self.cpus}: expected whole cores, which have {threads} threads on {self.arch}",
                hint=f"--cpus {up}; where cores have one thread, say --arch {Arch.ARM64}",
            )

    def _check_memory(self) -> None:
        for release in self.releases:
            least = minimum_memory_mib(release.eif_size)
            if self.memory_mib < least:
                raise UsageError(
                    f"--memory {self.memory_mib}: expected at least {least} MiB, which is 4 times the image "
                    f"of release {release.label}",
                    hint=f"--memory {-(-least // self.pages.mib) * self.pages.mib}",
                )

    def _check_replicas(self) -> None:
        asked = sum(release.replicas for release in self.releases)
        if self.most is not None and self.most < self.releases[0].replicas:
            raise UsageError(
                f"--max {self.most}: expected at least --replicas, which is {self.releases[0].replicas}"
            )
        counts = self._counts()
        largest = asked if self.most is None else asked - self.releases[0].replicas + self.most
        if not 1 <= self.slots <= MAX_ENCLAVES:
            raise UsageError(f"--slots {self.slots}: expected 1 to {MAX_ENCLAVES}, the enclaves of a node")
        if self.nodes is not None and largest > (room := self.nodes * self.slots):
            raise UsageError(
                f"expected at most {room} enclaves ({self.nodes} node{'s' if self.nodes > 1 else ''} x "
                f"{self.slots} slots), found {' + '.join(map(str, counts))}"
                + (f" = {largest}" if len(counts) > 1 else ""),
                hint=f"{-(-largest // self.slots)} nodes would do; --replicas or --max could be lower",
                code="fleet-slots",
            )

    def _counts(self) -> list[int]:
        first = self.releases[0].replicas if self.most is None else self.most
        return [first, *(release.replicas for release in self.releases[1:])]


def check_code_registers(lock: Lock, name: str, *, allow_debug: bool) -> None:
    """Check that a lock says which code its release is; ``name`` names the lock in messages.

    Raises:
        UsageError: it does not, or says zeros, as debug mode attests.
    """
    missing = [register for register in CODE_REGISTERS if register not in lock.pcrs]
    if missing:
        raise UsageError(
            f"{name}: expected the registers of an image, found no {', '.join(missing)}",
            hint="enclavectl build writes a lock with them; enclavectl lock check compares it with the image",
            code="lock-without-pcrs",
        )
    zeros = [register for register in CODE_REGISTERS if _ZEROS.fullmatch(lock.pcrs[register])]
    if zeros and not allow_debug:
        raise UsageError(
            f"{name}: {', '.join(zeros)} are zeros, as an enclave in debug mode attests them: nothing proves "
            "its code, and clients refuse it",
            hint="build an image and take its lock; for an experiment without secrets: --unsafe-debug",
            code="debug-release",
        )


def whole_pages(memory_mib: int, pages: PageSize) -> int:
    """Return the least memory in whole pages that is as much."""
    return max(1, -(-memory_mib // pages.mib)) * pages.mib


def check_whole_pages(memory_mib: int, pages: PageSize, *, where: str) -> None:
    """Check the memory that a person chose; ``where`` it was chosen begins the message.

    Raises:
        UsageError: no number of these pages is as much.
    """
    up = whole_pages(memory_mib, pages)
    if up != memory_mib:
        other = "" if pages is PageSize.TWO_MIB or memory_mib % 2 else "; or --pages 2Mi, on nodes made so"
        raise UsageError(
            f"{where}: expected a multiple of {pages.mib} MiB, the huge pages of the nodes, "
            f"found {memory_mib}",
            hint=f"--memory {up}{other}",
            code="no-page-size",
        )


def _check_name(name: str, option: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{option}: expected up to 63 lower-case letters, digits and -, found {name!r:.100}",
            hint="Kubernetes refuses other names: neither end may be -",
        )


def _check_image(image: str) -> None:
    if _IMAGE.fullmatch(image) is None:
        raise UsageError(
            f"--image: expected the name of a container image, found {image!r:.100}",
            hint="such as registry.example/enclavectl-parent@sha256:DIGEST, with 64 hex digits",
        )
