"""The payload's start inside an enclave: ``python -m enclave_payload``. It takes no options.

Fork the process that will load the measured model, pin the model's card in PCR16, seed the kernel's pool from
the NSM, make keys, load the model, serve on vsock. A failure before serving ends the process, and with it the
enclave.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from enclave_payload.card import MODEL_PCR, ModelCard, model_commitment, model_register
from enclave_payload.decoder import Decoders
from enclave_payload.entropy import ensure_seeded
from enclave_payload.limits import Limits
from enclave_payload.nsm import Nsm, NsmDevice, NsmError
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import generate_keys
from enclave_payload.server import Server, Service

PORT_IN = 5005
PORT_OUT = 5006
# Connections that wait to be accepted. vsock resets what finds no room, which looks as if nobody listened.
BACKLOG = 512
# The parent instance as an enclave sees it: VMADDR_CID_HOST is 2, but Nitro's parent answers at 3.
# https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave-concepts.html#term-socket
PARENT_CID = 3
# One CPU or not: with two workers a picture that takes long holds one of them only.
MIN_WORKERS = 2
MODEL_DIR = Path(__file__).parent / "model"


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


def main() -> None:
    """Serve until SIGTERM."""
    limits = Limits()
    # First: what is forked from here on has never seen a key, nor /dev/nsm. It loads the model when started.
    decoders = Decoders(MODEL_DIR, limits)
    nsm = Nsm(NsmDevice().transact)
    pin_model(nsm, decoders.card)
    ensure_seeded(nsm.get_random)
    service = Service(
        keys=generate_keys(),
        signer=ReceiptSigner(nsm.describe, is_device=True),
        attester=nsm,
        classifiers=decoders.start(max(MIN_WORKERS, os.cpu_count() or 1), log),
        dial=_dial_parent,
        log=log,
        limits=limits,
    )
    server = Server(service)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        listener.bind((socket.VMADDR_CID_ANY, PORT_IN))
        listener.listen(BACKLOG)
        server.serve(listener)


def _dial_parent() -> socket.socket:
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        sock.connect((PARENT_CID, PORT_OUT))
    except BaseException:
        sock.close()
        raise
    return sock


if __name__ == "__main__":
    main()
