"""The local payload process: the real server around a development attester.

``python -m enclavectl.backends.local.child SPEC`` is started by the supervisor only; SPEC is JSON. What
differs from ``enclave_payload.__main__`` is the attester (the supervisor's simulated NSM over a socket),
the transport (Unix sockets) and the seeding (the host's pool needs none).
"""

from __future__ import annotations

import gc
import resource
import signal
import socket
import sys
import threading
from pathlib import Path

from enclavectl.backends.local.sandbox import die_with_parent, restrict
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


def main(argument: str) -> None:
    """Serve until SIGTERM or until the supervisor ends."""
    spec = JsonObject.parse(argument.encode())
    die_with_parent(spec.integer("parent_pid"))
    isolated = restrict(spec.integer("memory_mib"))
    gc.disable()  # nothing that imports make is garbage, and looking for some is part of the boot
    from enclave_payload.decoder import Decoders
    from enclave_payload.limits import Limits

    limits = Limits()
    decoders = Decoders(Path("model"), limits)
    # The zygote loads the model meanwhile.
    from enclave_payload.__main__ import log
    from enclave_payload.nsm import Nsm
    from enclave_payload.seal import generate_keys
    from enclave_payload.server import Server, Service

    network = "none" if isolated else "the host, this kernel forbids isolation"
    # The session's ulimit -v may be below local.memory_mib: who wonders why memory ran out reads it here.
    memory_mib = resource.getrlimit(resource.RLIMIT_AS)[0] >> 20
    log(f"SIMULATED enclave; network: {network}; memory: {memory_mib} MiB")
    outbound = spec.string("outbound")

    def dial() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(outbound)
        except BaseException:
            sock.close()
            raise
        return sock

    service = Service(
        keys=generate_keys(),
        attester=Nsm(NsmSocket(socket.socket(fileno=spec.integer("nsm_fd"))).transact),
        classifiers=decoders.start(spec.integer("workers"), log),
        dial=dial,
        log=log,
        limits=limits,
    )
    gc.enable()
    server = Server(service)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.serve(socket.socket(fileno=spec.integer("listener_fd")))


if __name__ == "__main__":
    main(sys.argv[1])
