"""The start of a local payload: the same pinning as in an enclave, and who holds the NSM afterwards."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import pytest

from enclave_payload.card import MODEL_PCR, load_card, model_register
from enclave_payload.nsm import MAX_REQUEST_BYTES
from enclavectl.backends.local.modules import import_path
from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.supervisor import BOOT
from tests.in_process import MODULE_ID, PCRS, new_root
from tests.payload.decoders import MODEL_DIR

# Of a process that is started on a busy machine; a bound for what hangs.
BOOT_MS = 60_000
WORKERS = 2
# The model's register first.
FIRST_REQUESTS = [("DescribePCR", 16), ("ExtendPCR", 16), ("LockPCRs", None), ("DescribePCR", 16)]


class Payload:
    """A local payload without a supervisor. The test is its hypervisor."""

    def __init__(self, folder: Path) -> None:
        (folder / "tree").mkdir()
        (folder / "model").symlink_to(MODEL_DIR)
        self.nsm, nsm_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.nsm.settimeout(BOOT_MS / 1000)
        self._dialer, dialer_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.relpath(folder / "in.sock"))
        listener.listen()
        self.nsm_link = str(Path(f"/proc/self/fd/{nsm_payload.fileno()}").readlink())
        fds = [listener.fileno(), nsm_payload.fileno(), dialer_payload.fileno()]
        spec = {
            "parent_pid": os.getpid(),
            "listener_fd": fds[0],
            "nsm_fd": fds[1],
            "dial_fd": fds[2],
            "memory_mib": 4096,
            "workers": WORKERS,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-ISB", "-c", BOOT, os.pathsep.join(import_path()), json.dumps(spec)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
        )
        for sock in (listener, nsm_payload, dialer_payload):
            sock.close()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self.nsm.close()
        self._dialer.close()

    def request(self) -> object:
        """Its next request to the NSM; None if it has ended."""
        self._raw = self.nsm.recv(MAX_REQUEST_BYTES)
        return cbor2.loads(self._raw) if self._raw else None

    def answer(self, nsm: SimulatedNsm) -> None:
        """Let ``nsm`` answer the last request."""
        self.nsm.sendall(nsm.handle(self._raw))

    def serve(self, nsm: SimulatedNsm) -> None:
        """Answer its requests until it serves."""
        assert self.process.stdout is not None
        poll = select.poll()
        for fd in (console := self.process.stdout.fileno(), self.nsm.fileno()):
            poll.register(fd, select.POLLIN)
        said = b""
        while b"serving model" not in said:
            ready = poll.poll(BOOT_MS)
            assert ready, said
            for fd, _ in ready:
                if fd == console:
                    data = os.read(console, 4096)
                    assert data, said
                    said += data
                elif self.request() is not None:
                    self.answer(nsm)

    def last_words(self) -> str:
        """What it has printed, at its end."""
        said, _ = self.process.communicate(timeout=BOOT_MS / 1000)
        return said.decode()

    def family(self) -> list[int]:
        """The payload's process and all below it."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                found = re.search(r"^PPid:\t(\d+)$", path.read_text(), re.MULTILINE)
            except OSError:
                continue  # it has ended
            assert found is not None
            parents[int(path.parent.name)] = int(found[1])
        family = [self.process.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family


@pytest.fixture
def payload(tmp_path: Path) -> Iterator[Payload]:
    started = Payload(tmp_path)
    try:
        yield started
    finally:
        started.close()


def simulated(pcrs: dict[int, bytes] = PCRS) -> SimulatedNsm:
    return SimulatedNsm(new_root(), MODULE_ID, pcrs, lambda: datetime.now(UTC))


def test_the_model_is_pinned_before_anything_else_is_asked_for(payload: Payload) -> None:
    nsm = simulated()
    asked = []
    for _ in FIRST_REQUESTS:
        request = payload.request()
        assert isinstance(request, dict), request
        asked += [(name, fields.get("index")) for name, fields in request.items()]
        payload.answer(nsm)
    assert asked == FIRST_REQUESTS
    payload.serve(nsm)
    register = cbor2.loads(nsm.handle(cbor2.dumps({"DescribePCR": {"index": MODEL_PCR}})))["DescribePCR"]
    assert register == {"lock": True, "data": model_register(load_card(MODEL_DIR).to_json())}


def test_no_process_but_the_attester_holds_the_nsm(payload: Payload) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can look into processes that are not dumpable")
    payload.serve(simulated())
    holders = {}
    for pid in payload.family():
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        holders[pid] = payload.nsm_link in links
    assert len(holders) >= 2 + WORKERS, "the attester, the zygote and its decoders"
    assert [*holders.values()].count(True) == 1, holders


def test_a_register_that_was_used_before_ends_the_payload_with_one_line(payload: Payload) -> None:
    nsm = simulated()
    nsm.handle(cbor2.dumps({"ExtendPCR": {"index": MODEL_PCR, "data": b"another model"}}))
    payload.request()
    payload.answer(nsm)
    assert payload.request() is None, "it asks for nothing more"
    said = payload.last_words()
    assert payload.process.returncode == 1
    assert said.splitlines()[-1] == (
        "enclave_payload: the model cannot be pinned: "
        "PCR16: expected it open and zero, but something has used it before"
    )
    assert "Traceback" not in said
    assert "serving" not in said
