"""The fleet that the options of ``fleet render``, the configuration and the locks describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.artifacts.lock import Lock, read_lock
from enclavectl.cli.fleet_options import FleetOptions
from enclavectl.deploy.kubernetes.request import (
    FleetRequest,
    PageSize,
    ReleaseImage,
    check_code_registers,
    check_whole_pages,
    whole_pages,
)
from enclavectl.deploy.kubernetes.weights_key import WeightsKey
from enclavectl.errors import UsageError
from enclavectl.host.requirements import Demand, EifFacts, payload_memory_mib
from enclavectl.label import MODEL_PCR, label_of

if TYPE_CHECKING:
    from enclavectl.config.load import Config, Source

_MEMORY = "enclave.memory_mib"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A release as the options name it. ``path`` is of its lock, ``model`` of its sealed weights."""

    path: Path
    image: str
    replicas: int
    model: Path | None

    def release(self, lock: Lock, *, key: str | None, debug: bool) -> ReleaseImage:
        """Return the release; ``key`` is where pods get the key of sealed weights."""
        return ReleaseImage(
            label=release_of(lock, self.path, model=self.model, key=key, allow_debug=debug),
            image=self.image,
            eif_size=_size(lock),
            replicas=self.replicas,
            is_sealed=lock.is_runtime,
        )


def fleet_request(options: FleetOptions, config: Config) -> FleetRequest:
    """Return the fleet that the options, the configuration and the locks describe.

    Raises:
        UsageError: they do not fit each other, or what a cluster has.
    """
    if (options.previous is None) != (options.previous_image is None):
        raise UsageError(
            "expected --previous and --previous-image together, found one",
            hint="the release that runs now has a lock and an image of its own; give both",
        )
    if options.previous is None and (options.previous_model or options.previous_replicas):
        raise UsageError(
            "--previous-model, --previous-replicas: expected --previous as well",
            hint="they are of the release that runs now; --model and --replicas are of the new one",
        )
    given = [_Given(path=options.lock, image=options.image, replicas=options.replicas, model=options.model)]
    if options.previous is not None and options.previous_image is not None:
        given.append(
            _Given(
                path=options.previous,
                image=options.previous_image,
                replicas=options.previous_replicas or options.replicas,
                model=options.previous_model,
            )
        )
    locks = [read_lock(one.path) for one in given]
    releases = [
        one.release(lock, key=options.release, debug=options.unsafe_debug)
        for one, lock in zip(given, locks, strict=True)
    ]
    return FleetRequest(
        namespace=options.namespace,
        releases=tuple(releases),
        memory_mib=memory_of(config, locks, options.pages),
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


def memory_of(config: Config, locks: Sequence[Lock], pages: PageSize) -> int:
    """Return an enclave's memory in whole pages: as much as was chosen, else as much as is needed.

    A size counts as chosen wherever it was: by the option, a variable or the configuration file. What is
    needed follows the rules of ``plan``.

    Raises:
        UsageError: it was chosen, and is too little, or no number of these pages is as much.
    """
    cpus, memory_mib, source = config.enclave.cpus, config.enclave.memory_mib, config.sources[_MEMORY]
    if source.is_default:
        # What the images and their payloads need is enough.
        needed = [_demand(lock, cpus).needed_mib for lock in locks]
        return whole_pages(max(needed, default=memory_mib), pages)
    for lock in locks:
        _check_enough(memory_mib, source, lock, cpus, pages)
    check_whole_pages(memory_mib, pages, where=_where(source))
    return memory_mib


def _demand(lock: Lock, cpus: int) -> Demand:
    """Return what an enclave of a lock takes: its payload at worst, and nitro-cli's least for its image."""
    has_payload = bool(lock.model) or lock.is_runtime
    image = EifFacts(path=Path(str(lock.eif["file"])), size=_size(lock), arch="")
    return Demand(memory_mib=payload_memory_mib(cpus) if has_payload else 0, cpus=cpus, eif=image)


def _where(source: Source) -> str:
    """Return where the memory was chosen, as messages about settings begin."""
    return source.begins(_MEMORY, flag="--memory")


def _check_enough(given_mib: int, source: Source, lock: Lock, cpus: int, pages: PageSize) -> None:
    demand = _demand(lock, cpus)
    if given_mib >= demand.needed_mib:
        return
    is_image = demand.min_memory_mib >= demand.memory_mib
    why = "4 times the image" if is_image else f"what the payload takes at worst with {cpus} vCPUs"
    fewer = "" if is_image else "; or fewer --cpus, which have fewer pictures at a time"
    raise UsageError(
        f"{_where(source)}: expected at least {demand.needed_mib} MiB, {why}, found {given_mib}",
        hint=f"--memory {whole_pages(demand.needed_mib, pages)}{fewer}",
        code="memory-below-minimum",
    )


def _size(lock: Lock) -> int:
    size = lock.eif["size"]
    return size if isinstance(size, int) else 0


def release_of(
    lock: Lock, path: Path, *, model: Path | None = None, key: str | None = None, allow_debug: bool = False
) -> str:
    """Return the label of the release of a lock; ``path`` names the lock in messages.

    A runtime's label needs its ``model``, a sealed file, as the policies of clients do. ``key`` is where pods
    get the key of that file, if it is known.

    Raises:
        UsageError: the lock does not say which code it is of, or it and the model do not belong together.
    """
    check_code_registers(lock, str(path), allow_debug=allow_debug)
    pcrs = lock.registers(str(path))
    if lock.is_runtime:
        pcrs[MODEL_PCR] = _sealed_register(path, model, key)
    elif model is not None:
        raise UsageError(
            f"{model}: expected the lock of a runtime without weights, found {path} with a model of its own",
            hint="leave the sealed weights out; enclavectl build --model none makes a runtime for them",
            code="image-with-weights",
        )
    return label_of(pcrs, model=MODEL_PCR in pcrs)


def labels_of(lock: Lock, path: Path, models: Sequence[Path]) -> frozenset[str]:
    """Return the labels that a lock's release may have: a runtime has one with each of the sealed ``models``.

    Raises:
        UsageError: as ``release_of``.
    """
    if not lock.is_runtime:
        return frozenset([release_of(lock, path, allow_debug=True)])
    return frozenset(release_of(lock, path, model=model, allow_debug=True) for model in models or (None,))


def _sealed_register(path: Path, model: Path | None, key: str | None) -> bytes:
    if model is None:
        raise UsageError(
            f"{path}: a runtime without weights: expected the sealed model as well",
            hint="name it with --model FILE.sealed, or --previous-model for that of --previous",
            code="sealed-release",
        )
    from enclavectl.cli.sealed_start import check_for_kms  # noqa: PLC0415 - few models are sealed
    from enclavectl.weights.sealed_file import read_sealed  # noqa: PLC0415 - few models are sealed

    sealed = read_sealed(model)
    check_for_kms(sealed, key)
    return sealed.register
