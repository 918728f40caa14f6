"""A real payload server in this process, behind a simulated NSM, with a classifier that needs no weights."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from PIL import Image

from enclave_payload.card import PARTS_PER_BILLION, Label, ModelCard
from enclave_payload.contents import key_config_digest
from enclave_payload.decoder import Classifier, Finding
from enclave_payload.key_holder import pin_model
from enclave_payload.limits import Limits
from enclave_payload.media import MediaType
from enclave_payload.nsm import Attester, Nsm
from enclave_payload.picture import PictureError, decode_picture
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import EnclaveKeys, generate_keys
from enclave_payload.server import Server, Service
from enclave_payload.verdict import Verdict
from enclave_payload.wire import Buffer
from enclavectl.attestation import Policy, Release, Trust, TrustRoot
from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.exchange import Expectation
from enclavectl.client.pictures import Picture
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import listen
from tests.payload.cards import SOFTMAX, stretched

MODULE_ID = "i-00000000000000000-enc0123456789abcdef"
PCRS = {index: bytes([index + 1]) * 48 for index in (0, 1, 2)}
CARD = ModelCard(
    model_id="brightness",
    sha256="ab" * 32,
    input=stretched(4, 4, "0", "1"),
    output=SOFTMAX,
    labels=(Label(code="dark", name="Dark"), Label(code="light", name="Light")),
    notice="Not a diagnosis.",
)


def signer_of(pcrs: Mapping[int, bytes]) -> ReceiptSigner:
    """The receipt key of an enclave with these registers."""
    return ReceiptSigner(lambda index: (True, pcrs.get(index, bytes(48))), is_device=False)


# Of every enclave here with the registers PCRS.
SIGNER = signer_of(PCRS)


class Brightness:
    """Says how light a picture is. Waits before an answer while ``gate`` is shut: ``is_at_gate`` says so."""

    card = CARD

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate = gate
        self.is_at_gate = threading.Event()

    def classify(
        self,
        picture: Buffer,
        media_type: MediaType,
        may_stay: Callable[[], bool],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finding:
        del may_stay, meanwhile
        try:
            image = decode_picture(bytes(picture), media_type, CARD.input).image
        except PictureError as error:
            return Finding(Verdict(problem=error.problem))
        if self.gate is not None:
            self.is_at_gate.set()
            self.gate.wait(30)
        light = PARTS_PER_BILLION * image.convert("L").tobytes()[0] // 255
        return Finding(Verdict(probabilities_ppb=(PARTS_PER_BILLION - light, light)))


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcess:
    """Where it listens, and what a client should expect of it."""

    address: UnixAddress
    server: Server
    expectation: Expectation
    log: list[str]


def new_root() -> DevelopmentRoot:
    return DevelopmentRoot.create(datetime.now(UTC))


def simulated_nsm(
    root: DevelopmentRoot, pcrs: Mapping[int, bytes] = PCRS, *, pinned: ModelCard | None = CARD
) -> Nsm:
    """The NSM of an enclave that has ``pinned`` this model; None: of an image that pins none."""
    nsm = Nsm(SimulatedNsm(root, MODULE_ID, pcrs, lambda: datetime.now(UTC)).handle)
    if pinned is not None:
        pin_model(nsm, pinned)
    return nsm


def attest(
    root: DevelopmentRoot, nonce: bytes, key_config: bytes, *, pinned: ModelCard | None = CARD
) -> bytes:
    """A session's document over this nonce and this key configuration."""
    return simulated_nsm(root, pinned=pinned).attest(
        nonce=nonce, user_data=key_config_digest(key_config), public_key=SIGNER.public_key
    )


def expect(root: DevelopmentRoot, pcrs: Mapping[int, bytes] = PCRS) -> Expectation:
    return Expectation(
        policy=Policy(accept=frozenset({Trust.SIMULATED}), releases=(Release(name="test", pcrs=pcrs),)),
        root=TrustRoot.from_pem(root.certificate_pem, trust=Trust.SIMULATED, name="test root"),
    )


def gray_png(value: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A picture whose answer is ``value / 255`` light."""
    file = BytesIO()
    Image.new("L", size, value).save(file, "PNG")
    return file.getvalue()


def gray(value: int) -> Picture:
    return Picture(f"{value}.png", MediaType.PNG, gray_png(value))


@contextmanager
def start_in_process(
    folder: Path,
    *,
    keys: EnclaveKeys | None = None,
    classifiers: Sequence[Classifier] = (Brightness(),),
    limits: Limits | None = None,
    outbound: UnixAddress | None = None,
    root: DevelopmentRoot | None = None,
    pcrs: Mapping[int, bytes] = PCRS,
    attester: Attester | None = None,
) -> Iterator[InProcess]:
    """Serve; an ``attester`` of the test's own attests under ``root``."""
    root = root or new_root()
    address = UnixAddress(folder / "enclave.sock")
    log: list[str] = []

    def dial() -> socket.socket:
        if outbound is None:
            raise OSError("nobody listens")
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(outbound.path))
        except BaseException:
            sock.close()
            raise
        return sock

    service = Service(
        keys=keys or generate_keys(),
        signer=SIGNER if pcrs is PCRS else signer_of(pcrs),
        attester=attester or simulated_nsm(root, pcrs),
        classifiers=classifiers,
        dial=dial,
        log=log.append,
        limits=limits or Limits(grace_s=1, redial_s=0.05),
    )
    server = Server(service)
    with listen(address) as listener:
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield InProcess(address=address, server=server, expectation=expect(root, pcrs), log=log)
        finally:
            server.stop()
            thread.join()
