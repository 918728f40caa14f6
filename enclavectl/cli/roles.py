"""``send`` and ``listen``: the tutorial's two parent roles, for use in two terminals."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.answers import draw_result
from enclavectl.cli.begin import begin, refuse_together
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.targets import (
    check_policy,
    choose_running,
    expectation_of,
    target_elsewhere,
    target_of,
    trusting_of,
)

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend
    from enclavectl.cli.screen import Screen
    from enclavectl.cli.targets import Target, VerificationOptions
    from enclavectl.client.listener import Delivered, ListenerEvent
    from enclavectl.client.pictures import Picture
    from enclavectl.client.reply_keys import PendingStore
    from enclavectl.client.session import Client
    from enclavectl.config.load import Config
    from enclavectl.errors import PictureRefused

ANSWER_SCHEMA = "enclavectl.answer/1"
# An enclave that is refused dials in again every second.
_FAILURES_S = 10.0


def send(
    images: options.Images,
    enclave: options.EnclaveName = None,
    policy: options.PolicyFile = None,
    backend: options.BackendName = None,
    connect: options.Address = None,
    root: options.RootFile = None,
    unsafe_allow_debug: options.AllowDebug = False,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Seal pictures to a verified enclave and hand them in; the answers come to `enclavectl listen`.

    The keys to the answers wait in the state folder, readable by this user only.

    Example: enclavectl listen &  enclavectl send --enclave first picture.jpg
    """
    from enclavectl.client.pictures import collect, read_pictures
    from enclavectl.client.reply_keys import PendingStore
    from enclavectl.client.session import Client
    from enclavectl.errors import PictureRefused

    invocation = begin(output, config, {"backend": backend})
    settings = invocation.config
    refuse_together(connect=connect, enclave=enclave)
    names = collect(images)
    verification = trusting_of(
        settings, policy=policy, allow_debug=unsafe_allow_debug, connect=connect, root=root
    )
    if connect is not None:
        target = target_elsewhere(connect, verification)
    else:
        target = _running_target(_backend(settings, invocation.screen), enclave, verification)
    store = PendingStore(settings.state_dir)
    results: list[dict[str, object]] = []
    pictures = read_pictures(names, sys.stdin.buffer.read)
    with Client.connect(target.address, target.expectation, timeout_s=settings.diagnose.timeout_s) as client:
        trust = str(client.enclave.document.trust)
        for name, picture in zip(names, pictures, strict=True):
            try:
                handed_in = _hand_in(client, store, picture, settings.diagnose.timeout_s)
            except PictureRefused as error:
                results.append({"image": name, "error": {"code": error.code, "message": error.message}})
                invocation.screen.note(error.message)
            else:
                results.append({"image": name, **handed_in})
                if not invocation.screen.as_json:
                    typer.echo(f"handed in {name}: request {handed_in['request_id']} ({trust})")
    if invocation.screen.as_json:
        value = {"schema": "enclavectl.sent/1", "trust": trust, "backend": target.backend}
        invocation.screen.result({**value, "results": results})
    if any("error" in result for result in results):
        raise typer.Exit(PictureRefused.exit_code)


def listen(
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="End after so many answers.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.1, help="End after so many seconds without news.", show_default=False
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", help="How many labels to show for a picture.", show_default=False)
    ] = None,
    policy: options.PolicyFile = None,
    backend: options.BackendName = None,
    unsafe_allow_debug: options.AllowDebug = False,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Wait for enclaves to dial in, verify their evidence, and show the answers to what `send` handed in.

    Runs until Ctrl-C, --count or --timeout. With --output json each answer is one object on one line.
    Exit code 5 if --count was given and fewer answers came.
    """
    from enclavectl.client.listener import Listener
    from enclavectl.client.reply_keys import PendingStore
    from enclavectl.errors import EnclaveLost
    from enclavectl.net.transport import listening as listening_at

    invocation = begin(output, config, {"backend": backend, "diagnose.top": top})
    settings = invocation.config
    chosen = _backend(settings, invocation.screen)
    verification = trusting_of(settings, policy=policy, allow_debug=unsafe_allow_debug)
    check_policy(verification)
    address = chosen.outbound_address(settings.enclave.port_out)
    answers = AnswerPrinter(invocation.screen, PendingStore(settings.state_dir), settings.diagnose.top)
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
            f"expected {count} answers, found {answers.count} within {timeout} s without news",
            hint="enclavectl send hands pictures in; enclavectl list shows what runs",
        )


def _hand_in(
    client: Client, store: PendingStore, picture: Picture | PictureRefused, timeout_s: float
) -> dict[str, str]:
    """What was handed in: the enclave has confirmed that it keeps the answer, whose key is in the store."""
    import time

    from enclave_payload.contents import Delivery
    from enclavectl.client.reply_keys import Waiting
    from enclavectl.errors import EnclaveBusy, PictureRefused
    from enclavectl.results.diagnosis import refusal

    if isinstance(picture, PictureRefused):
        raise picture
    pending = client.prepare()
    store.add(
        Waiting(
            pending=pending,
            image=picture.name,
            sha256=picture.sha256,
            labels=client.enclave.label_names,
            notice=client.enclave.card.notice,
        )
    )
    try:
        client.submit(picture, pending, Delivery.OUT)
        _, receipt = client.next_answer(time.monotonic() + timeout_s)
        if isinstance(receipt, EnclaveBusy):
            raise receipt
        if receipt is not None and receipt.problem is not None:
            raise refusal(picture.name, receipt.problem)
    except (EnclaveBusy, PictureRefused):
        store.remove(pending.request_id)
        raise
    return {"sha256": picture.sha256, "request_id": pending.request_id.hex()}


class AnswerPrinter:
    """Opens and shows what a listener brings; ``count`` answers so far."""

    def __init__(self, screen: Screen, store: PendingStore, top: int) -> None:
        self._screen = screen
        self._store = store
        self._top = top
        self._failures = 0
        self._next_failure_at = 0.0
        self.count = 0

    def show(self, happening: ListenerEvent) -> None:
        """One answer on standard output; everything else is a note on standard error."""
        from enclavectl.client.listener import Arrived, Failed

        if isinstance(happening, Arrived):
            document = happening.enclave.document
            self._screen.note(f"verified {document.module_id}, trust {document.trust}")
        elif isinstance(happening, Failed):
            self._note_failure(f"{happening.error.message} ({happening.error.code})")
        else:
            self._show_answer(happening)

    def _note_failure(self, note: str) -> None:
        """Show the first at once, then one of all in a while: peers that fail must not fill the screen."""
        import time

        self._failures += 1
        now = time.monotonic()
        if now < self._next_failure_at:
            return
        others = f", and {self._failures - 1} other failures" if self._failures > 1 else ""
        self._screen.note(f"{note}{others}")
        self._failures = 0
        self._next_failure_at = now + _FAILURES_S

    def _show_answer(self, delivered: Delivered) -> None:
        from enclavectl.client.exchange import open_reply
        from enclavectl.errors import PeerProtocolError
        from enclavectl.results.diagnosis import Result, refusal

        waiting = self._store.find(delivered.answer.request_id)
        if waiting is None:
            self._screen.note(f"an answer to a request that is not ours: {delivered.answer.request_id.hex()}")
            delivered.confirm()  # nobody else will open it: the key was here, or is lost
            return
        try:
            outcome = open_reply(waiting.pending, delivered.answer)
        except PeerProtocolError as error:
            self._screen.note(error.message)
            return
        if outcome is None:
            return  # a receipt, which only `send` asks for
        problem = None if outcome.problem is None else refusal(waiting.image, outcome.problem)
        result = Result(image=waiting.image, sha256=waiting.sha256, outcome=outcome, error=problem)
        trust = str(delivered.enclave.document.trust)
        if self._screen.as_json:
            value = {"schema": ANSWER_SCHEMA, "trust": trust, "notice": waiting.notice}
            self._screen.line({**value, "result": result.to_json(dict(waiting.labels))})
        else:
            self._screen.trust(trust)
            draw_result(self._screen, result, waiting.labels, self._top)
            self._screen.notice(waiting.notice)
        self._store.remove(delivered.answer.request_id)
        delivered.confirm()
        self.count += 1


def _backend(config: Config, screen: Screen) -> Backend:
    from enclavectl.backends.registry import choose_backend

    return choose_backend(config, screen)


def _running_target(backend: Backend, name: str | None, verification: VerificationOptions) -> Target:
    from enclavectl.errors import StateError

    found = choose_running(backend, name)
    if found is None:
        raise StateError("no enclave is running", hint="enclavectl run starts one")
    return target_of(backend, found, verification)
