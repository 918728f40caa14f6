"""The fleet that the options of ``fleet render``, the configuration and the locks describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.artifacts.lock import Lock, read_lock
from enclavectl.cli.fleet_options import FleetOptions
from enclavectl.deploy.kubernetes.request import (
    FleetRequest,
    PageSize,
    ReleaseImage,
    check_code_registers,
    whole_pages,
)
from enclavectl.deploy.kubernetes.weights_key import WeightsKey
from enclavectl.errors import UsageError
from enclavectl.host.requirements import Demand, EifFacts, payload_memory_mib
from enclavectl.label import MODEL_PCR, label_of

if TYPE_CHECKING:
    from enclavectl.config.load import Config


def fleet_request(options: FleetOptions, config: Config) -> FleetRequest:
    """Return the fleet that the options, the configuration and the locks describe.

    Raises:
        UsageError: they do not fit each other, or what a cluster has.
    """
    locks = [read_lock(options.lock)]
    releases = [_release(locks[0], options.lock, options.image, options.replicas, debug=options.unsafe_debug)]
    if (options.previous is None) != (options.previous_image is None):
        raise UsageError(
            "expected --previous and --previous-image together, found one",
            hint="the release that runs now has a lock and an image of its own; give both",
        )
    if options.previous is not None and options.previous_image is not None:
        count = options.replicas if options.previous_replicas is None else options.previous_replicas
        locks.append(read_lock(options.previous))
        releases.append(
            _release(locks[1], options.previous, options.previous_image, count, debug=options.unsafe_debug)
        )
    return FleetRequest(
        namespace=options.namespace,
        releases=tuple(releases),
        memory_mib=memory_of(options.memory_mib, config, locks, options.pages),
        cpus=config.enclave.cpus,
        pages=options.pages,
        arch=options.arch,
        pod_security=options.pod_security,
        service=options.service,
        metrics_from=options.metrics_from,
        most=options.most,
        nodes=options.nodes,
        slots=options.slots,
        is_debug=options.unsafe_debug,
        key=_key(options),
    )


def _key(options: FleetOptions) -> WeightsKey | None:
    if options.release is None:
        if options.tls_pin is not None:
            raise UsageError("--tls-pin: expected --release as well", hint="it is of the weights' owner")
        return None
    return WeightsKey(source=options.release, pin=options.tls_pin)


def memory_of(given_mib: int | None, config: Config, locks: Sequence[Lock], pages: PageSize) -> int:
    """Return an enclave's memory in whole pages, by the rules of ``plan``: as given, or as much as is needed.

    Raises:
        UsageError: it was given, and no number of these pages is as much.
    """
    if given_mib is not None:
        return whole_pages(given_mib, pages, is_exact=True)
    asked = config.enclave.memory_mib
    if locks and str(config.sources["enclave.memory_mib"]) == "default":
        # Nobody chose a size: what the payload takes at worst, or what nitro-cli wants at least.
        has_payload = any(lock.model or lock.is_runtime for lock in locks)
        asked = payload_memory_mib(config.enclave.cpus) if has_payload else 0
    images = [EifFacts(path=Path(str(lock.eif["file"])), size=_size(lock), arch="") for lock in locks]
    needed = [Demand(memory_mib=asked, cpus=config.enclave.cpus, eif=eif).needed_mib for eif in images]
    return whole_pages(max([asked, *needed]), pages, is_exact=False)


def _size(lock: Lock) -> int:
    size = lock.eif["size"]
    return size if isinstance(size, int) else 0


def release_of(lock: Lock, path: Path, *, allow_debug: bool = False) -> str:
    """Return the label of the release of a lock; ``path`` names the lock in messages.

    Raises:
        UsageError: the lock does not say which code it is of.
    """
    check_code_registers(lock, str(path), allow_debug=allow_debug)
    pcrs = lock.registers(str(path))
    return label_of(pcrs, model=MODEL_PCR in pcrs)


def _release(lock: Lock, path: Path, image: str, replicas: int, *, debug: bool) -> ReleaseImage:
    return ReleaseImage(
        label=release_of(lock, path, allow_debug=debug),
        image=image,
        eif_size=_size(lock),
        replicas=replicas,
        is_sealed=lock.is_runtime,
    )
