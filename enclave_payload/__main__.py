"""The payload's start inside an enclave: ``python -m enclave_payload``. It takes no options.

Fork the process that will load the measured model, seed the kernel's pool from the NSM, make keys, serve on
vsock. A failure before serving ends the process, and with it the enclave.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from enclave_payload.decoder import Decoders
from enclave_payload.entropy import ensure_seeded
from enclave_payload.limits import Limits
from enclave_payload.nsm import Nsm, NsmDevice
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


def main() -> None:
    """Serve until SIGTERM."""
    limits = Limits()
    # First: what is forked from here on has never seen a key, nor /dev/nsm.
    decoders = Decoders(MODEL_DIR, limits)
    nsm = Nsm(NsmDevice().transact)
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
