"""``enclavectl send``: hand pictures in now, and let `listen` show the answers, as in the tutorial."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import typer

from enclave_payload.contents import Delivery
from enclavectl.attestation import Standing
from enclavectl.backends.base import Backend
from enclavectl.backends.registry import choose_backend
from enclavectl.cli import options
from enclavectl.cli.elsewhere import Elsewhere, find_elsewhere
from enclavectl.cli.evidence_keeping import EvidenceKeeper, prepare_keeper
from enclavectl.cli.evidence_options import EvidencePath
from enclavectl.cli.expiry import note_expiry
from enclavectl.cli.invocation import Invocation, begin, refuse_together
from enclavectl.cli.network_options import NO_NETWORK, NetworkFlags
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.picture_arguments import collect_pictures
from enclavectl.client.pictures import Picture, read_pictures
from enclavectl.client.reply_keys import PendingStore, Waiting
from enclavectl.client.session import Client
from enclavectl.errors import EnclaveBusy, PictureRefused, StateError
from enclavectl.net.address import is_network
from enclavectl.results.diagnosis import refusal
from enclavectl.run import hide_memory
from enclavectl.targets.session import open_session
from enclavectl.targets.target import Target, choose_running, target_of
from enclavectl.targets.verification import VerificationOptions, verification_options

SENT_SCHEMA = "enclavectl.sent/1"


@spreads_groups
def send(
    images: options.Images,
    recursive: options.Recursive = False,
    enclave: options.EnclaveName = None,
    connect: options.Address = None,
    remote: options.RemoteName = None,
    policy: options.PolicyFile = None,
    root: options.RootFile = None,
    network: NetworkFlags = NO_NETWORK,
    unsafe_allow_debug: options.AllowDebug = False,
    evidence: EvidencePath = None,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Hand pictures to a verified enclave; listen shows the answers.

    Each picture is sealed to the enclave after its evidence was verified. The command ends when the enclave
    has confirmed that it has the pictures. The keys to the answers wait in the state folder, readable by this
    user only.

    Examples:
      enclavectl listen                               in one terminal
      enclavectl send picture.jpg                     in another: one picture
      enclavectl send --enclave first folder/         a folder, to the enclave named first
    """
    hide_memory()
    invocation = begin(output, config, {"backend": backend, "policy": policy})
    settings, screen = invocation.config, invocation.screen
    screen.outlive_reader()
    refuse_together(connect=connect, remote=remote, enclave=enclave)
    found = collect_pictures(screen, images, recursive=recursive)
    verification = verification_options(
        settings, policy=policy, allow_debug=unsafe_allow_debug, connect=connect, root=root
    )
    elsewhere = find_elsewhere(
        invocation,
        verification,
        remote=remote,
        network=network,
        is_here=enclave is not None,
    )
    demanded = verification.policy if elsewhere is None else elsewhere.policy
    keeper = prepare_keeper(screen, evidence, include_statements=False, policy=demanded, is_single=False)
    target = _target(invocation, verification, elsewhere, enclave)
    pictures = read_pictures(found.names, sys.stdin.buffer.read)
    with open_session(target, screen, timeout_s=settings.diagnose.timeout_s) as client:
        sending = _Sending(invocation, target, client, keeper)
        sending.hand_in_all(zip(found.names, pictures.unanswered(), strict=True))
    if screen.as_json:
        value = {"schema": SENT_SCHEMA, "trust": sending.trust, "backend": target.backend}
        left_out = [folder.to_json() for folder in found.left_out]
        screen.result({**value, "results": sending.results, "left_out": left_out})
    if any("error" in result for result in sending.results):
        raise typer.Exit(PictureRefused.exit_code)


def _target(
    invocation: Invocation, verification: VerificationOptions, elsewhere: Elsewhere | None, name: str | None
) -> Target:
    if elsewhere is None:
        return _running_target(choose_backend(invocation.config, invocation.screen), name, verification)
    target = elsewhere.find()
    if is_network(target.address):
        invocation.screen.note(
            "the enclave gives the answers to a listener on its own host, never back over the network:"
            " to get them here, use enclavectl diagnose"
        )
    return target


def _running_target(backend: Backend, name: str | None, verification: VerificationOptions) -> Target:
    found = choose_running(backend, name)
    if found is None:
        raise StateError("no enclave is running", hint="enclavectl run starts one")
    return target_of(backend, found, verification)


class _Sending:
    """Hands in one picture after another, in a session that is renewed in time; ``results`` is for JSON."""

    def __init__(
        self, invocation: Invocation, target: Target, client: Client, keeper: EvidenceKeeper | None
    ) -> None:
        self._screen = invocation.screen
        self._timeout_s = invocation.config.diagnose.timeout_s
        self._store = PendingStore(invocation.config.state_dir)
        self._target = target
        self._client = client
        self._keeper = keeper
        self.trust = str(client.enclave.document.trust)
        self.results: list[dict[str, object]] = []
        self._keep()

    def _keep(self) -> None:
        enclave, target = self._client.enclave, self._target
        if self._keeper is not None:
            self._keeper.session(
                enclave.evidence, enclave.requested_at, target.expectation, lock_sha256=target.lock_sha256
            )
        note_expiry(self._screen, enclave.document)

    def hand_in_all(self, pictures: Iterable[tuple[str, Picture | PictureRefused]]) -> None:
        """Hand in pictures by their names, and say where the evidence is, also if one ends the command.

        Raises:
            EnclavectlError: as ``hand_in``.
        """
        try:
            for name, picture in pictures:
                self.hand_in(name, picture)
        finally:
            if self._keeper is not None:
                self._keeper.finish(self._screen)

    def hand_in(self, name: str, picture: Picture | PictureRefused) -> None:
        """Hand in a picture, or take note of its refusal.

        Raises:
            AttestationError: the evidence of a new session was refused.
            EnclaveError: the enclave was lost, is busy, or broke the protocol.
        """
        if self._client.is_ending:
            self._client.renew()
            self._keep()
        try:
            handed_in = self._hand_in(picture)
        except PictureRefused as error:
            self.results.append({"image": name, "error": {"code": error.code, "message": error.message}})
            self._screen.note(error.message)
            return
        self.results.append({"image": name, **handed_in})
        if not self._screen.as_json:
            self._screen.drawn((f"handed in {name}: request {handed_in['request_id']} ({self.trust})", ""))

    def _hand_in(self, picture: Picture | PictureRefused) -> dict[str, str]:
        """Return what was handed in once the enclave keeps the answer, whose key is in the store.

        Raises:
            EnclaveBusy: the enclave has no room for it.
            PictureRefused: the picture could not be read, or the enclave has no answer to it.
        """
        if isinstance(picture, PictureRefused):
            raise picture
        pending = self._client.prepare(picture)
        self._store.add(
            Waiting(
                pending=pending,
                standing=Standing.of(self._client.enclave.document),
                evidence=self._client.enclave.evidence,
                requested_at=self._client.enclave.requested_at,
                lock_sha256=self._target.lock_sha256,
                image=picture.name,
                labels=self._client.enclave.label_names,
                notice=self._client.enclave.card.notice,
            )
        )
        try:
            self._client.submit(picture, pending, Delivery.OUT)
            _, answer = self._client.next_answer(time.monotonic() + self._timeout_s)
            if isinstance(answer, EnclaveBusy):
                raise answer
            if answer is not None and answer.outcome.problem is not None:
                raise refusal(picture.name, answer.outcome.problem)
        except (EnclaveBusy, PictureRefused):
            self._store.remove(pending.request_id)
            raise
        return {"sha256": picture.sha256, "request_id": pending.request_id.hex()}
