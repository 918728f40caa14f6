"""``enclavectl diagnose``: the whole project as one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.answers import AnswerDrawing, batch_progress, draw_evidence
from enclavectl.cli.begin import Invocation, begin, refuse_together
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.targets import (
    Target,
    VerificationOptions,
    Wanted,
    check_policy,
    choose_running,
    explain_boot_failure,
    open_session,
    spec_of,
    target_elsewhere,
    target_of,
    trusting_of,
)

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave
    from enclavectl.client.pictures import Picture
    from enclavectl.config.load import Config
    from enclavectl.results.diagnosis import Diagnosis


Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start an enclave for this command even if one is running.")
]
TopLabels = Annotated[
    int | None,
    typer.Option(
        "--top", help="How many labels to show for a picture (1 to 64; default 3).", show_default=False
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Also write one HTML page: pictures, answers, evidence.", show_default=False
    ),
]
AnswerTimeout = Annotated[
    int | None,
    typer.Option("--timeout", help="Seconds to wait for an answer (default 30).", show_default=False),
]


def diagnose(
    images: options.Images,
    enclave: options.EnclaveName = None,
    fresh: Fresh = False,
    model: options.ModelName = None,
    policy: options.PolicyFile = None,
    top: TopLabels = None,
    report: ReportFile = None,
    timeout: AnswerTimeout = None,
    backend: options.BackendName = None,
    connect: options.Address = None,
    root: options.RootFile = None,
    unsafe_allow_debug: options.AllowDebug = False,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Classify pictures in an enclave that proved what it is before it got them.

    Uses the enclave that is running, or --enclave NAME if there are several; where none is running it
    starts a local one and ends it afterwards. If the evidence is refused, nothing of a picture is sent and
    the exit code is 4. If only some pictures are refused, the others are still answered; exit code 5.

    Examples:
      enclavectl diagnose picture.jpg
      enclavectl diagnose --output json --top 1 folder/ more.png
      enclavectl diagnose --report answer.html - < picture.jpg
    """
    from enclavectl.client.pictures import collect

    flags = {"model": model, "backend": backend, "diagnose.top": top, "diagnose.timeout_s": timeout}
    invocation = begin(output, config, flags)
    refuse_together(connect=connect, enclave=enclave, fresh=fresh)
    refuse_together(connect=connect, model=model)
    if report is not None:
        _check_report(report)
    names = collect(images)
    verification = trusting_of(
        invocation.config, policy=policy, allow_debug=unsafe_allow_debug, connect=connect, root=root
    )
    with ExitStack() as stack:
        if connect is not None:
            target = target_elsewhere(connect, verification)
        else:
            target = _target_here(invocation, stack, enclave, verification, is_fresh=fresh)
        diagnosis = _ask(invocation, target, names, report)
        if invocation.screen.as_json:
            invocation.screen.result(diagnosis.to_json())
        else:
            draw_evidence(invocation.screen, diagnosis)
    if diagnosis.has_errors:
        raise typer.Exit(5)


def _target_here(
    invocation: Invocation,
    stack: ExitStack,
    name: str | None,
    verification: VerificationOptions,
    *,
    is_fresh: bool,
) -> Target:
    """A running enclave of this host, or a fresh one that ends when ``stack`` does."""
    from enclavectl.backends.registry import choose_backend

    backend = choose_backend(invocation.config, invocation.screen)
    found = None if is_fresh else choose_running(backend, name)
    if found is None:
        return _start_fresh(invocation, stack, backend, verification)
    _check_model(invocation.config, found)
    invocation.screen.note(f"using the running enclave {found.name}, model {found.model_id or 'not known'}")
    return target_of(backend, found, verification)


def _check_model(config: Config, enclave: Enclave) -> None:
    """A model that was asked for by flag is the one that runs; a configured one is only a default."""
    from enclavectl.config.load import SourceKind
    from enclavectl.errors import StateError
    from enclavectl.models.find import find_model

    if config.sources["model"].kind is not SourceKind.FLAG:
        return
    card = find_model(config.model, data_dir=config.data_dir).card
    if enclave.model_sha256 is not None and card.sha256 != enclave.model_sha256:
        raise StateError(
            f"{enclave.name}: expected an enclave with model {card.model_id}, found {enclave.model_id}",
            hint="leave --model out to use it, or add --fresh to start another for this command",
        )


def _start_fresh(
    invocation: Invocation, stack: ExitStack, backend: Backend, verification: VerificationOptions
) -> Target:
    check_policy(verification)
    invocation.screen.step(f"starting a {backend.name} enclave")
    spec = spec_of(invocation.config, Wanted())
    running = stack.enter_context(backend.start(spec, detached=False))
    stack.enter_context(explain_boot_failure(backend, running))
    return target_of(backend, running.enclave, verification, running)


def _ask(invocation: Invocation, target: Target, names: Sequence[str], report: Path | None) -> Diagnosis:
    """Connect, verify, send; draw each answer when its turn has come; write the report."""
    from enclavectl.client.batch import classify
    from enclavectl.client.pictures import read_pictures
    from enclavectl.results.diagnosis import Diagnosis, Result, to_result

    settings = invocation.config.diagnose
    if not invocation.screen.as_json:
        invocation.screen.load()  # while a fresh enclave boots
    shown: list[Picture] = []
    results: dict[int, Result] = {}
    pictures = read_pictures(names, sys.stdin.buffer.read)
    with open_session(target, invocation.screen, timeout_s=settings.timeout_s) as client:
        enclave = client.enclave
        drawing = (
            None if invocation.screen.as_json else AnswerDrawing(invocation.screen, enclave, settings.top)
        )
        replies = classify(client, pictures, timeout_s=settings.timeout_s, in_flight=settings.in_flight)
        with batch_progress(invocation.screen, len(names)) as advance:
            for reply in replies:
                results[reply.index] = to_result(names[reply.index], reply)
                if report is not None and reply.picture is not None:
                    shown.append(reply.picture)
                advance()
                if drawing is not None:
                    drawing.draw_ready(results)
    ordered = [results[index] for index in range(len(names))]
    diagnosis = Diagnosis(backend=target.backend, enclave=enclave, results=ordered)
    if report is not None:
        _write_report(report, diagnosis, shown)
    return diagnosis


def _check_report(path: Path) -> None:
    """Refuse now what would fail after the answers are there."""
    from enclavectl.errors import UsageError

    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--report {path}: expected the name of a file in a folder that exists")


def _write_report(path: Path, diagnosis: Diagnosis, pictures: Sequence[Picture]) -> None:
    from enclavectl.files import write_atomic
    from enclavectl.results.html import render_report

    page = render_report(
        diagnosis.to_json(),
        [(picture.name, str(picture.media_type), picture.data) for picture in pictures],
        label_names=diagnosis.enclave.label_names,
    )
    write_atomic(path, page.encode())
