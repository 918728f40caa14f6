"""A real server on a real Unix socket, with a small classifier in memory, and a peer to talk to it."""

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from PIL import Image

from enclave_payload.card import PARTS_PER_BILLION, ModelCard
from enclave_payload.contents import Delivery, Outcome, Request
from enclave_payload.decoder import DecoderLostError, Finding, Preempted
from enclave_payload.limits import Limits
from enclave_payload.media import MediaType
from enclave_payload.messages import (
    AnswerKind,
    Challenge,
    RefusalCode,
    Sealed,
    request_id,
    session_id,
    transcript_hash,
)
from enclave_payload.nsm import Attester
from enclave_payload.picture import PictureError, decode_picture
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import SuiteId, generate_keys, request_info
from enclave_payload.server import Server, Service
from enclave_payload.verdict import Problem, Verdict
from enclave_payload.wire import Buffer, Frame, FrameReader, FrameType
from enclavectl.net.refusal import Refusal, parse_refusal
from enclavectl.protocol.answers import (
    Answer,
    AnswerContent,
    parse_answer,
    parse_answer_content,
    parse_outcome,
)
from enclavectl.protocol.evidence import Evidence, challenge_body, challenge_frame, parse_evidence
from enclavectl.protocol.key_config import parse_key_config
from enclavectl.protocol.requests import request_content, request_counter, sealed_frame
from enclavectl.protocol.sealing import open_answer, seal_request
from tests.payload.cards import CARD

PATIENCE_S = 60.0  # a bound for a test that would hang, never a measure
FRAMES = dict.fromkeys(FrameType, 64 * 1024)
NONCE = bytes(range(32))
SALT = bytes(range(32, 64))
KEYS = generate_keys()
REGISTERS = {index: bytes([index + 1]) * 48 for index in (0, 1, 2, 8)}
SIGNER = ReceiptSigner(lambda index: (True, REGISTERS.get(index, bytes(48))), is_device=False)

# Colors that the classifier below does not take.
BREAKS_THE_MODEL = (1, 2, 3)
BREAKS_THE_CLASSIFIER = (3, 2, 1)
LOSES_THE_DECODERS = (2, 1, 3)


def picture_of(color: tuple[int, int, int]) -> bytes:
    """A PNG of one color."""
    file = io.BytesIO()
    Image.new("RGB", (CARD.input.width, CARD.input.height), color).save(file, "PNG")
    return file.getvalue()


def eventually(is_true: Callable[[], bool]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


class RedClassifier:
    """Sees how red a picture is. ``gate`` holds it inside ``classify`` while cleared.

    With ``is_slow`` it holds red pictures only, which take long and give way to others.
    """

    is_slow = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    @property
    def card(self) -> ModelCard:
        return CARD

    def classify(
        self,
        picture: Buffer,
        media_type: MediaType,
        may_stay: Callable[[], bool],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finding:
        try:
            image = decode_picture(bytes(picture), media_type, CARD.input).image
        except PictureError as error:
            return Finding(Verdict(problem=error.problem))
        meanwhile()
        self.entered.release()
        color = image.getpixel((0, 0))
        is_held = not self.is_slow or color == (255, 0, 0)
        while is_held and not self.gate.wait(0.01):
            if self.is_slow and not may_stay():
                raise Preempted
        if color == BREAKS_THE_MODEL:
            return Finding(Verdict(problem=Problem.MODEL_FAILED))
        if color == BREAKS_THE_CLASSIFIER:
            raise ZeroDivisionError
        if color == LOSES_THE_DECODERS:
            raise DecoderLostError("they are gone")
        assert isinstance(color, tuple)
        return Finding(Verdict(probabilities_ppb=tuple(redness(color[0]).values())))


def redness(red: int) -> dict[str, int]:
    """What ``RedClassifier`` says of a picture with that much red."""
    share = PARTS_PER_BILLION * red // 255
    return {"bcc": share, "nv": PARTS_PER_BILLION - share}


class ReadableAttester:
    """Its documents can be read by the test: the nonce, the user data, then the public key."""

    def attest(self, *, nonce: bytes, user_data: bytes, public_key: bytes) -> bytes:
        return nonce + user_data + public_key


class Peer:
    """A client without verification: it says what it is told to, valid or not."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE_S)
        self._reader = FrameReader(FRAMES)
        self.evidence = Evidence(b"", b"")
        self.session_id = b""
        self._transcript = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what comes next says why
            self.sock.sendall(data)

    def challenge(self) -> Self:
        """Challenge the enclave and keep its evidence."""
        challenge = Challenge(NONCE)
        self.send(challenge_frame(challenge))
        frame = self.next_frame()
        assert frame is not None
        assert frame.type is FrameType.EVIDENCE
        self.evidence = parse_evidence(frame.body)
        self._transcript = transcript_hash(challenge_body(challenge), self.evidence.to_body())
        self.session_id = session_id(self._transcript)
        return self

    def request_frame(
        self,
        counter: int,
        picture: bytes,
        *,
        suite: SuiteId = SuiteId.X25519,
        media_type: MediaType = MediaType.PNG,
        delivery: Delivery = Delivery.HERE,
    ) -> bytes:
        """A valid sealed request, not yet sent. The reply key of request 7 is 32 sevens."""
        request = Request(
            picture=picture,
            media_type=media_type,
            reply_key=reply_key(counter),
            salt=SALT,
            delivery=delivery,
        )
        info = request_info(suite, request_id(self.session_id, counter), self._transcript)
        public_key = parse_key_config(self.evidence.key_config).public_keys[suite]
        ciphertext = seal_request(suite, public_key, request_content(request), info)
        return sealed_frame(Sealed(counter, suite, ciphertext))

    def ask(self, counter: int, red: int = 255, *, delivery: Delivery = Delivery.HERE) -> None:
        """Send a picture with that much red."""
        self.send(self.request_frame(counter, picture_of((red, 0, 0)), delivery=delivery))

    def next_frame(self) -> Frame | None:
        """The next frame; None at the end of the stream."""
        while (frame := self._reader.next_frame()) is None:
            try:
                data = self.sock.recv(64 * 1024)
            except ConnectionError:  # the server closed with bytes of ours unread
                data = b""
            if not data:
                assert not self._reader.is_mid_frame
                return None
            self._reader.feed(data)
        return frame

    def next_answer(self) -> Answer:
        frame = self.next_frame()
        assert frame is not None
        assert frame.type is FrameType.ANSWER, frame
        return parse_answer(frame.body)

    def next_outcome(self) -> tuple[int, Outcome]:
        """The next final answer, opened, with the counter of its request."""
        answer = self.next_answer()
        assert answer.kind is AnswerKind.FINAL
        return opened(answer)

    def next_refusal(self) -> Refusal:
        frame = self.next_frame()
        assert frame is not None
        assert frame.type is FrameType.REFUSAL, frame
        return parse_refusal(frame.body)

    def assert_ended(self, code: RefusalCode) -> None:
        """The enclave refuses the whole connection with ``code`` and closes it."""
        assert self.next_refusal().code is code
        assert self.next_frame() is None

    def is_served(self, counter: int = 0) -> bool:
        """One request is answered, rightly."""
        self.ask(counter, 51)
        return self.next_outcome()[1].probabilities_ppb == redness(51)


def reply_key(counter: int) -> bytes:
    return bytes([counter % 256]) * 32


def opened(answer: Answer) -> tuple[int, Outcome]:
    counter = request_counter(answer.request_id)
    return counter, parse_outcome(opened_content(answer).outcome)


def opened_content(answer: Answer) -> AnswerContent:
    """What was sealed: the outcome as bytes, and its receipt."""
    key = reply_key(request_counter(answer.request_id))
    return parse_answer_content(open_answer(key, answer.request_id, answer.kind, answer.ciphertext))


class RunningServer:
    """The server under test, its classifiers and its log."""

    def __init__(self, path: Path, server: Server, classifiers: list[RedClassifier], log: list[str]) -> None:
        self.path = path
        self.classifiers = classifiers
        self.log = log
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self.thread = threading.Thread(target=server.serve, args=(self._listener,))

    def connect(self) -> Peer:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.path))
        return Peer(sock)

    @contextlib.contextmanager
    def connect_many(self, count: int) -> Iterator[list[Peer]]:
        """So many peers, in the order in which they connected."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.connect()) for _ in range(count)]

    def stop(self) -> None:
        self._server.stop()

    def join(self) -> None:
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def close(self) -> None:
        for classifier in self.classifiers:
            classifier.gate.set()
        self.stop()
        self.join()
        self._listener.close()


@contextlib.contextmanager
def serving(
    folder: Path, *, limits: Limits | None = None, workers: int = 1, attester: Attester | None = None
) -> Iterator[RunningServer]:
    """A server at ``folder/in`` that dials ``folder/out``; it has stopped afterwards."""
    classifiers = [RedClassifier() for _ in range(workers)]
    log: list[str] = []
    service = Service(
        keys=KEYS,
        signer=SIGNER,
        attester=attester or ReadableAttester(),
        classifiers=classifiers,
        dial=lambda: _dial(folder / "out"),
        log=log.append,
        limits=limits or Limits(),
    )
    running = RunningServer(folder / "in", Server(service), classifiers, log)
    running.thread.start()
    try:
        yield running
    finally:
        running.close()


def _dial(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[Callable[[], Peer]]:
    """The parent's listener at ``folder/out``; calling it takes the enclave's next connection."""
    (folder / "out").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "out"))
        sock.listen()
        sock.settimeout(PATIENCE_S)
        yield lambda: Peer(sock.accept()[0])
