"""A whole build: wheels, context, Docker image, ramdisks, enclave image, PCRs, lock."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from enclave_payload.card import model_register
from enclavectl import __version__
from enclavectl.artifacts.boot_files import BlobPaths, BootBlobs, likely_arch, open_blobs, require_blobs
from enclavectl.artifacts.lock import MODEL_REGISTER, Lock
from enclavectl.artifacts.wheel import Wheel
from enclavectl.eif.build import ImageSpec, Signer, build_image
from enclavectl.eif.file_range import FileRange, whole_file
from enclavectl.eif.format import Arch, SectionKind, arch_named
from enclavectl.eif.measure import Measurements
from enclavectl.eif.metadata import Metadata
from enclavectl.eif.ramdisk.application import write_application
from enclavectl.eif.ramdisk.archive import ImageArchive, open_archive
from enclavectl.eif.ramdisk.layers import FlattenedImage, flatten
from enclavectl.eif.ramdisk.ramdisks import EPOCH, Mode, boot_entries, write_ramdisk
from enclavectl.eif.scan import parse_layout
from enclavectl.errors import HostError, UsageError
from enclavectl.files import open_regular, replace_file, stage_file
from enclavectl.image.command import lint_command
from enclavectl.image.dockerfile import read_dockerfile
from enclavectl.image.dockerfile_lint import lint_dockerfile
from enclavectl.image.engine import Engine
from enclavectl.image.findings import LintFinding, bounded, refuse_blocking
from enclavectl.image.lint import (
    lint_architecture,
    lint_config,
    lint_implied,
    lint_layers,
    lint_memory,
    lint_ramdisk,
    lint_signature,
)
from enclavectl.image.nitro import NitroBuild, NitroSigning, build_with_nitro_cli, is_kms_key
from enclavectl.image.plan import BuildOutput, Plan, Source, make_image, make_plan
from enclavectl.image.scratch import scratch_file, scratch_folder
from enclavectl.image.wheels import WheelStore
from enclavectl.nitro_cli.environment import find_nitro_cli


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """All inputs of a build. ``locked`` are the wheels to take; None resolves new ones.

    ``lock_path`` is where the lock will be written: the lock names the image relative to itself. If
    ``nitro_cli`` is given, nitro-cli builds the image and signs with that key. Otherwise our own builder
    does, and ``signer`` signs.
    """

    source: Source
    blobs: BlobPaths
    mode: Mode
    output: Path
    lock_path: Path
    memory_mib: int
    locked: tuple[Wheel, ...] | None
    signer: Signer | None = None
    nitro_cli: NitroSigning | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    allowed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerImage:
    """A Docker image and the plan that it was made by."""

    image_id: str
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedImage:
    """A finished enclave image in the scratch folder, before it is moved to its destination."""

    path: Path
    measurements: Measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The measurements of the finished image, and its lock."""

    measurements: Measurements
    lock: Lock
    findings: tuple[LintFinding, ...]


def build_enclave(
    request: BuildRequest, engine: Engine, store: WheelStore, build_output: BuildOutput
) -> BuildResult:
    """Build the enclave image at ``request.output`` and its lock at ``request.lock_path``.

    Both files are replaced at the end, or neither is. The lint runs before that: if it refuses the image, the
    old files stay.

    Raises:
        UsageError: the lint refuses, or an input cannot be used.
        HostError: Docker, pip, nitro-cli or the file system failed.
        EifError: the image cannot become an enclave image.
    """
    require_blobs(request.blobs, request.environ)
    if request.nitro_cli is not None:
        _require_nitro_cli(request.nitro_cli, request.environ)  # before minutes of building, not after
    plan = make_plan(request.source, request.locked, engine, store, build_output)
    refuse_blocking(plan.findings, request.allowed)
    docker = DockerImage(image_id=make_image(plan, request.output.parent, build_output), plan=plan)
    with ExitStack() as stack:
        staged_lock = stack.enter_context(stage_file(request.lock_path.parent, mode=0o644))
        staged_image = stack.enter_context(scratch_folder(request.output.parent)) / "enclave.eif"
        build_output.step("reading the image's layers")
        archive = stack.enter_context(_saved(docker.image_id, request, engine))
        arch = _arch(archive)
        blobs = stack.enter_context(open_blobs(request.blobs, arch, environ=request.environ))
        findings = [*plan.findings, *bounded(_lint_image(archive, arch, blobs, request.mode))]
        refuse_blocking(findings, request.allowed)
        if request.nitro_cli is None:
            metadata = _metadata(request, docker, blobs, engine)
            ours = _Native(request=request, archive=archive, blobs=blobs, metadata=metadata)
            measurements = ours.build(staged_image, findings, build_output)
        else:
            with flatten(archive.layers) as image:
                findings += lint_implied(image.implied, request.mode)
                findings += bounded(lint_command(image, archive.config, arch))
            refuse_blocking(findings, request.allowed)
            build_output.step("nitro-cli builds the enclave image")
            with engine.named(docker.image_id) as name:
                build = NitroBuild(
                    image=name,
                    output=staged_image,
                    blobs=request.blobs.folder,
                    key=request.nitro_cli.key,
                    certificate=request.nitro_cli.certificate,
                )
                measurements = build_with_nitro_cli(build, request.environ)
                findings += _lint_built(staged_image, request.memory_mib)
                refuse_blocking(findings, request.allowed)
        staged = StagedImage(path=staged_image, measurements=measurements)
        lock = _lock(request, docker, blobs, staged, engine.version, findings)
        staged_lock.file.write(lock.to_bytes())
        staged_lock.sync()
        with _undisturbed():
            replace_file(staged_image, request.output)
            staged_lock.commit(request.lock_path)
    return BuildResult(measurements=measurements, lock=lock, findings=tuple(findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Native:
    """The inputs of our own builder, once the Docker image exists."""

    request: BuildRequest
    archive: ImageArchive
    blobs: BootBlobs
    metadata: Metadata

    def build(self, output: Path, findings: list[LintFinding], build_output: BuildOutput) -> Measurements:
        request, folder = self.request, output.parent
        build_output.step("writing the ramdisks")
        with scratch_file(folder) as boot, scratch_file(folder) as application:
            write_ramdisk(boot, boot_entries(self.blobs.files), request.mode)
            written = write_application(
                application, self.archive, request.mode, inspect=self._image_lint(findings)
            )
            ramdisks = (whole_file(boot), whole_file(application))
            findings += lint_implied(written.implied, request.mode)
            findings += bounded(_lint_ramdisks(ramdisks))
            size = self.blobs.kernel.size + sum(one.size for one in ramdisks)
            findings += lint_memory(size, request.memory_mib)
            refuse_blocking(findings, request.allowed)
            build_output.step("writing and measuring the enclave image")
            metadata = self.metadata
            if request.mode is Mode.REPRODUCIBLE:
                # Docker's image id differs in each build; this hash identifies the content and is
                # reproducible.
                metadata = replace(metadata, image_version=ramdisks[1].sha256())
            spec = ImageSpec(
                kernel=self.blobs.kernel,
                cmdline=self.blobs.cmdline,
                ramdisks=ramdisks,
                metadata=metadata,
                arch=_arch(self.archive),
                signer=request.signer,
            )
            return build_image(spec, output)

    def _image_lint(self, findings: list[LintFinding]) -> Callable[[FlattenedImage], None]:
        """Return the check that needs all layers together; it runs before the ramdisk is written."""

        def inspect(image: FlattenedImage) -> None:
            findings.extend(bounded(lint_command(image, self.archive.config, _arch(self.archive))))
            refuse_blocking(findings, self.request.allowed)

        return inspect


def _require_nitro_cli(signing: NitroSigning, environ: Mapping[str, str]) -> None:
    try:
        find_nitro_cli(environ)
    except HostError as exc:
        if signing.key is None or not is_kms_key(signing.key):
            raise
        raise HostError(
            "only nitro-cli can use a key in KMS, and it is not on the PATH",
            hint="enclavectl setup installs it; a key in a PEM file needs none",
            code=exc.code,
        ) from exc


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay SIGINT until the end of the block, so that no image is left beside another image's lock."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def lint_plan(request: BuildRequest, plan: Plan, engine: Engine, build_output: BuildOutput) -> Plan:
    """Add to the plan what the lint finds without building: in an existing image or in a Dockerfile.

    Raises:
        HostError: Docker or the file system failed.
        EifError: the image cannot be read.
    """
    if request.source.dockerfile is not None and plan.recipe is not None:
        findings = bounded(lint_dockerfile(read_dockerfile(plan.recipe.dockerfile)))
        return replace(plan, findings=(*plan.findings, *findings))
    if plan.image_id is None:
        return plan
    build_output.step("reading the image's layers")
    with _saved(plan.image_id, request, engine) as archive:
        with flatten(archive.layers) as image:
            command = tuple(lint_command(image, archive.config, _arch(archive)))
        findings = bounded((*lint_config(archive.config), *lint_layers(archive, request.mode), *command))
        return replace(plan, findings=(*plan.findings, *findings))


@contextmanager
def _saved(image_id: str, request: BuildRequest, engine: Engine) -> Iterator[ImageArchive]:
    with scratch_file(request.output.parent) as saved:
        engine.save(image_id, saved)
        saved.flush()
        preferred = likely_arch(request.blobs, request.environ)
        path, platform = Path(saved.name), request.source.platform
        with open_archive(path, platform=platform, preferred=preferred) as archive:
            yield archive


def _arch(archive: ImageArchive) -> Arch:
    found = arch_named(archive.config.architecture)
    if found is None:
        named = archive.config.architecture or "no architecture"
        raise UsageError(f"the image is for {named}; enclaves are amd64 or arm64", code="architecture")
    return found


def _lint_image(archive: ImageArchive, arch: Arch, blobs: BootBlobs, mode: Mode) -> Iterator[LintFinding]:
    yield from lint_config(archive.config)
    yield from lint_architecture(arch, blobs.kernel_arch, blobs.kernel_path)
    yield from lint_layers(archive, mode)


def _lint_ramdisks(ramdisks: Iterable[FileRange]) -> Iterator[LintFinding]:
    for index, ramdisk in enumerate(ramdisks):
        yield from lint_ramdisk(ramdisk, f"ramdisk{index}")


def _lint_built(path: Path, memory_mib: int) -> list[LintFinding]:
    """Check an image that nitro-cli wrote, as our own builder's image is checked before it is finished."""
    with open_regular(path, what="image file") as file:
        layout = parse_layout(file)
        ramdisks = map(layout.data, layout.all_of(SectionKind.RAMDISK))
        found = [*bounded(_lint_ramdisks(ramdisks)), *lint_memory(layout.size, memory_mib)]
        for section in layout.all_of(SectionKind.SIGNATURE):
            found += lint_signature(layout.data(section))
        return found


def _metadata(request: BuildRequest, docker: DockerImage, blobs: BootBlobs, engine: Engine) -> Metadata:
    """Make the metadata in nitro-cli's form; the reproducible mode omits what differs between builds."""
    system, version = blobs.kernel_system
    docker_info = None if request.mode is Mode.REPRODUCIBLE else engine.inspect(docker.image_id)
    return Metadata(
        image_name=request.source.name,
        image_version=docker.image_id.removeprefix("sha256:"),
        build_time=build_time(request.mode, request.environ).isoformat(),
        build_tool="enclavectl",
        build_tool_version=__version__,
        operating_system=system,
        kernel_version=version,
        docker_info=docker_info,  # type: ignore[arg-type]  # decoded JSON, which the SDK does not type
    )


def build_time(mode: Mode, environ: Mapping[str, str]) -> datetime:
    """Return SOURCE_DATE_EPOCH if it is set; else a constant in the reproducible mode, or the current time.

    Raises:
        UsageError: SOURCE_DATE_EPOCH is not a number of seconds.
    """
    text = environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return datetime.fromtimestamp(EPOCH, UTC) if mode is Mode.REPRODUCIBLE else datetime.now(UTC)
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise UsageError(f"SOURCE_DATE_EPOCH: expected seconds since 1970, found {text[:32]!r}")
    return datetime.fromtimestamp(int(text), UTC)


def _lock(
    request: BuildRequest,
    docker: DockerImage,
    blobs: BootBlobs,
    staged: StagedImage,
    engine_version: str,
    findings: list[LintFinding],
) -> Lock:
    model = request.source.measured_model
    with open_regular(staged.path, what="image file") as file:
        size, digest = whole_file(file).size, whole_file(file).sha256()
    # Of the very bytes that payload_context puts into the image.
    pinned = {MODEL_REGISTER: model_register(model.card.to_json()).hex()} if model else {}
    return Lock(
        eif={
            "file": os.path.relpath(request.output, request.lock_path.parent),
            "sha256": digest,
            "size": size,
        },
        pcrs={**staged.measurements.registers(), **pinned},
        mode=request.mode.value,
        image={"id": docker.image_id, "base": dict(docker.plan.base)},
        model={"id": model.card.model_id, "sha256": model.card.sha256} if model else None,
        wheels=docker.plan.wheels,
        blobs={**blobs.hashes, "cmdline": blobs.cmdline},
        tools={
            "enclavectl": __version__,
            "docker": engine_version,
            "builder": "native" if request.nitro_cli is None else "nitro-cli",
            **({"docker-builder": docker.plan.builder.name} if docker.plan.builder else {}),
        },
        findings=tuple(finding.to_json() for finding in findings),
        allowed=dict(request.allowed),
    )
