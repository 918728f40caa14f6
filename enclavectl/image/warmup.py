"""The warm-up: a program that does everything that the payload does once, so that all its code is loaded.

It runs twice while the image is built: in the build stage, where ``assemble`` observes the loaded files, and
then inside the assembled file system. That file system contains neither the warm-up nor the client's half of
the protocol, which the warm-up uses: the build context has both as one script (``enclavectl.image.bundle``).
If a file that some picture or message needs is missing there, the build fails, and not that picture later.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from enclave_payload.card import ModelCard
    from enclave_payload.decoder import Classifier, Decoders, Finding
    from enclave_payload.media import MediaType
    from enclave_payload.messages import RefusalCode
    from enclave_payload.verdict import Problem
    from enclave_payload.wire import Buffer, Frame

# Modules that the image omits and the standard library can do without.
_LEFT_OUT = ("_hashlib", "_ssl", "_bz2", "_lzma")
_WAIT_S = 120.0  # for each answer, which takes under a second; this ends a build that hangs
_NONCE = bytes(range(32))
_REPLY_KEY = b"k" * 32
_SALT = b"s" * 32
# Abstract names, which leave nothing behind in the file system that is assembled.
_INBOUND, _OUTBOUND = "\0enclavectl-warmup-in", "\0enclavectl-warmup-out"
_TIFF_COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")


class _Documents:
    """A substitute for the NSM, which no build machine has."""

    def attest(self, *, nonce: bytes, user_data: bytes, public_key: bytes) -> bytes:
        return nonce + user_data + public_key

    def describe(self, index: int) -> tuple[bool, bytes]:
        return True, bytes([index]) * 48


class _BreaksTwice:
    """A classifier that fails on its first two pictures: the image must also have the code for failures."""

    def __init__(self, classifier: Classifier) -> None:
        from enclave_payload.decoder import Finding
        from enclave_payload.verdict import Problem, Verdict

        self.card: ModelCard = classifier.card
        self._classifier = classifier
        failed = Finding(Verdict(problem=Problem.MODEL_FAILED))
        self._wrong: list[Finding | Exception] = [failed, ZeroDivisionError()]

    def classify(
        self,
        picture: Buffer,
        media_type: MediaType,
        may_stay: Callable[[], bool],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finding:
        if not self._wrong:
            return self._classifier.classify(picture, media_type, may_stay, meanwhile)
        if isinstance(wrong := self._wrong.pop(), Exception):
            raise wrong
        return wrong


class _Client:
    """The connection of a client or of the parent's listener, as far as the payload's work needs it."""

    def __init__(self, sock: socket.socket) -> None:
        from enclave_payload.wire import FrameReader, FrameType

        sock.settimeout(_WAIT_S)
        self.sock = sock
        self._reader = FrameReader(dict.fromkeys(FrameType, 1 << 17))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def challenge(self) -> Self:
        from enclave_payload.messages import Challenge, transcript_hash
        from enclavectl.protocol.evidence import challenge_body, challenge_frame, parse_evidence

        challenge = Challenge(_NONCE)
        self.sock.sendall(challenge_frame(challenge))
        self._evidence = parse_evidence(self.next_frame().body)
        self._transcript = transcript_hash(challenge_body(challenge), self._evidence.to_body())
        return self

    def ask(
        self, counter: int, kind: MediaType, picture: bytes, *, suite: int = 2, out: bool = False
    ) -> None:
        from enclave_payload.cbor import decode
        from enclave_payload.contents import Delivery, Request
        from enclave_payload.messages import MAX_KEY_CONFIG_BYTES, Sealed, request_id, session_id
        from enclave_payload.seal import SuiteId, request_info
        from enclavectl.protocol.requests import request_content, sealed_frame
        from enclavectl.protocol.sealing import seal_request

        request = Request(
            picture=picture,
            media_type=kind,
            reply_key=_REPLY_KEY,
            salt=_SALT,
            delivery=Delivery.OUT if out else Delivery.HERE,
        )
        info = request_info(suite, request_id(session_id(self._transcript), counter), self._transcript)
        match decode(self._evidence.key_config, max_bytes=MAX_KEY_CONFIG_BYTES):
            case {"keys": {1: bytes(hybrid), 2: bytes(classical)}}:
                key = {1: hybrid, 2: classical}[suite]
            case _:
                raise RuntimeError("expected two public keys in the key configuration")
        sealed = seal_request(SuiteId(suite), key, request_content(request), info)
        self.sock.sendall(sealed_frame(Sealed(counter, suite, sealed)))

    def next_frame(self) -> Frame:
        while (frame := self._reader.next_frame()) is None:
            data = self.sock.recv(1 << 16)
            if not data:
                raise RuntimeError("the payload closed the connection")
            self._reader.feed(data)
        return frame

    def next_problem(self) -> str | None:
        """Return the problem that the next answer is; None if it has probabilities and a receipt."""
        from enclave_payload.cbor import decode
        from enclave_payload.messages import REQUEST_ID_BYTES, AnswerKind
        from enclave_payload.wire import FrameType, encode_frame
        from enclavectl.protocol.sealing import open_answer

        body = bytes(self.next_frame().body)
        request_id, kind = body[:REQUEST_ID_BYTES], AnswerKind(body[REQUEST_ID_BYTES])
        self.taken = encode_frame(FrameType.TAKEN, request_id)
        content = open_answer(_REPLY_KEY, request_id, kind, body[REQUEST_ID_BYTES + 1 :])
        # The payload's reader: clients' has a library that the image lacks.
        match decode(content, max_bytes=len(content)):
            case {"outcome": bytes(encoded), "receipt": receipt}:
                match decode(encoded, max_bytes=len(encoded)), receipt:
                    case {"problem": None, "probabilities": [*_]} | {"problem": None, "top": [*_]}, bytes():
                        return None
                    case {"problem": str(problem), "probabilities": None, "top": None}, None:
                        return problem
        raise RuntimeError("expected an answer with a receipt, or a problem without one")

    def expect_refusal(self, code: RefusalCode) -> None:
        from enclave_payload.messages import REFUSAL_BYTES

        body = self.next_frame().body
        found = int.from_bytes(body[:2], "big") if len(body) == REFUSAL_BYTES else None
        _require(found == code, f"expected the refusal {code!r}")


def main() -> None:
    """Start the payload's server and exercise it as clients, the parent and the system do.

    Raises:
        Exception: an answer differs from what the payload's tests expect.
    """
    # Only in the process that runs the warm-up: the builder imports this module for its source.
    for name in _LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it then fails
    import enclave_payload.__main__ as payload
    import enclave_payload.key_holder
    import enclave_payload.release  # noqa: F401
    from enclave_payload.decoder import Decoders
    from enclave_payload.entropy import EntropyError, ensure_seeded
    from enclave_payload.limits import Limits
    from enclave_payload.nsm import Nsm, NsmDevice, NsmError
    from enclave_payload.receipt import ReceiptSigner
    from enclave_payload.seal import generate_keys
    from enclave_payload.server import Server, Service

    # A build machine may be busy: what makes a server refuse slow peers must not fail a build.
    limits = Limits(redial_s=0.05, grace_s=1.0, challenge_s=_WAIT_S, first_request_s=_WAIT_S, frame_s=_WAIT_S)
    brought = _brought()
    decoders = Decoders(payload.MODEL_DIR, limits, is_sealed=brought is not None)
    with contextlib.suppress(NsmError):  # a build has no NSM; the code up to the call is loaded
        Nsm(NsmDevice(Path("/dev/null")).transact).get_random()
    with contextlib.suppress(EntropyError):  # a build may not credit the kernel's pool
        ensure_seeded(lambda: os.urandom(256))
    if brought is not None:
        _bring(decoders, *brought)
    lines: list[str] = []
    (classifier,) = decoders.start(1, lines.append)
    documents = _Documents()
    service = Service(
        keys=generate_keys(),
        signer=ReceiptSigner(documents.describe, is_device=False),
        attester=documents,
        classifiers=[_BreaksTwice(classifier)],
        dial=lambda: _connect(_OUTBOUND),
        log=lines.append,
        limits=limits,
    )
    server = Server(service)
    failures: list[BaseException] = []
    before = signal.signal(signal.SIGTERM, lambda *_: server.stop())
    with _listen(_INBOUND) as inbound, _listen(_OUTBOUND) as outbound:
        visitor = threading.Thread(target=_visit, args=(outbound, failures))
        visitor.start()
        server.serve(inbound)
        visitor.join()
    signal.signal(signal.SIGTERM, before)
    if failures:
        raise RuntimeError(f"the payload logged {lines}") from failures[0]
    _look_at_all(classifier.card)


def _brought() -> tuple[bytes, bytes] | None:
    """Return card and weights for an image without a model, which the script then has."""
    try:
        found = importlib.import_module("warmup_model")
    except ImportError:
        return None
    return base64.b85decode(found.CARD), base64.b85decode(found.WEIGHTS)


def _bring(decoders: Decoders, card: bytes, weights: bytes) -> None:
    """Bring the weights as the release port does, and use what opens keys and chunks."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from enclave_payload.card import parse_card
    from enclave_payload.cms import NotForUsError, open_cms
    from enclave_payload.sealed import (
        ChunkOpener,
        SealedHeader,
        chunk_nonce,
        derive_keys,
        encode_header,
        parse_header,
    )

    with contextlib.suppress(NotForUsError):
        open_cms(b"no answer of KMS", rsa.generate_private_key(65537, 2048))
    draft = SealedHeader(raw=b"", card=parse_card(card), size=4, file_id=bytes(16), release={})
    header = parse_header(encode_header(draft))
    key, check = derive_keys(bytes(32), header.raw)
    chunk = AESGCM(key).encrypt(chunk_nonce(0, is_last=True), b"four", None)
    _require(ChunkOpener(bytes(32), header, check).open(chunk) == b"four", "a sealed chunk")
    with decoders.receive(header.card) as sink:
        sink.sendall(weights)


def _look_at_all(card: ModelCard) -> None:
    """Map what decoders map, for who asks; not weights, which could take over what writes the image."""
    from enclave_payload import pipeline  # noqa: F401 - TFLite maps nothing more when it has weights
    from enclave_payload.picture import PictureError, decode_picture

    for _, kind, picture, _ in _pictures():
        with contextlib.suppress(PictureError):
            decode_picture(picture, kind, card.input)


def _visit(outbound: socket.socket, failures: list[BaseException]) -> None:
    try:
        with _Client(outbound.accept()[0]) as parent:
            _classify_all()
            _deliver(parent.challenge())
            _misbehave()
    except BaseException as exc:  # noqa: BLE001 - raised again by the thread that waits for this one
        failures.append(exc)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def _classify_all() -> None:
    from enclave_payload.media import MediaType
    from enclave_payload.verdict import Problem

    with _Client(_connect(_INBOUND)).challenge() as client:
        client.ask(0, MediaType.PNG, _encoded(MediaType.PNG, "RGB"))
        _require(client.sock.recv(1) == b"", "a classifier with a bug")
    with _Client(_connect(_INBOUND)).challenge() as client:
        client.ask(0, MediaType.PNG, _encoded(MediaType.PNG, "RGB"))
        _require(client.next_problem() == Problem.MODEL_FAILED, "a classifier that breaks")
        for counter, (what, kind, picture, problem) in enumerate(_pictures(), 1):
            client.ask(counter, kind, picture, suite=1 + counter % 2)
            found = client.next_problem()
            _require(found == problem, f"{what}: expected {problem}, found {found}")


def _deliver(parent: _Client) -> None:
    from enclave_payload.media import MediaType

    with _Client(_connect(_INBOUND)).challenge() as client:
        client.ask(7, MediaType.PNG, _encoded(MediaType.PNG, "RGB"), out=True)
        client.next_frame()  # the receipt
        _require(parent.next_problem() is None, "an answer for the listener")
        parent.sock.sendall(parent.taken)


def _misbehave() -> None:
    from enclave_payload.media import MediaType
    from enclave_payload.messages import Challenge, RefusalCode, Sealed
    from enclavectl.protocol.evidence import challenge_frame
    from enclavectl.protocol.requests import sealed_frame

    picture = _encoded(MediaType.PNG, "RGB")
    with _Client(_connect(_INBOUND)) as client:
        client.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        client.expect_refusal(RefusalCode.PROTOCOL)
    with _Client(_connect(_INBOUND)) as client:
        client.sock.sendall(challenge_frame(Challenge(_NONCE, version=99)))
        client.expect_refusal(RefusalCode.VERSION)
    for suite in (1, 2, 99):
        with _Client(_connect(_INBOUND)).challenge() as client:
            client.sock.sendall(sealed_frame(Sealed(0, suite, bytes(2000))))
            client.expect_refusal(RefusalCode.UNREADABLE)
    with _Client(_connect(_INBOUND)).challenge() as client:
        client.ask(3, MediaType.PNG, picture)
        _require(client.next_problem() is None, "a request before its replay")
        client.ask(3, MediaType.PNG, picture)
        client.expect_refusal(RefusalCode.REPLAYED)


def _pictures() -> Iterator[tuple[str, MediaType, bytes, Problem | None]]:
    """Yield pictures: a description, media type, file, and the problem that the payload must report."""
    from PIL import Image

    from enclave_payload.media import MediaType
    from enclave_payload.verdict import Problem

    for kind in MediaType:
        for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK"):
            with contextlib.suppress(OSError):  # not every format has every mode
                yield f"{kind} {mode}", kind, _encoded(kind, mode), None
        whole = _encoded(kind, "RGB")
        yield f"half of a {kind}", kind, whole[: len(whole) // 2], Problem.UNREADABLE
        yield f"a {kind} of nothing", kind, b"", Problem.EMPTY
        other = MediaType.PNG if kind is MediaType.JPEG else MediaType.JPEG
        yield f"a {other} as {kind}", kind, _encoded(other, "RGB"), Problem.UNREADABLE
        turned = Image.Exif()
        turned[0x0112] = 6
        if kind is not MediaType.BMP:
            yield f"turned {kind}", kind, _encoded(kind, "RGB", exif=turned.tobytes()), None
    for compression in _TIFF_COMPRESSIONS:
        picture = _encoded(MediaType.TIFF, "RGB", compression=compression)
        yield f"TIFF {compression}", MediaType.TIFF, picture, None
    yield "progressive", MediaType.JPEG, _encoded(MediaType.JPEG, "RGB", progressive=True), None
    yield "lossless", MediaType.WEBP, _encoded(MediaType.WEBP, "RGB", lossless=True), None
    for kind in (MediaType.TIFF, MediaType.WEBP, MediaType.PNG):
        frames = [Image.new("RGB", (300, 200), "white")]
        film = _encoded(kind, "RGB", save_all=True, append_images=frames)
        yield f"{kind} film", kind, film, Problem.MORE_THAN_ONE_FRAME
    yield "16 bits", MediaType.PNG, _encoded(MediaType.PNG, "I;16"), Problem.UNSUPPORTED_PIXELS


def _encoded(kind: MediaType, mode: str, **options: object) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    picture = Image.new("RGB", (300, 200), "gray")
    picture.paste("red", (10, 10, 100, 90))
    converted = Image.new(mode, picture.size) if mode == "I;16" else picture.convert(mode)
    converted.save(encoded, kind.name, **options)
    return encoded.getvalue()


def _listen(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name)
    sock.listen()
    sock.settimeout(_WAIT_S)
    return sock


def _connect(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _require(is_true: bool, what: str) -> None:
    if not is_true:
        raise RuntimeError(what)


if __name__ == "__main__":
    main()
