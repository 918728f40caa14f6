"""``enclavectl build``: from the payload, or any Docker image, to a measured one."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.artifacts.names import EIF_NAME, LOCK_NAME
from enclavectl.cli import options
from enclavectl.cli.begin import Invocation, begin, refuse_together
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen, error_value, visible
from enclavectl.cli.signals import ending_as_interrupted
from enclavectl.cli.signing import BuilderChoice, Signing

if TYPE_CHECKING:
    from enclavectl.errors import EnclavectlError
    from enclavectl.image.build import BuildRequest, Built
    from enclavectl.image.findings import LintFinding
    from enclavectl.image.plan import BuildOutput, Source

BUILD_SCHEMA = "enclavectl.build/1"
PLAN_SCHEMA = "enclavectl.build-plan/1"
DEFAULT_BASE = "python:3.11-slim-bookworm"


class ModeChoice(StrEnum):
    """The values of ``eif.ramdisk.Mode``, which is not imported for ``--help``; a test compares them."""

    NITRO_CLI = "nitro-cli"
    REPRODUCIBLE = "reproducible"


OwnImage = Annotated[
    str | None,
    typer.Option("--image", help="A Docker image of your own in place of the payload.", show_default=False),
]
PlatformName = Annotated[
    str | None,
    typer.Option(
        "--platform",
        help="Of an --image that Docker has for several, such as linux/arm64; default: the kernel's.",
        show_default=False,
    ),
]
OwnDockerfile = Annotated[
    Path | None,
    typer.Option("--dockerfile", help="A Dockerfile of your own, or its folder.", show_default=False),
]
Builder = Annotated[
    BuilderChoice,
    typer.Option("--builder", help="auto takes nitro-cli for keys in KMS only, which only it can use."),
]
ModeName = Annotated[
    ModeChoice | None,
    typer.Option(
        "--mode",
        help="reproducible (default): the same PCRs everywhere; nitro-cli: those that nitro-cli gives.",
        show_default=False,
    ),
]
BaseImage = Annotated[
    str, typer.Option("--base-image", help="Image with the Python that the payload runs on.")
]
BlobFolder = Annotated[
    Path | None,
    typer.Option(
        "--blobs",
        help="Folder with kernel, init and modules; default: that of nitro-cli.",
        show_default=False,
    ),
]
KernelFile = Annotated[Path | None, typer.Option("--kernel", help="A kernel.", show_default=False)]
InitFile = Annotated[Path | None, typer.Option("--init", help="An init.", show_default=False)]
NsmModule = Annotated[Path | None, typer.Option("--nsm-module", help="The NSM driver.", show_default=False)]
Cmdline = Annotated[
    str | None, typer.Option("--cmdline", help="The kernel's command line.", show_default=False)
]
SigningKey = Annotated[
    str | None,
    typer.Option(
        "--sign",
        metavar="KEY",
        help="Sign with this key: a PEM file, or the ARN of a KMS key.",
        show_default=False,
    ),
]
Certificate = Annotated[
    Path | None, typer.Option("--cert", help="The key's certificate.", show_default=False)
]
ImageOutput = Annotated[Path, typer.Option("--to", help="The enclave image to write.")]
UpgradeWheels = Annotated[
    bool, typer.Option("--upgrade-wheels", help="Take the newest wheels, not those of the lock.")
]
Allowed = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="RULE[:PLACE]=REASON", help="Let a lint finding pass.", show_default=False
    ),
]
PlanOnly = Annotated[
    bool, typer.Option("--dry-run", help="Collect and lint, say what would be built, and stop.")
]


@ending_as_interrupted()
def build(
    model: options.ModelName = None,
    image: OwnImage = None,
    dockerfile: OwnDockerfile = None,
    platform: PlatformName = None,
    builder: Builder = BuilderChoice.AUTO,
    mode: ModeName = None,
    base_image: BaseImage = DEFAULT_BASE,
    blobs: BlobFolder = None,
    kernel: KernelFile = None,
    init: InitFile = None,
    nsm_module: NsmModule = None,
    cmdline: Cmdline = None,
    sign: SigningKey = None,
    cert: Certificate = None,
    to: ImageOutput = Path(EIF_NAME),
    lock: options.LockFile = Path(LOCK_NAME),
    upgrade_wheels: UpgradeWheels = False,
    allow: Allowed = None,
    dry_run: PlanOnly = False,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Build an enclave image from the payload and a model, measure it, and write its lock.

    Needs a Docker engine and nothing else: neither root nor nitro-cli. The same inputs give the same PCRs.

    Examples:
      enclavectl build
      enclavectl build --image my-app:1 --mode nitro-cli --to my-app.eif
    """
    refuse_together(image=image, dockerfile=dockerfile, model=model)
    invocation = begin(output, config, {"model": model})
    request = _request(
        invocation,
        source=_source(invocation, image, dockerfile, platform, base_image),
        blobs={"folder": blobs, "kernel": kernel, "init": init, "nsm_module": nsm_module, "cmdline": cmdline},
        signing=Signing(key=sign, certificate=cert, builder=builder),
        outputs=(to, lock),
        mode=mode,
        allow=allow or [],
        upgrade=upgrade_wheels,
    )
    if dry_run:
        _plan(invocation, request)
    else:
        _build(invocation, request)


def _plan(invocation: Invocation, request: BuildRequest) -> None:
    from enclavectl.errors import UsageError
    from enclavectl.image.build import lint_plan
    from enclavectl.image.engine import connect
    from enclavectl.image.findings import refuse_blocking
    from enclavectl.image.plan import make_plan
    from enclavectl.image.wheels import store_of

    screen, store = invocation.screen, store_of(invocation.config.data_dir)
    build_output = _build_output(screen)
    with connect() as engine:
        plan = make_plan(request.source, request.locked, engine, store, build_output)
        plan = lint_plan(request, plan, engine, build_output)
    try:
        refuse_blocking(plan.findings, request.allowed)
    except UsageError as exc:
        _show_plan(screen, plan.to_json(), plan.findings, refusal=exc)
        if not screen.as_json:
            raise
        raise typer.Exit(exc.exit_code) from None  # the one JSON object has it
    _show_plan(screen, plan.to_json(), plan.findings)


def _build(invocation: Invocation, request: BuildRequest) -> None:
    from enclavectl.image.build import build_enclave
    from enclavectl.image.engine import connect
    from enclavectl.image.wheels import store_of

    screen, store = invocation.screen, store_of(invocation.config.data_dir)
    began = time.monotonic()
    with connect() as engine:
        built = build_enclave(request, engine, store, _build_output(screen))
    _show_built(screen, built, request, seconds=time.monotonic() - began)


def _source(
    invocation: Invocation, image: str | None, dockerfile: Path | None, platform: str | None, base_image: str
) -> Source:
    from enclavectl.eif.ramdisk.platform import parse_platform
    from enclavectl.errors import UsageError
    from enclavectl.image.plan import Source
    from enclavectl.models.find import find_model

    if platform is not None and image is None:
        raise UsageError("--platform: goes with --image only", hint="docker build --platform, then --image")
    if image is not None or dockerfile is not None:
        chosen = None if platform is None else parse_platform(platform)
        return Source(image=image, dockerfile=dockerfile, platform=chosen)
    config = invocation.config
    return Source(model=find_model(config.model, data_dir=config.data_dir), base_image=base_image)


def _request(
    invocation: Invocation,
    *,
    source: Source,
    blobs: dict[str, Path | str | None],
    signing: Signing,
    outputs: tuple[Path, Path],
    mode: ModeChoice | None,
    allow: Sequence[str],
    upgrade: bool,
) -> BuildRequest:
    from enclavectl.artifacts.boot_files import BlobPaths
    from enclavectl.artifacts.lock import read_lock
    from enclavectl.eif.ramdisk.ramdisks import Mode
    from enclavectl.errors import UsageError
    from enclavectl.files import require_replaceable
    from enclavectl.image.build import BuildRequest
    from enclavectl.image.findings import parse_allowed

    to, lock = outputs
    nitro_cli = signing.nitro_cli()
    if nitro_cli is not None:
        if mode is ModeChoice.REPRODUCIBLE:
            raise UsageError("--mode reproducible: nitro-cli cannot build that", hint="--builder native can")
        single = [name for name in ("kernel", "init", "nsm_module", "cmdline") if blobs[name] is not None]
        if single:
            raise UsageError(f"--{single[0].replace('_', '-')}: nitro-cli takes a whole --blobs folder only")
        mode = ModeChoice.NITRO_CLI
    for option, path in (("--to", to), ("--lock", lock)):
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(f"{option} {path}: expected a file in a folder that exists")
        require_replaceable(path)
    if to.resolve() == lock.resolve():
        raise UsageError(f"--to and --lock: expected two files, found {to} for both")
    locked = None
    if lock.exists() and not upgrade:
        try:
            locked = read_lock(lock).wheels
        except UsageError as exc:
            hint = "--upgrade-wheels builds without reading it, and writes a new one; --lock names another"
            raise UsageError(exc.message, hint=hint) from exc
    return BuildRequest(
        source=source,
        blobs=BlobPaths(**blobs),  # type: ignore[arg-type]  # each by its own option's type
        mode=Mode((mode or ModeChoice.REPRODUCIBLE).value),
        output=to,
        lock_path=lock,
        memory_mib=invocation.config.enclave.memory_mib,
        locked=locked,
        signer=signing.signer() if nitro_cli is None else None,
        nitro_cli=nitro_cli,
        environ=os.environ,
        allowed=parse_allowed(allow),
    )


def _build_output(screen: Screen) -> BuildOutput:
    from enclavectl.image.plan import BuildOutput

    def line(text: str) -> None:
        if sys.stderr.isatty() and not screen.as_json:
            sys.stderr.write(f"  {visible(text)}\n")

    return BuildOutput(step=screen.step, line=line)


def _show_plan(
    screen: Screen,
    plan: dict[str, object],
    findings: Sequence[LintFinding],
    *,
    refusal: EnclavectlError | None = None,
) -> None:
    if screen.as_json:
        refused = {} if refusal is None else {"error": error_value(refusal)}
        screen.result({"schema": PLAN_SCHEMA, **plan, **refused})
        return
    context, wheels = plan["context"], plan["wheels"]
    pairs = [(key, str(plan[key])) for key in ("image", "builder", "base") if plan[key]]
    pairs += [("context", str(name)) for name in context] if isinstance(context, list) else []
    pairs += (
        [("wheel", f"{one['file']} {one['sha256']}") for one in wheels] if isinstance(wheels, list) else []
    )
    screen.facts(pairs)
    for finding in findings:
        screen.note(str(finding))


def _show_built(screen: Screen, built: Built, request: BuildRequest, *, seconds: float) -> None:
    to, size = request.output, int(str(built.lock.eif["size"]))
    if screen.as_json:
        value = {"schema": BUILD_SCHEMA, "eif": str(to), "size": size, "seconds": round(seconds, 1)}
        value |= {"lock": str(request.lock_path), "pcrs": dict(built.lock.pcrs)}
        screen.result({**value, "image": built.lock.image, "findings": built.lock.findings})
        return
    for finding in built.findings:
        screen.note(str(finding))
    facts = [("image", str(to)), *built.lock.pcrs.items(), ("lock", str(request.lock_path))]
    facts += [("size", f"{size / (1 << 20):.1f} MiB"), ("time", f"{seconds:.0f} s")]
    facts += [("next", f"enclavectl run {shlex.quote(str(to))} --backend nitro, on a Nitro host")]
    screen.facts(facts)
