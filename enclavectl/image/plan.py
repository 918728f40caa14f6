"""The plan of a build: the base image, the wheels, the context, and the lint's findings on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from enclavectl import __version__
from enclavectl.artifacts.wheel import Wheel
from enclavectl.eif.ramdisk.platform import Platform
from enclavectl.errors import HostError, UsageError
from enclavectl.image.builder import ImageBuilder, ImageRecipe
from enclavectl.image.buildkit import choose_builder
from enclavectl.image.context import PAYLOAD, folder_context, payload_context
from enclavectl.image.engine import LABEL, Engine
from enclavectl.image.findings import LintFinding, bounded
from enclavectl.image.lint import lint_context, lint_model
from enclavectl.image.probe_watch import ProbeWatch
from enclavectl.image.target import Target, probe
from enclavectl.image.wheels import Runtime, WheelStore, fetch_wheels, requirements, resolve_wheels
from enclavectl.models.observation import runtime_name as runtime_here
from enclavectl.models.weights import Model

LABELS = {LABEL: __version__}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutput:
    """The output of a running build.

    ``step`` takes its parts, ``line`` the lines that Docker prints, ``note`` facts that a person must see.
    """

    step: Callable[[str], None]
    line: Callable[[str], None]
    note: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The application of an enclave image: the payload with ``model``, an ``image``, or a ``dockerfile``.

    With ``is_sealed`` it is the payload without weights, and ``model`` is what the build's warm-up tries.

    ``dockerfile`` is a folder with a file of that name, or the file itself. ``platform`` selects one platform
    of a multi-platform image.
    """

    model: Model | None = None
    is_sealed: bool = False
    image: str | None = None
    dockerfile: Path | None = None
    platform: Platform | None = None
    base_image: str = ""
    runtime: Runtime = Runtime.AUTO

    @property
    def name(self) -> str:
        """The application's name in the image's metadata."""
        if self.image is not None:
            return self.image.partition(":")[0]
        if self.is_sealed:
            return "runtime"
        return self.model.card.model_id if self.model else "application"

    @property
    def measured_model(self) -> Model | None:
        """The model in the image; None if there is none."""
        return None if self.is_sealed else self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Either an existing Docker image, or the recipe of one and its builder."""

    image_id: str | None = None
    recipe: ImageRecipe | None = None
    builder: ImageBuilder | None = None
    base: Mapping[str, object] = field(default_factory=dict)
    wheels: tuple[Wheel, ...] = ()
    model: Model | None = None
    findings: tuple[LintFinding, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the object that ``build --dry-run`` prints."""
        return {
            "image": self.image_id,
            "builder": self.builder.name if self.builder else None,
            "base": dict(self.base),
            "wheels": [wheel.to_json() for wheel in self.wheels],
            "context": [file.name for file in self.recipe.files] if self.recipe else [],
            "findings": [finding.to_json() for finding in self.findings],
        }


def make_plan(
    source: Source,
    locked: tuple[Wheel, ...] | None,
    engine: Engine,
    store: WheelStore,
    output: BuildOutput,
) -> Plan:
    """Plan a build of ``source``. Pull the base image and download the wheels that are missing.

    Raises:
        UsageError: the model's weights do not match its card, there is no Dockerfile, or no builder here
            supports the Dockerfile.
        HostError: Docker or pip failed.
    """
    if source.image is not None:
        image_id = engine.require(source.image, platform=source.platform, on_line=output.line)
        return Plan(image_id=image_id, base={"reference": source.image})
    if source.dockerfile is not None:
        return _plan_dockerfile(source.dockerfile, engine, store.environ)
    if source.model is None:
        raise UsageError("expected a model, an image or a Dockerfile to build from")
    output.step(f"looking at the base image {source.base_image}")
    base_id = engine.require(source.base_image, on_line=output.line)
    target = probe(engine, base_id)
    output.step("collecting the payload's wheels")
    runtime = source.runtime.on(target)
    wheels = lock_wheels(locked, store, target, runtime)
    found = next((one for one in wheels if one.name == runtime), None)
    theirs = str(runtime) if found is None else f"{runtime} {found.version}"
    note = runtime_note(theirs, here=runtime_here())
    if note is not None and not source.is_sealed:  # nobody named the model that such a build tries
        output.note(note)
    payload = payload_context(source.model, wheels, store, is_sealed=source.is_sealed)
    return Plan(
        # The base image's id, not its name: a tag may move between the probe and the build.
        recipe=ImageRecipe(
            files=payload, dockerfile=PAYLOAD / "Dockerfile", base=base_id, has_network=False, labels=LABELS
        ),
        builder=choose_builder(engine, store.environ),
        base={"reference": source.base_image, "id": base_id, "target": target.to_json()},
        wheels=wheels,
        model=source.model,
        findings=(*lint_model(source.model, is_images_runtime=note is None), *bounded(lint_context(payload))),
    )


def runtime_note(image: str, *, here: str) -> str | None:
    """Say that the model was tried in another runtime than the image's; None if it is the same."""
    if image == here:
        return None
    return f"the model was tried in {here}; the build tries it in the image's own {image} as well"


def _plan_dockerfile(path: Path, engine: Engine, environ: Mapping[str, str]) -> Plan:
    files = folder_context(path)
    builder = choose_builder(engine, environ)
    dockerfile = files.folder / files.dockerfile
    builder.require(dockerfile)
    return Plan(
        # A user's Dockerfile may install packages from the network.
        recipe=ImageRecipe(files=files, dockerfile=dockerfile, has_network=True, labels=LABELS),
        builder=builder,
        findings=tuple(bounded(lint_context(files))),
    )


def make_image(plan: Plan, folder: Path, output: BuildOutput) -> str:
    """Build the plan's Docker image if it does not exist, and return its id.

    ``folder`` has room for the context.

    Raises:
        UsageError: the model cannot serve in the image's own runtime.
        HostError: a step of the build failed, or the engine failed.
    """
    if plan.recipe is None or plan.builder is None:
        return str(plan.image_id)
    output.step("building the Docker image")
    watch = ProbeWatch(output.line)
    try:
        return plan.builder.build(plan.recipe, folder, watch.line)
    except HostError as exc:
        if plan.model is not None and (misfit := watch.misfit(plan.model)) is not None:
            raise misfit from exc
        raise


def lock_wheels(
    locked: tuple[Wheel, ...] | None, store: WheelStore, target: Target, runtime: Runtime
) -> tuple[Wheel, ...]:
    """Choose the wheels of the lock if they fit this target and runtime, else the newest; store all of them.

    Raises:
        HostError: pip failed.
    """
    names = {requirement.partition(">")[0].lower() for requirement in requirements(target, runtime)}
    if locked and names <= {wheel.name for wheel in locked} and all(_fits(one, target) for one in locked):
        fetch_wheels(store, target, locked)
        return locked
    return resolve_wheels(store, target, runtime)


def _fits(wheel: Wheel, target: Target) -> bool:
    if wheel.file.endswith("-none-any.whl"):
        return True
    is_abi = f"-{target.abi}-" in wheel.file or "-abi3-" in wheel.file
    return is_abi and wheel.file.endswith(f"_{target.machine}.whl")
