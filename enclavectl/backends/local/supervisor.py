"""The supervisor of one local enclave: hypervisor, console keeper and undertaker.

``python -m enclavectl.backends.local.supervisor SPEC`` is started by the backend only; SPEC is JSON. It
holds the enclave's lock for as long as the enclave lives, measures the payload, answers the payload's NSM
requests, keeps its console, and ends it on SIGTERM or when the lifeline's other end closes. It is one
process with one poll loop, so that nothing here can wait for anything else here.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from enclavectl.backends.console_log import ConsoleLog
from enclavectl.backends.keeping.lifeline import LifelineEnd
from enclavectl.backends.local.modules import import_path
from enclavectl.run import Command, hide_memory, start, wait_ended

# Seconds. A picture takes under a second, and a few may wait in the queue.
_TERM_GRACE_S = 6.0
# Until the last process of the payload has ended: the kernel frees the memory of each first.
_LAST_OUTPUT_MS = 1000
# Not -m: without site-packages on its path, the interpreter would not find the module.
BOOT = (
    "import sys; sys.path[:] = sys.argv[1].split(':'); "
    "from enclavectl.backends.local.child import main; main(sys.argv[2])"
)
# The payload's word on its dialer's socket that the port for pictures is to open.
LISTEN = b"L"
# As net/transport has it.
_BACKLOG = 512
# What one turn of the loop takes from the console, so that the NSM is not kept waiting.
_OUTPUT_BYTES = 64 * 1024


class SupervisorSpec(NamedTuple):
    """What the backend hands over. The descriptors are inherited; the lifeline is keeping/lifeline.py's."""

    folder: str
    module_id: str
    root_folder: str
    listener_fd: int
    release_fd: int | None
    lock_fd: int
    lifeline_fd: int
    debug: bool
    memory_mib: int
    workers: int
    outbound: str

    def to_json(self) -> str:
        """Return the supervisor's one argument."""
        return json.dumps(self._asdict())


class Supervisor:
    """One enclave, from its start to the end of everything that belonged to it."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self._spec = spec
        self._folder = Path(spec.folder)
        self._console = ConsoleLog(self._folder / "console.log")
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._nsm, self._nsm_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._dialer, self._dialer_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output, self._output_payload = os.pipe()
        self._lifeline = LifelineEnd(spec.lifeline_fd)
        self._is_detached = False

    def run(self) -> None:
        """Keep the enclave until its payload has ended; unless it was detached, remove every trace of it."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: os.write(self._wake_write, b"x"))
        payload = self._start_payload()
        try:
            self._serve(payload)
        finally:
            self._end(payload)
        if not self._is_detached:
            from enclavectl.backends.keeping.folders import remove_after_starter

            remove_after_starter(
                self._folder, self._spec.lock_fd, lambda: self._lifeline.wait_cut(self._wake_read)
            )

    def _start_payload(self) -> subprocess.Popen[bytes]:
        spec = self._spec
        child = {
            "parent_pid": os.getpid(),
            "listener_fd": spec.listener_fd,
            "release_fd": spec.release_fd,
            "nsm_fd": self._nsm_payload.fileno(),
            "memory_mib": spec.memory_mib,
            "workers": spec.workers,
            "dial_fd": self._dialer_payload.fileno(),
        }
        # Isolated and without site: no variables, no user site, no .pth file; the path is what we measure.
        argv = [sys.executable, "-ISB", "-c", BOOT, os.pathsep.join(import_path()), json.dumps(child)]
        fds = [spec.listener_fd, self._nsm_payload.fileno(), self._dialer_payload.fileno()]
        if spec.release_fd is not None:
            fds.append(spec.release_fd)
        payload = start(
            Command(argv=argv, cwd=self._folder, pass_fds=tuple(fds)), output=self._output_payload
        )
        # The payload alone holds these now: when it ends, whoever waits for it sees the end.
        if spec.release_fd is None:
            os.close(spec.listener_fd)
        else:
            os.close(spec.release_fd)
        os.close(self._output_payload)
        self._nsm_payload.close()
        self._dialer_payload.close()
        return payload

    def _serve(self, payload: subprocess.Popen[bytes]) -> None:
        # While the payload starts, load what signs: the payload asks for it before it makes keys.
        handle = self._simulated_nsm()
        gc.enable()
        ended = os.pidfd_open(payload.pid)
        poll = select.poll()
        serve = {
            self._output: self._keep_output,
            self._nsm.fileno(): lambda: self._answer_nsm(handle),
            self._dialer.fileno(): self._dial,
        }
        for fd in (*serve, self._wake_read, ended, self._lifeline.fd):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd in serve:
                    if not serve[fd]():
                        poll.unregister(fd)
                elif fd == self._lifeline.fd and self._lifeline.is_released():
                    self._is_detached = True
                    poll.unregister(fd)
                else:  # told to stop, the lifeline is cut, or the payload has ended
                    os.close(ended)
                    return

    def _simulated_nsm(self) -> Callable[[bytes], bytes]:
        from datetime import UTC, datetime

        from enclavectl.backends.local.measure import measure, payload_dir
        from enclavectl.backends.local.nsm import SimulatedNsm
        from enclavectl.backends.local.root import load_root

        hide_memory()  # it is about to hold the key of the development root
        pcrs = measure(payload_dir(), self._folder / "model")
        if self._spec.debug:
            # As on Nitro: a debug-mode enclave's registers hold zeros, so nobody can mistake it.
            pcrs = dict.fromkeys(pcrs, bytes(48))
        root = load_root(Path(self._spec.root_folder))
        nsm = SimulatedNsm(root, self._spec.module_id, pcrs, lambda: datetime.now(UTC))
        return nsm.handle

    def _answer_nsm(self, handle: Callable[[bytes], bytes]) -> bool:
        from enclave_payload.nsm import MAX_REQUEST_BYTES

        try:
            request = self._nsm.recv(MAX_REQUEST_BYTES + 1)
            if request:
                self._nsm.sendall(handle(request))
        except ConnectionError:
            return False
        return bool(request)

    def _dial(self) -> bool:
        """Hand the payload a connection to the parent's listener, or tell it that there is none."""
        try:
            asked = self._dialer.recv(1)
            if not asked:
                return False
            if asked == LISTEN:
                # The sandbox forbids the payload to. Others may come from now on.
                with socket.socket(fileno=self._spec.listener_fd) as listener:
                    listener.listen(_BACKLOG)
                    self._dialer.sendall(b"1")
                return True
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
                try:
                    sock.connect(self._spec.outbound)
                except OSError:  # nobody listens, or not soon enough
                    self._dialer.sendall(b"0")
                else:
                    socket.send_fds(self._dialer, [b"1"], [sock.fileno()])
        except ConnectionError:
            return False
        return True

    def _keep_output(self) -> bool:
        data = os.read(self._output, _OUTPUT_BYTES)
        self._console.write(data)
        return bool(data)

    def _end(self, payload: subprocess.Popen[bytes]) -> None:
        if self._is_detached and payload.poll() is None:
            payload.terminate()  # others may wait for answers that it has begun
            wait_ended(payload, _TERM_GRACE_S)
        payload.kill()  # its only client has gone, or it had its time
        status = payload.wait()
        # Killed, the process that stood for the payload ended first; the kernel is ending the payload now.
        console = select.poll()
        console.register(self._output, select.POLLIN)
        while console.poll(_LAST_OUTPUT_MS):
            if not self._keep_output():
                break
        else:
            self._console.write(b"supervisor: a process still holds the console\n")
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._console.write(f"supervisor: the payload ended at {stamp} with {how}\n".encode())
        self._console.close()


def main(argument: str) -> None:
    """Supervise until the end."""
    gc.disable()  # nothing that imports make is garbage, and looking for some is part of the boot
    Supervisor(SupervisorSpec(**json.loads(argument))).run()
    gc.freeze()  # a last look for garbage would only keep the starter waiting


if __name__ == "__main__":
    main(sys.argv[1])
