"""``enclavectl diagnose``: the whole project as one command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.answers import AnswerDrawing, batch_progress, draw_evidence, note_left_out
from enclavectl.cli.begin import Invocation, begin, refuse_together
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen, error_value
from enclavectl.cli.signals import ending_as_interrupted
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
    from enclavectl.client.exchange import VerifiedEnclave
    from enclavectl.client.folders import Collection
    from enclavectl.client.pictures import Picture
    from enclavectl.config.load import Config
    from enclavectl.errors import Interrupted, PictureRefused
    from enclavectl.results.diagnosis import Diagnosis
    from enclavectl.results.report import ReportWriter


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
        "--report", help="Also write an HTML report: previews, answers, evidence.", show_default=False
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Let --report write over a file that is no report; never a picture.")
]
AnswerTimeout = Annotated[
    int | None,
    typer.Option("--timeout", help="Seconds to wait for an answer (default 30).", show_default=False),
]


@ending_as_interrupted()
def diagnose(
    images: options.Images,
    recursive: options.Recursive = False,
    enclave: options.EnclaveName = None,
    fresh: Fresh = False,
    model: options.ModelName = None,
    policy: options.PolicyFile = None,
    top: TopLabels = None,
    report: ReportFile = None,
    force: Force = False,
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
    Ctrl-C and SIGTERM end a batch with the answers that are there; exit code 130.

    Examples:
      enclavectl diagnose picture.jpg
      enclavectl diagnose --output json --top 1 folder/ more.png
      enclavectl diagnose --report answer.html - < picture.jpg
    """
    from enclavectl.client.folders import collect

    flags = {"model": model, "backend": backend, "diagnose.top": top, "diagnose.timeout_s": timeout}
    invocation = begin(output, config, flags)
    refuse_together(connect=connect, enclave=enclave, fresh=fresh)
    refuse_together(connect=connect, model=model)
    found = collect(images, recursive=recursive)
    if report is not None:
        _check_report(report, found, force=force)
    note_left_out(invocation.screen, found.left_out)
    verification = trusting_of(
        invocation.config, policy=policy, allow_debug=unsafe_allow_debug, connect=connect, root=root
    )
    with ExitStack() as stack:
        if connect is not None:
            target = target_elsewhere(connect, verification)
        else:
            target = _target_here(invocation, stack, enclave, verification, is_fresh=fresh)
        diagnosis, writer = _ask(invocation, target, found, report)
        interrupted = _interruption(diagnosis)
        if invocation.screen.as_json:
            error = {} if interrupted is None else {"error": error_value(interrupted)}
            invocation.screen.result({**diagnosis.to_json(), **error})
        else:
            draw_evidence(invocation.screen, diagnosis)
        if writer is not None:
            _finish_report(invocation.screen, writer)
    if interrupted is not None:
        raise interrupted
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


def _ask(
    invocation: Invocation, target: Target, found: Collection, report: Path | None
) -> tuple[Diagnosis, ReportWriter | None]:
    """Connect, verify, send; draw each answer when its turn has come. Ctrl-C ends it with what is there."""
    from enclavectl.client.batch import classify
    from enclavectl.results.diagnosis import Diagnosis, Result, to_result

    settings, names = invocation.config.diagnose, found.names
    if not invocation.screen.as_json:
        invocation.screen.load()  # while a fresh enclave boots
    results: dict[int, Result] = {}
    with open_session(target, invocation.screen, timeout_s=settings.timeout_s) as client:
        enclave = client.enclave
        writer = None if report is None else _report_writer(report, target, enclave, len(names))
        drawing = (
            None if invocation.screen.as_json else AnswerDrawing(invocation.screen, enclave, settings.top)
        )
        replies = classify(client, _read(names), timeout_s=settings.timeout_s, in_flight=settings.in_flight)
        with suppress(KeyboardInterrupt), batch_progress(invocation.screen, len(names)) as advance:
            for reply in replies:
                result = to_result(names[reply.index], reply)
                results[reply.index] = result
                if writer is not None:
                    writer.add(reply.index, result.to_json(enclave.label_names), reply.picture)
                advance()
                if drawing is not None:
                    drawing.draw_ready(results)
    if drawing is not None:
        drawing.draw_rest(results)
    return Diagnosis(
        backend=target.backend,
        enclave=enclave,
        pictures=len(names),
        results=[results[index] for index in sorted(results)],
        left_out=found.left_out,
    ), writer


def _interruption(diagnosis: Diagnosis) -> Interrupted | None:
    """What to end with if not every picture has a result, when the answer is out."""
    from enclavectl.errors import Interrupted

    if diagnosis.is_complete:
        return None
    error = Interrupted(
        f"interrupted: {len(diagnosis.results)} of {diagnosis.pictures} pictures have a result"
    )
    error.after_answer = True
    return error


def _read(names: Sequence[str]) -> Iterator[Picture | PictureRefused]:
    from enclavectl.client.pictures import read_picture
    from enclavectl.errors import PictureRefused

    for name in names:
        try:
            yield read_picture(name, sys.stdin.buffer.read)
        except PictureRefused as error:
            yield error


def _check_report(path: Path, found: Collection, *, force: bool) -> None:
    """Refuse now what would fail, or destroy something, after the answers are there."""
    from enclavectl.results.report import check_target

    check_target(path, found.names, len(found.names), force=force)


def _report_writer(path: Path, target: Target, enclave: VerifiedEnclave, total: int) -> ReportWriter:
    from enclavectl.results.diagnosis import Diagnosis
    from enclavectl.results.report import ReportHead, ReportWriter

    head = Diagnosis(backend=target.backend, enclave=enclave, pictures=total).head_json()
    return ReportWriter(path, total, ReportHead(diagnosis=head, label_names=enclave.label_names))


def _finish_report(screen: Screen, writer: ReportWriter) -> None:
    from enclavectl.errors import EnclavectlError

    try:
        screen.note(f"report written to {writer.finish()}")
    except EnclavectlError as error:
        error.after_answer = True
        raise
