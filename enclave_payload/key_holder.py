"""The key holder of an enclave: everything of a start that comes after the fork of the zygote.

Pin the model's card in PCR16, seed the kernel's pool from the NSM, make keys, have the model loaded, serve on
vsock. A failure before serving ends the process, and with it the enclave. An image without weights makes keys
first, and pins and loads the model that the release port brings.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

from enclave_payload.card import MODEL_PCR, ModelCard, model_commitment, model_register
from enclave_payload.decoder import Decoders
from enclave_payload.entropy import ensure_seeded
from enclave_payload.limits import Limits, decoder_count
from enclave_payload.nsm import Nsm, NsmDevice, NsmError
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import EnclaveKeys, generate_keys
from enclave_payload.server import Server, Service

if TYPE_CHECKING:
    from enclave_payload.release import ReleasePort

PORT_IN = 5005
PORT_OUT = 5006
PORT_RELEASE = 5007
# Connections that wait to be accepted. vsock resets what finds no room, which looks as if nobody listened.
BACKLOG = 512
# The parent instance as an enclave sees it: VMADDR_CID_HOST is 2, but Nitro's parent answers at 3.
# https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave-concepts.html#term-socket
PARENT_CID = 3


def log(line: str) -> None:
    """Write one line to the console, which only a debug-mode enclave shows to its parent."""
    sys.stderr.write(f"enclave_payload: {line}\n")
    sys.stderr.flush()


def pin_model(nsm: Nsm, card: ModelCard) -> None:
    """Measure the card into ``MODEL_PCR`` for good, or end the process with one line.

    Call this first of all that the NSM is asked for, and before anything parses the weights: whoever extends
    the register first decides what it says.
    """
    measured = card.to_json()
    try:
        nsm.pin(MODEL_PCR, model_commitment(measured), model_register(measured))
    except NsmError as exc:
        sys.exit(f"enclave_payload: the model cannot be pinned: {exc}")


def release_port(nsm: Nsm, keys: EnclaveKeys, signer: ReceiptSigner, decoders: Decoders) -> ReleasePort:
    """Make the release port of a runtime without weights."""
    # Here and not above, with the libraries that it loads: an image with weights has no use for them.
    from enclave_payload.release import Hooks, ReleasePort  # noqa: PLC0415

    hooks = Hooks(pin=lambda card: pin_model(nsm, card), receive=decoders.receive, lease=end_after, log=log)
    return ReleasePort(nsm, keys, signer, hooks)


def wait_for_weights(port: ReleasePort, listener: socket.socket) -> None:
    """Serve the release port until the weights are there, or end the process with one line."""
    from enclave_payload.release import ReleaseFailed  # noqa: PLC0415

    log("no weights: waiting for an offer")
    try:
        port.wait_for_weights(listener)
    except ReleaseFailed as exc:
        sys.exit(f"enclave_payload: {exc}")


def end_after(lease_s: int) -> None:
    """End this process, and with it the enclave, when the lease is over. The clock is monotonic."""

    def end() -> None:
        log("the lease is over")
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(lease_s, end)
    timer.daemon = True
    timer.start()


def serve(decoders: Decoders, limits: Limits, *, is_sealed: bool) -> None:
    """Make the keys and serve until SIGTERM, with a zygote that was forked before."""
    nsm = Nsm(NsmDevice().transact)
    if not is_sealed:
        pin_model(nsm, decoders.card)
    ensure_seeded(nsm.get_random)
    keys, signer = generate_keys(), ReceiptSigner(nsm.describe, is_device=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if is_sealed:
        port, release = release_port(nsm, keys, signer, decoders), _listen(PORT_RELEASE)
        wait_for_weights(port, release)
    service = Service(
        keys=keys,
        signer=signer,
        attester=nsm,
        classifiers=decoders.start(decoder_count(os.cpu_count() or 1, _memory_bytes(), limits), log),
        dial=_dial_parent,
        log=log,
        limits=limits,
    )
    server = Server(service)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    with _listen(PORT_IN) as listener:
        if is_sealed:
            threading.Thread(target=port.serve, args=(release,), daemon=True).start()
        server.serve(listener)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _listen(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    sock.bind((socket.VMADDR_CID_ANY, port))
    sock.listen(BACKLOG)
    return sock


def _dial_parent() -> socket.socket:
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        sock.connect((PARENT_CID, PORT_OUT))
    except BaseException:
        sock.close()
        raise
    return sock
