"""``enclavectl build``: from the payload, or any Docker image, to a measured one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.boot_files import BlobPaths
from enclavectl.artifacts.lock import LOCK_SCHEMA, read_lock
from enclavectl.artifacts.names import EIF_NAME, LOCK_NAME
from enclavectl.artifacts.provenance import STATEMENT_TYPE, statement
from enclavectl.cli import options
from enclavectl.cli.build_view import BuiltFiles, show_built, show_plan
from enclavectl.cli.completion import rule_names
from enclavectl.cli.invocation import Invocation, begin, refuse_together
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.output_files import require_distinct, require_image_or_new
from enclavectl.cli.screen import Screen
from enclavectl.cli.signing import BuilderChoice, Signing
from enclavectl.eif.ramdisk.platform import parse_platform
from enclavectl.eif.ramdisk.ramdisks import Mode
from enclavectl.errors import UsageError
from enclavectl.files import (
    is_folder,
    open_regular,
    require_output,
    status_at,
    write_atomic,
)
from enclavectl.image.build import BuildRequest, build_enclave, lint_plan
from enclavectl.image.checkout import find_checkout
from enclavectl.image.engine import connect
from enclavectl.image.findings import parse_allowed, refuse_blocking
from enclavectl.image.plan import BuildOutput, Source, make_plan
from enclavectl.image.wheels import Runtime, store_of
from enclavectl.models.find import PACKAGED_ID, find_model
from enclavectl.new_files import require_own_or_new

DEFAULT_BASE = "python:3.11-slim-bookworm"
# The word for a runtime without weights, in place of a model.
NO_MODEL = "none"
_SINGLE_BLOBS = ("kernel", "init", "nsm_module", "cmdline")

OwnImage = Annotated[
    str | None,
    typer.Option("--image", metavar="IMAGE", help="A Docker image of your own in place of the payload."),
]
PlatformName = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="PLATFORM",
        help="Which one of an --image for several platforms, such as linux/arm64; default: the kernel's.",
    ),
]
OwnDockerfile = Annotated[
    Path | None,
    typer.Option("--dockerfile", metavar="DOCKERFILE", help="A Dockerfile of your own, or its folder."),
]
Builder = Annotated[
    BuilderChoice,
    typer.Option("--builder", help="auto takes nitro-cli for keys in KMS only, which only it can use."),
]
ModeName = Annotated[
    Mode | None,
    typer.Option(
        "--mode",
        help="reproducible (default): the same PCRs everywhere; nitro-cli: those that nitro-cli gives.",
    ),
]
BaseImage = Annotated[
    str, typer.Option("--base-image", metavar="IMAGE", help="Image with the Python that the payload runs on.")
]
BlobFolder = Annotated[
    Path | None,
    typer.Option(
        "--blobs", metavar="DIR", help="Folder with kernel, init and modules; default: that of nitro-cli."
    ),
]
KernelFile = Annotated[
    Path | None, typer.Option("--kernel", metavar="FILE", help="Kernel, in place of that in --blobs.")
]
InitFile = Annotated[
    Path | None, typer.Option("--init", metavar="FILE", help="Init, in place of that in --blobs.")
]
NsmModule = Annotated[
    Path | None, typer.Option("--nsm-module", metavar="FILE", help="NSM driver, in place of that in --blobs.")
]
Cmdline = Annotated[
    str | None,
    typer.Option("--cmdline", metavar="WORDS", help="Kernel command line, in place of that in --blobs."),
]
SigningKey = Annotated[
    str | None,
    typer.Option("--sign", metavar="KEY", help="Sign with this key: a PEM file, or the ARN of a KMS key."),
]
Certificate = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="With --sign: the key's certificate (PEM).")
]
ImageOutput = Annotated[Path, typer.Option("--to", metavar="FILE", help="The enclave image to write.")]
Provenance = Annotated[
    Path | None,
    typer.Option(
        "--provenance",
        metavar="FILE",
        help="Also write an unsigned in-toto statement: what the image was made of.",
    ),
]
RuntimeName = Annotated[
    Runtime,
    typer.Option(
        "--runtime", help="The interpreter of the model; auto takes the faster one: ai-edge-litert."
    ),
]
UpgradeWheels = Annotated[
    bool, typer.Option("--upgrade-wheels", help="Take the newest wheels, not those of the lock.")
]
Allowed = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="RULE[:PLACE]=REASON",
        help="Let a finding of the lint pass, for a reason that the lock keeps; may be repeated.",
        autocompletion=rule_names,
    ),
]
PlanOnly = Annotated[
    bool, typer.Option("--dry-run", help="Collect and lint, say what would be built, and stop.")
]


def build(
    model: options.ModelName = None,
    image: OwnImage = None,
    dockerfile: OwnDockerfile = None,
    platform: PlatformName = None,
    to: ImageOutput = Path(EIF_NAME),
    lock: options.LockFile = Path(LOCK_NAME),
    provenance: Provenance = None,
    sign: SigningKey = None,
    cert: Certificate = None,
    allow: Allowed = None,
    dry_run: PlanOnly = False,
    mode: ModeName = None,
    builder: Builder = BuilderChoice.AUTO,
    base_image: BaseImage = DEFAULT_BASE,
    runtime: RuntimeName = Runtime.AUTO,
    upgrade_wheels: UpgradeWheels = False,
    blobs: BlobFolder = None,
    kernel: KernelFile = None,
    init: InitFile = None,
    nsm_module: NsmModule = None,
    cmdline: Cmdline = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Build an enclave image, measure it, and write its lock.

    Builds the payload with a model, or an image of your own. Needs a Docker engine and nothing else: neither
    root nor nitro-cli. The same inputs give the same PCRs. What is wrong with an image, such as a private key
    in it, ends the build unless --allow lets it pass.

    Examples:
      enclavectl build                                     payload and model
      enclavectl build --model none                        for sealed models
      enclavectl build --image my-app:1 --to my-app.eif    an image of your own
      enclavectl build --dockerfile app/                   from its Dockerfile
      enclavectl build --sign key.pem --cert cert.pem      signed
      enclavectl build --dry-run                           look, build nothing
      enclavectl build --provenance enclave.intoto.json    to sign and publish
    """
    refuse_together(image=image, dockerfile=dockerfile, model=model)
    _check_outputs(to, lock, provenance, writes=not dry_run)
    invocation = begin(output, config, {"model": model})
    request = _request(
        invocation,
        source=_source(invocation, image, dockerfile, platform, base_image, runtime),
        blobs=BlobPaths(folder=blobs, kernel=kernel, init=init, nsm_module=nsm_module, cmdline=cmdline),
        signing=Signing(key=sign, certificate=cert, builder=builder),
        outputs=(to, lock),
        mode=mode,
        allow=allow or [],
        upgrade=upgrade_wheels,
    )
    if dry_run:
        _plan(invocation, request)
    else:
        invocation.screen.outlive_reader()
        _build(invocation, request, provenance)


def _check_outputs(to: Path, lock: Path, provenance: Path | None, *, writes: bool) -> None:
    """Refuse what could not be written after the build; without ``writes`` only look.

    Raises:
        UsageError: a file could not be written, or is somebody else's; or two are one file.
    """
    outputs = [("--to", to), ("--lock", lock)]
    if provenance is not None:
        outputs.append(("--provenance", provenance))
    for option, path in outputs:
        require_output(option, path, size=int(writes))
    require_image_or_new("--to", to)
    require_own_or_new("--lock", lock, LOCK_SCHEMA.encode(), "a lock")
    if provenance is not None:
        require_own_or_new("--provenance", provenance, STATEMENT_TYPE.encode(), "an in-toto statement")
    require_distinct(outputs)


def _plan(invocation: Invocation, request: BuildRequest) -> None:
    screen, store = invocation.screen, store_of(invocation.config.data_dir)
    build_output = _output(screen)
    with connect() as engine:
        plan = make_plan(request.source, request.locked, engine, store, build_output)
        plan = lint_plan(request, plan, engine, build_output)
    try:
        refuse_blocking(plan.findings, request.allowed)
    except UsageError as exc:
        show_plan(screen, plan.to_json(), plan.findings, refusal=exc)
        if not screen.as_json:
            raise
        raise typer.Exit(exc.exit_code) from None  # the one JSON object has it
    show_plan(screen, plan.to_json(), plan.findings)


def _build(invocation: Invocation, request: BuildRequest, provenance: Path | None) -> None:
    screen, store = invocation.screen, store_of(invocation.config.data_dir)
    began = time.monotonic()
    checkout = None
    if provenance is not None:
        # Before the build, which writes into the checkout and would make it dirty.
        checkout = find_checkout(_input_folder(request.source), os.environ)
        if checkout is None:
            screen.note("no git commit here: the provenance names none")
    with connect() as engine:
        built = build_enclave(request, engine, store, _output(screen))
    if provenance is not None:
        with open_regular(request.output, what="image file") as image:
            text = statement(built.lock, image, lock_name=request.lock_path.name, checkout=checkout)
        write_atomic(provenance, text, mode=0o644)
    written = BuiltFiles(image=request.output, lock=request.lock_path, provenance=provenance)
    show_built(screen, built, written, seconds=time.monotonic() - began)


def _input_folder(source: Source) -> Path:
    """Return the folder whose commit describes the inputs: a Dockerfile's, else the current one."""
    if source.dockerfile is None:
        return Path.cwd()
    return source.dockerfile if is_folder(source.dockerfile) else source.dockerfile.parent


def _output(screen: Screen) -> BuildOutput:
    return BuildOutput(step=screen.step, line=screen.detail, note=screen.note)


def _source(
    invocation: Invocation,
    image: str | None,
    dockerfile: Path | None,
    platform: str | None,
    base_image: str,
    runtime: Runtime,
) -> Source:
    if platform is not None and image is None:
        raise UsageError("--platform: goes with --image only", hint="docker build --platform, then --image")
    if image is not None or dockerfile is not None:
        chosen = None if platform is None else parse_platform(platform)
        return Source(image=image, dockerfile=dockerfile, platform=chosen)
    config = invocation.config
    if str(config.model) == NO_MODEL:
        packaged = find_model(PACKAGED_ID, data_dir=config.data_dir)
        return Source(model=packaged, is_sealed=True, base_image=base_image, runtime=runtime)
    model = find_model(config.model, data_dir=config.data_dir)
    return Source(model=model, base_image=base_image, runtime=runtime)


def _request(
    invocation: Invocation,
    *,
    source: Source,
    blobs: BlobPaths,
    signing: Signing,
    outputs: tuple[Path, Path],
    mode: Mode | None,
    allow: Sequence[str],
    upgrade: bool,
) -> BuildRequest:
    to, lock = outputs
    nitro_cli = signing.nitro_cli()
    if nitro_cli is not None:
        if mode is Mode.REPRODUCIBLE:
            raise UsageError(
                "--mode reproducible: nitro-cli cannot build that",
                hint="enclavectl build --builder native can",
            )
        single = [name for name in _SINGLE_BLOBS if getattr(blobs, name) is not None]
        if single:
            raise UsageError(f"--{single[0].replace('_', '-')}: nitro-cli takes a whole --blobs folder only")
        mode = Mode.NITRO_CLI
    locked = None
    if status_at(lock) is not None and not upgrade:
        try:
            locked = read_lock(lock).wheels
        except UsageError as exc:
            hint = "enclavectl build --upgrade-wheels writes a new one; --lock names another"
            raise UsageError(exc.message, hint=hint) from exc
    return BuildRequest(
        source=source,
        blobs=blobs,
        mode=mode or Mode.REPRODUCIBLE,
        output=to,
        lock_path=lock,
        memory_mib=invocation.config.enclave.memory_mib,
        locked=locked,
        signer=signing.signer() if nitro_cli is None else None,
        nitro_cli=nitro_cli,
        environ=os.environ,
        allowed=parse_allowed(allow),
    )
