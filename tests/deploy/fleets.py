"""Fleets for tests: locks as a build writes them, and requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from enclavectl.artifacts.lock import Lock
from enclavectl.deploy.kubernetes.request import (
    Arch,
    FleetRequest,
    PageSize,
    PodSecurity,
    ReleaseImage,
    ServiceKind,
)
from enclavectl.deploy.kubernetes.weights_key import WeightsKey

MIB = 1 << 20
NEW, OLD = "25a8873e612e0051", "07b9f3a1c2d4e5f6"


def image(letter: str = "c") -> str:
    return f"registry.example/parent@sha256:{letter * 64}"


def release(
    label: str = NEW, *, replicas: int = 2, letter: str = "c", is_sealed: bool = False
) -> ReleaseImage:
    return ReleaseImage(
        label=label, image=image(letter), eif_size=180 * MIB, replicas=replicas, is_sealed=is_sealed
    )


def fleet(**changes: object) -> FleetRequest:
    plain = FleetRequest(
        namespace="enclavectl",
        releases=(release(),),
        memory_mib=3072,
        cpus=2,
        pages=PageSize.GIB,
        arch=Arch.AMD64,
        pod_security=PodSecurity.BASELINE,
        service=ServiceKind.CLUSTER_IP,
        metrics_from="monitoring",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # each test names what it changes


# What `fleet render` can write, by the name of the golden folder.
FLEETS = {
    "baseline": fleet(),
    "restricted": fleet(pod_security=PodSecurity.RESTRICTED, service=ServiceKind.NLB, most=16),
    "rollout": fleet(
        releases=(release(replicas=3), release(OLD, replicas=2, letter="d")),
        pages=PageSize.TWO_MIB,
        memory_mib=1000,
        arch=Arch.ARM64,
        cpus=3,
    ),
    "sealed": fleet(
        releases=(release(is_sealed=True), release(OLD, letter="d")),
        key=WeightsKey(source="tls:owner.example:7443", pin="sha256:" + "ab" * 32),
    ),
}


def write_lock(path: Path, *, code: str = "01", size: int = 180 * MIB, **changes: object) -> Path:
    """A lock of an image with the payload."""
    registers = {"PCR0": code * 48, "PCR1": "02" * 48, "PCR2": "03" * 48, "PCR16": "16" * 48}
    lock = Lock(
        eif={"file": "enclave.eif", "sha256": "a" * 64, "size": size},
        pcrs=registers,
        mode="reproducible",
        image={"id": "sha256:" + "0" * 64, "base": {}},
        model={"id": "demo-lesion", "sha256": "b" * 64},
        wheels=(),
        blobs={},
        tools={},
        findings=(),
        allowed={},
    )
    path.write_bytes(replace(lock, **changes).to_bytes())  # type: ignore[arg-type]  # as above
    return path
