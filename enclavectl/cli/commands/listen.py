"""``enclavectl listen``: receive the answers to what `send` handed in."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from enclavectl.attestation import Standing
from enclavectl.backends.registry import choose_backend
from enclavectl.cli import options
from enclavectl.cli.answer_view import draw_result, draw_standing
from enclavectl.cli.counting import counted
from enclavectl.cli.evidence_keeping import EvidenceKeeper, prepare_keeper
from enclavectl.cli.evidence_options import EvidencePath, IncludeStatements
from enclavectl.cli.invocation import Invocation, begin
from enclavectl.cli.options import OutputFormat
from enclavectl.client.exchange import open_reply
from enclavectl.client.listener import Arrived, Delivered, Failed, Listener, ListenerEvent
from enclavectl.client.reply_keys import PendingStore
from enclavectl.errors import AttestationError, EnclaveLost, PeerProtocolError
from enclavectl.net.transport import listening as listening_at
from enclavectl.results.diagnosis import Result, refusal
from enclavectl.run import hide_memory
from enclavectl.targets.verification import check_policy, expectation_of, verification_options

ANSWER_SCHEMA = "enclavectl.answer/1"
# An enclave that is refused dials in again every second.
_FAILURES_S = 10.0

AnswerCount = Annotated[
    int | None,
    typer.Option("--count", min=1, metavar="COUNT", help="End after so many answers; default: go on."),
]
QuietTime = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.1,
        callback=options.finite,
        metavar="SECONDS",
        help="End after so long without an answer or a new enclave; default: go on.",
    ),
]
TopLabels = Annotated[
    int | None,
    typer.Option(
        "--top", metavar="COUNT", help="How many labels to show for a picture; default 3, in JSON all."
    ),
]


def listen(
    count: AnswerCount = None,
    timeout: QuietTime = None,
    top: TopLabels = None,
    policy: options.PolicyFile = None,
    unsafe_allow_debug: options.AllowDebug = False,
    evidence: EvidencePath = None,
    include_statements: IncludeStatements = False,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Receive and show the answers to pictures that were sent.

    Waits for enclaves to dial in, verifies their evidence, and shows the answers to what enclavectl send
    handed in. Runs until Ctrl-C, --count or --timeout. Exit code 5 if --count was given and fewer answers
    came. With --output json each answer is one object on one line.

    Examples:
      enclavectl listen                          until Ctrl-C
      enclavectl listen --count 1 --timeout 60   one answer, within a minute
      enclavectl listen --evidence e.json        with evidence for others
      enclavectl listen --output json            an object on a line for each answer
    """
    hide_memory()
    invocation = begin(output, config, {"backend": backend, "diagnose.top": top})
    settings = invocation.config
    chosen = choose_backend(settings, invocation.screen)
    verification = verification_options(settings, policy=policy, allow_debug=unsafe_allow_debug)
    check_policy(verification)
    address = chosen.outbound_address(settings.enclave.port_out)
    keeper = prepare_keeper(
        invocation.screen,
        evidence,
        include_statements=include_statements,
        policy=verification.policy,
        is_single=False,
    )
    answers = AnswerPrinter(PendingStore(settings.state_dir), invocation, keeper)
    with listening_at(address) as listening:
        invocation.screen.note(f"listening on {address}; Ctrl-C ends")
        # Asked anew for each enclave that dials in: they start while we listen.
        listener = Listener(listening, lambda: expectation_of(chosen, chosen.enclaves, verification))
        for happening in listener.events(timeout):
            answers.show(happening)
            if answers.count == count:
                return
    if count is not None:
        raise EnclaveLost(
            f"expected {counted(count, 'answer')}, found {answers.count} within {timeout} s without news",
            hint="enclavectl send hands pictures in; enclavectl list shows what runs",
        )


class AnswerPrinter:
    """Opens and shows what a listener brings; ``count`` answers so far."""

    def __init__(self, store: PendingStore, invocation: Invocation, keeper: EvidenceKeeper | None) -> None:
        self._keeper = keeper
        self._screen = invocation.screen
        self._store = store
        self._top = invocation.config.diagnose.top
        self._json_top = invocation.asked_top
        self._failures = 0
        self._next_failure_at = 0.0
        self.count = 0

    def show(self, happening: ListenerEvent) -> None:
        """Show one answer on standard output; everything else is a note on standard error."""
        if isinstance(happening, Arrived):
            document = happening.enclave.document
            self._screen.note(f"verified {document.module_id}, trust {document.trust}")
        elif isinstance(happening, Failed):
            self._note_failure(f"{happening.error.message} ({happening.error.code})")
        else:
            self._show_answer(happening)

    def _note_failure(self, note: str) -> None:
        """Show the first at once, then one of all in a while: peers that fail must not fill the screen."""
        self._failures += 1
        now = time.monotonic()
        if now < self._next_failure_at:
            return
        others = f", and {self._failures - 1} other failures" if self._failures > 1 else ""
        self._screen.note(f"{note}{others}")
        self._failures = 0
        self._next_failure_at = now + _FAILURES_S

    def _show_answer(self, delivered: Delivered) -> None:
        waiting = self._store.find(delivered.answer.request_id)
        if waiting is None:
            self._screen.note(f"an answer to a request that is not ours: {delivered.answer.request_id.hex()}")
            delivered.confirm()  # nobody else will open it: the key was here, or is lost
            return
        standing = waiting.standing
        try:
            _check_standing(standing, delivered)
            session = waiting.session_evidence(delivered.expectation.root)
            answer = open_reply(waiting.pending, delivered.answer, session)
        except AttestationError as error:
            self._screen.note(f"{waiting.image}: its answer is refused: {error.message} ({error.code})")
            return
        except PeerProtocolError as error:
            self._screen.note(error.message)
            return
        if answer is None:
            return  # the notice that an answer comes elsewhere, for which only `send` asks
        if self._keeper is not None:  # before it is shown: what fails here leaves the answer with the enclave
            number = self._keeper.session(
                waiting.evidence,
                waiting.requested_at,
                delivered.expectation,
                lock_sha256=waiting.lock_sha256,
            )
            self._keeper.receipt(number, answer.receipted, self.count)
        problem = answer.outcome.problem
        result = Result(
            image=waiting.image,
            sha256=waiting.pending.picture_sha256.hex(),
            outcome=answer.outcome,
            is_receipted=answer.receipted is not None,
            error=None if problem is None else refusal(waiting.image, problem),
        )
        if self._screen.as_json:
            evidence = {
                "module_id": standing.module_id,
                "release": standing.release,
                "root": standing.root,
            }
            value = {"schema": ANSWER_SCHEMA, "trust": str(standing.trust), "evidence": evidence}
            result_json = result.to_json(dict(waiting.labels), top=self._json_top)
            self._screen.line({**value, "notice": waiting.notice, "result": result_json})
        else:
            self._screen.trust(str(standing.trust), standing.root)
            draw_result(self._screen, result, waiting.labels, self._top)
            draw_standing(self._screen, standing)
            self._screen.notice(waiting.notice)
        self._store.remove(delivered.answer.request_id)
        delivered.confirm()
        self.count += 1


def _check_standing(standing: Standing, delivered: Delivered) -> None:
    """Check that the enclave which got the picture satisfies our policy, and is the one that answers.

    Raises:
        AttestationError: it does not, or it is another one.
    """
    standing.check(delivered.expectation.policy, delivered.expectation.root)
    deliverer = delivered.enclave.document.module_id
    if deliverer != standing.module_id:
        raise AttestationError(
            f"expected it from {standing.module_id}, which got the picture, found it with {deliverer}",
            hint="something between you and the enclaves changes the traffic",
            code="other-enclave",
        )
