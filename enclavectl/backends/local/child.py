"""The local payload process: the real server around a development attester.

Only the supervisor starts it, as ``main(SPEC)`` with a path for modules of its own; SPEC is JSON. What
differs from ``enclave_payload.key_holder`` is the attester (the supervisor's simulated NSM over a socket),
the transport (Unix sockets, which the supervisor dials for it), the sandbox, the modules (compiled from
their sources) and the seeding (the host's pool needs none).
"""

from __future__ import annotations

import gc
import resource
import signal
import socket
import sys
import threading
from pathlib import Path

from enclavectl.backends.local.modules import MeasuredSources
from enclavectl.backends.local.sandbox import Plan, die_with_parent, enter, sandbox_line
from enclavectl.json_object import JsonObject


class NsmSocket:
    """The supervisor's simulated NSM at the other end of a SOCK_SEQPACKET pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def transact(self, request: bytes) -> bytes:
        """One request, one response, as the device would."""
        from enclave_payload.nsm import MAX_RESPONSE_BYTES, NsmError

        with self._lock:
            try:
                self._sock.sendall(request)
                response = self._sock.recv(MAX_RESPONSE_BYTES)
            except OSError as exc:
                raise NsmError(f"the simulated NSM is gone ({exc.strerror})") from exc
        if not response:
            raise NsmError("the simulated NSM is gone")
        return response


class Dialer:
    """The supervisor's connections to the parent's listener: the sandbox lets the payload make none."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def dial(self) -> socket.socket:
        """Return a connection that the supervisor made.

        Raises:
            OSError: nobody listens, or the supervisor is gone.
        """
        self._sock.sendall(b"?")
        _, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
        if not descriptors:
            raise ConnectionRefusedError("nobody listens")
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(True)
        return sock

    def listen(self) -> None:
        """Have the port for pictures opened.

        Raises:
            OSError: the supervisor is gone.
        """
        self._sock.sendall(b"L")
        if self._sock.recv(1) != b"1":
            raise ConnectionRefusedError("the supervisor did not open the port")


def main(argument: str) -> None:
    """Serve until SIGTERM or until the supervisor ends."""
    spec = JsonObject.parse(argument.encode())
    die_with_parent(spec.integer("parent_pid"))
    sys.meta_path.insert(0, MeasuredSources)
    # In the sandbox the folder that has this package cannot be listed, only the package.
    import enclave_payload  # noqa: F401

    folder = Path.cwd()
    missing = enter(Plan(spec.integer("memory_mib"), folder / "tree", (folder / "model",)))
    gc.disable()  # nothing that imports make is garbage, and looking for some is part of the boot
    from enclave_payload.limits import Limits
    from enclave_payload.zygote import start_zygote

    limits = Limits()
    release_fd = spec.optional_integer("release_fd")
    # Before all else: loading numpy, Pillow and TFLite there takes longer than what is left to load here.
    channel = start_zygote(folder / "model", limits)
    from enclave_payload.decoder import Decoders
    from enclave_payload.key_holder import log, pin_model, release_port, wait_for_weights
    from enclave_payload.nsm import Nsm
    from enclave_payload.receipt import ReceiptSigner
    from enclave_payload.seal import generate_keys
    from enclave_payload.server import Server, Service

    # The session's ulimit -v may be below local.memory_mib: who wonders why memory ran out reads it here.
    memory_mib = resource.getrlimit(resource.RLIMIT_AS)[0] >> 20
    log(f"SIMULATED enclave; memory: {memory_mib} MiB")
    log(sandbox_line(missing))
    decoders = Decoders(folder / "model", limits, is_sealed=release_fd is not None, channel=channel)
    nsm = Nsm(NsmSocket(socket.socket(fileno=spec.integer("nsm_fd"))).transact)
    if release_fd is None:
        pin_model(nsm, decoders.card)
    dialer = Dialer(socket.socket(fileno=spec.integer("dial_fd")))
    keys, signer = generate_keys(), ReceiptSigner(nsm.describe, is_device=False)
    if release_fd is not None:
        port, release = release_port(nsm, keys, signer, decoders), socket.socket(fileno=release_fd)
        wait_for_weights(port, release)
    service = Service(
        keys=keys,
        signer=signer,
        attester=nsm,
        classifiers=decoders.start(spec.integer("workers"), log),
        dial=dialer.dial,
        log=log,
        limits=limits,
    )
    gc.enable()
    server = Server(service)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    if release_fd is not None:
        dialer.listen()
        threading.Thread(target=port.serve, args=(release,), daemon=True).start()
    server.serve(socket.socket(fileno=spec.integer("listener_fd")))
