"""A warm request with a signed receipt against one without: signed in the enclave, checked in the client.

Both sides are the real server with the packaged model, each in a process of its own. The other side's
signer signs nothing, and its client reads the answer without a look at receipts. The payload has no switch.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.common import MODEL_DIR, PROJECT, Row, Subject, alternate, compare, decoders_of, subjects
from benchmarks.pool import WORKERS
from enclave_payload.card import load_card
from enclave_payload.decoder import Decoders
from enclave_payload.limits import Limits
from enclave_payload.receipt import Draft, ReceiptSigner
from enclave_payload.seal import generate_keys
from enclave_payload.server import Server, Service
from enclave_payload.session import AttestedSession
from enclavectl.attestation import Trust, TrustRoot
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.exchange import CheckedAnswer, Expectation, PendingAnswer, seal_picture
from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client, Result
from enclavectl.net.address import UnixAddress
from enclavectl.net.frames import Frame
from enclavectl.net.transport import listen
from enclavectl.protocol.answers import name_outcome, parse_answer, parse_answer_content, parse_outcome
from enclavectl.protocol.requests import Delivery, sealed_parts
from enclavectl.protocol.sealing import open_answer
from tests.in_process import expect, new_root, simulated_nsm

_TIMEOUT_S = 60.0


class _Unsigned(ReceiptSigner):
    """A signer that drafts and signs nothing."""

    def draft(self, session: AttestedSession, *_: object) -> Draft:
        return Draft(session, b"", {})

    def sign(self, *_: object) -> bytes:
        return b""


class _Unchecking(Client):
    """A client that does all that ``Client`` does with an answer, but does not look at receipts."""

    def submit(self, picture: Picture, pending: PendingAnswer, delivery: Delivery = Delivery.HERE) -> None:
        sealed = seal_picture(self.enclave, pending, picture, delivery)
        self._pending[pending.request_id] = pending, None
        self._stream.send(*sealed_parts(sealed), deadline=time.monotonic() + _TIMEOUT_S)

    def _result_in(self, frame: Frame) -> Result:
        answer = parse_answer(frame.body)
        pending, _ = self._pending.pop(answer.request_id)
        content = open_answer(pending.reply_key, answer.request_id, answer.kind, answer.ciphertext)
        outcome = name_outcome(parse_outcome(parse_answer_content(content).outcome), self.enclave.card)
        return answer.request_id, CheckedAnswer(outcome=outcome, receipted=None)


def main() -> list[Row]:
    """Compare for each picture."""
    with subjects() as both:
        return [_row(subject) for subject in both]


def _row(subject: Subject) -> Row:
    with ExitStack() as stack:
        signed = stack.enter_context(_requests(Client, "signed", subject))
        unsigned = stack.enter_context(_requests(_Unchecking, "unsigned", subject))
        times = alternate(signed, unsigned, rounds=subject.rounds, warmup=subject.rounds // 20)
    what = f"warm request with a signed receipt, {subject.name}, against one without"
    return compare(what, *times, limit=1.05)


@contextmanager
def _requests(kind: type[Client], side: str, subject: Subject) -> Iterator[Callable[[], None]]:
    """Yield a function that has one picture classified in a session with a fresh server."""
    picture = subject.picture
    argv = [sys.executable, "-m", "benchmarks.receipts", side]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([*argv, folder], cwd=PROJECT, stdin=subprocess.PIPE) as process,
    ):
        address = UnixAddress(Path(folder) / "s")
        with kind.connect(address, _wait_for(Path(folder)), timeout_s=_TIMEOUT_S) as client:

            def ask() -> None:
                client.submit(picture, client.prepare(picture))
                client.next_answer(time.monotonic() + _TIMEOUT_S)

            yield ask
        assert process.stdin is not None
        process.stdin.close()


def _wait_for(folder: Path) -> Expectation:
    """Return what to expect of the server in ``folder``, once it listens."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not (folder / "root.pem").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not start")
        time.sleep(0.01)
    pem = (folder / "root.pem").read_bytes()
    root = TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name="benchmark")
    return Expectation(policy=expect(new_root()).policy, root=root)


def serve(side: str, folder: Path) -> None:
    """Serve at ``folder/s`` until standard input ends; ``folder/root.pem`` appears once it does."""
    decoders = Decoders(MODEL_DIR, Limits())
    root: DevelopmentRoot = new_root()
    nsm = simulated_nsm(root, pinned=load_card(MODEL_DIR))
    signer = ReceiptSigner if side == "signed" else _Unsigned
    server = Server(
        Service(
            keys=generate_keys(),
            signer=signer(nsm.describe, is_device=False),
            attester=nsm,
            classifiers=decoders.start(decoders_of(WORKERS), lambda _: None),
            dial=_nobody_listens,
            log=lambda _: None,
        )
    )
    with listen(UnixAddress(folder / "s")) as listener:
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        (folder / "part").write_bytes(root.certificate_pem)
        (folder / "part").rename(folder / "root.pem")
        sys.stdin.read()
        server.stop()
        thread.join()


def _nobody_listens() -> socket.socket:
    raise ConnectionRefusedError


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
