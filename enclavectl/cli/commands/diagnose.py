"""``enclavectl diagnose``: the whole project as one command."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_payload.heap import keep_freed_memory
from enclavectl.backends.registry import choose_backend
from enclavectl.cli import options
from enclavectl.cli.elsewhere import Elsewhere, FindTarget, find_elsewhere
from enclavectl.cli.evidence_options import EvidencePath, IncludeStatements
from enclavectl.cli.invocation import Invocation, begin, refuse_together
from enclavectl.cli.network_options import NO_NETWORK, NetworkFlags
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.output_files import require_distinct
from enclavectl.cli.picture_arguments import collect_pictures
from enclavectl.cli.results_options import ResultsPath, RetryRefused, open_results
from enclavectl.client.folders import Collection
from enclavectl.client.pictures import PictureSource, read_pictures
from enclavectl.config.load import Config, SourceKind
from enclavectl.errors import PictureRefused, StateError, UsageError
from enclavectl.files import refuse_input
from enclavectl.models.find import find_model
from enclavectl.run import hide_memory
from enclavectl.targets.launch import LaunchRequest, launch_spec
from enclavectl.targets.target import Target, choose_running, target_of
from enclavectl.targets.verification import VerificationOptions, check_policy, verification_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enclavectl.backends.base import Backend, Enclave
    from enclavectl.cli.evidence_keeping import EvidenceKeeper
    from enclavectl.models.weights import Model
    from enclavectl.results.results_file import ResultsFile

# A picture of a camera, and its copies on the way: sealed, and padded before that.
_KEPT_BYTES = 16 * 1024 * 1024

Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start an enclave for this command even if one is running.")
]
TopLabels = Annotated[
    int | None,
    typer.Option(
        "--top",
        metavar="COUNT",
        help="How many labels to give for a picture (1 to 64; default 3, in JSON all).",
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Also write an HTML report: previews, answers, evidence."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Let --report write over a file that is no report; never a picture.")
]
AnswerTimeout = Annotated[
    int | None,
    typer.Option("--timeout", metavar="SECONDS", help="How long to wait for an answer (default 30)."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFlags:
    """The options for what is kept of the answers."""

    results: ResultsPath = None
    retry_refused: RetryRefused = False
    report: ReportFile = None
    force: Force = False
    evidence: EvidencePath = None
    include_statements: IncludeStatements = False

    @property
    def keeps_any(self) -> bool:
        """True if the answers are kept somewhere beside the output."""
        return self.results is not None or self.report is not None or self.keeps_evidence

    @property
    def keeps_evidence(self) -> bool:
        """True if evidence is asked for."""
        return self.evidence is not None or self.include_statements


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveFlags:
    """The options for which enclave answers, and what it has to prove."""

    enclave: options.EnclaveName = None
    fresh: Fresh = False
    model: options.ModelName = None
    connect: options.Address = None
    remote: options.RemoteName = None
    policy: options.PolicyFile = None
    root: options.RootFile = None

    def check(self) -> None:
        """Refuse options that name two enclaves.

        Raises:
            UsageError: they do.
        """
        one = {"connect": self.connect, "remote": self.remote}
        refuse_together(**one, enclave=self.enclave, fresh=self.fresh)
        refuse_together(**one, model=self.model)

    def demand(self, config: Config, *, allow_debug: bool) -> VerificationOptions:
        """Return what the enclave has to prove.

        Raises:
            UsageError: the options contradict each other, or name no model.
        """
        return verification_options(
            config,
            policy=self.policy,
            allow_debug=allow_debug,
            connect=self.connect,
            root=self.root,
            model=_wanted_model(config),
        )


_KEEP_NOTHING = KeptFlags()
_ANY_ENCLAVE = EnclaveFlags()


@spreads_groups
def diagnose(
    images: options.Images,
    recursive: options.Recursive = False,
    top: TopLabels = None,
    kept: KeptFlags = _KEEP_NOTHING,
    timeout: AnswerTimeout = None,
    which: EnclaveFlags = _ANY_ENCLAVE,
    network: NetworkFlags = NO_NETWORK,
    unsafe_allow_debug: options.AllowDebug = False,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Classify pictures in an enclave that first proves what it runs.

    Uses the enclave that is running, or --enclave NAME if there are several. Where none is running it starts
    one and ends it afterwards.

    If the evidence is refused, nothing of a picture is sent and the exit code is 4. If only some pictures are
    refused, the others are still answered and the exit code is 5. Ctrl-C and SIGTERM end a batch with the
    answers that are there; the exit code is 130.

    With --results, the same command goes on where an earlier one was stopped, even by kill -9. It asks for
    pictures that the file does not have, and for those that have changed since.

    Examples:
      enclavectl diagnose picture.jpg                     one picture
      enclavectl diagnose --top 1 folder/ more.png        a folder and a file
      enclavectl diagnose --output json folder/           for programs
      enclavectl diagnose folder/ --results answers.csv   a large folder
      enclavectl diagnose --report answer.html p.jpg      with a page to print
      enclavectl diagnose --evidence e.json p.jpg         with evidence for others
      enclavectl diagnose - < picture.jpg                 from standard input
      enclavectl diagnose --remote hospital picture.jpg   in an enclave elsewhere
    """
    flags = {"model": which.model, "backend": backend, "policy": which.policy}
    invocation = begin(output, config, {**flags, "diagnose.top": top, "diagnose.timeout_s": timeout})
    which.check()
    if kept.keeps_any:
        invocation.screen.outlive_reader()
    found = collect_pictures(invocation.screen, images, recursive=recursive)
    verification = which.demand(invocation.config, allow_debug=unsafe_allow_debug)
    if kept.force and kept.report is None:
        raise UsageError("--force: expected --report FILE as well")
    if kept.report is not None:
        inputs = (verification.policy, verification.root, config, *network.files)
        _check_report(kept.report, found, inputs, force=kept.force)
    is_here = which.enclave is not None or which.fresh
    elsewhere = find_elsewhere(
        invocation, verification, remote=which.remote, network=network, is_here=is_here
    )
    keeper = None
    if kept.keeps_evidence:
        demanded = verification.policy if elsewhere is None else elsewhere.policy
        keeper = _keeper(invocation, found, kept, demanded)
        _check_outputs(keeper, kept)
    if _answer(invocation, _Asked(found, verification, elsewhere, which, kept, keeper)):
        raise typer.Exit(PictureRefused.exit_code)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a command line asks for, once its options are known to fit together."""

    pictures: Collection
    verification: VerificationOptions
    elsewhere: Elsewhere | None
    which: EnclaveFlags
    kept: KeptFlags
    keeper: EvidenceKeeper | None


def _answer(invocation: Invocation, asked: _Asked) -> bool:
    """Find or start the enclave, and have the pictures answered; return whether an answer is missing."""
    with ExitStack() as stack:
        kept = asked.kept
        results = open_results(kept.results, retry_refused=kept.retry_refused, report=kept.report)
        if results is not None:
            stack.enter_context(results)
        backend: Backend | None = None
        if asked.elsewhere is None:
            backend = choose_backend(invocation.config, invocation.screen)
            find_target: FindTarget = partial(_target_here, invocation, stack, backend, asked)
        else:
            find_target = asked.elsewhere.find
        source = _read(asked.pictures, results)
        if not source.has_any:
            # Loads the session's cryptography.
            from enclavectl.cli.picture_batch import show_unsent  # noqa: PLC0415 - see above

            return show_unsent(
                invocation,
                source,
                asked.pictures,
                backend="remote" if backend is None else backend.name,
                is_kept=kept.report is not None or asked.keeper is not None,
                results=results,
            )
        if results is not None:
            results.require_room()
        target = find_target()
        # Imported while a local enclave boots: the imports of a session and its drawing take as long as the
        # boot.
        from enclavectl.cli.picture_batch import Batch, answer_pictures  # noqa: PLC0415 - see above

        batch = Batch(
            pictures=asked.pictures,
            source=source,
            target=target,
            backend=backend,
            report=kept.report,
            keeper=asked.keeper,
            results=results,
            find_target=find_target,
        )
        return answer_pictures(invocation, batch)


def _read(found: Collection, results: ResultsFile | None) -> PictureSource:
    hide_memory()  # from here on this process has pictures
    keep_freed_memory(_KEPT_BYTES)
    if results is None:
        return read_pictures(found.names, sys.stdin.buffer.read)
    return read_pictures(found.names, sys.stdin.buffer.read, results.has)


def _keeper(
    invocation: Invocation, found: Collection, kept: KeptFlags, policy: Path | None
) -> EvidenceKeeper | None:
    """Prepare to keep evidence, before an enclave is started."""
    # Evidence needs the cryptography of a session, and few command lines keep it.
    from enclavectl.cli.evidence_keeping import prepare_keeper  # noqa: PLC0415 - see above

    return prepare_keeper(
        invocation.screen,
        kept.evidence,
        include_statements=kept.include_statements,
        policy=policy,
        is_single=len(found.names) == 1,
    )


def _check_outputs(keeper: EvidenceKeeper | None, kept: KeptFlags) -> None:
    """Refuse to keep evidence where the report or the results go.

    Raises:
        UsageError: two of them are one file.
    """
    outputs = [("--report", kept.report), ("--results", kept.results)]
    outputs += [("--evidence", path) for path in (keeper.first_paths if keeper is not None else ())]
    require_distinct([(option, path) for option, path in outputs if path is not None])


def _target_here(invocation: Invocation, stack: ExitStack, backend: Backend, asked: _Asked) -> Target:
    """Return a running enclave of this host, or start one that ends with ``stack``."""
    found = None if asked.which.fresh else choose_running(backend, asked.which.enclave)
    if found is None:
        check_policy(asked.verification)
        invocation.screen.step(f"starting a {backend.name} enclave")
        running = stack.enter_context(
            backend.start(launch_spec(invocation.config, LaunchRequest()), detached=False)
        )
        return target_of(backend, running.enclave, asked.verification, running)
    _check_model(asked.verification.model, found)
    invocation.screen.note(f"using the running enclave {found.name}, model {found.model_id or 'not known'}")
    return target_of(backend, found, asked.verification)


def _wanted_model(config: Config) -> Model | None:
    """Return the model that a flag asks for; a configured one is only a default.

    Raises:
        UsageError: there is no such model.
    """
    if config.sources["model"].kind is not SourceKind.FLAG:
        return None
    return find_model(config.model, data_dir=config.data_dir)


def _check_model(wanted: Model | None, enclave: Enclave) -> None:
    """Say early that another model runs. What counts is the attested card, which the session is held to.

    Raises:
        StateError: the record is of another model.
    """
    if wanted is None or enclave.model_sha256 in (None, wanted.card.sha256):
        return
    raise StateError(
        f"{enclave.name}: expected an enclave with model {wanted.card.model_id}, found {enclave.model_id}",
        hint="leave --model out to use it, or add --fresh to start another for this command",
    )


def _check_report(path: Path, found: Collection, inputs: Iterable[Path | None], *, force: bool) -> None:
    """Refuse now what would fail, or destroy something, after the answers are there.

    ``inputs`` are the files beside the pictures that the command reads.

    Raises:
        UsageError: the report cannot be written there, or may not be.
    """
    # Reports import Pillow, and few command lines ask for a report.
    from enclavectl.results.report import check_target  # noqa: PLC0415 - see above

    refuse_input("--report", path, inputs, hint="give the report a name of its own: --report answers.html")
    check_target(path, found.names, len(found.names), force=force)
