"""Sealed weights: sealing and opening 64 MiB, the memory of opening, and the start of an enclave with them.

Opening is what the enclave does: AES-256-GCM of each chunk, and SHA-256 of the weights. The bases are one
call of the library's AES-256-GCM over all of it, with hashlib's SHA-256 for opening.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.common import MODEL_DIR, PROJECT, Row, alternate, compare
from enclave_payload.card import load_card
from enclave_payload.sealed import ChunkOpener, SealedHeader, derive_keys, encode_header, parse_header
from enclavectl.weights.sealed_file import seal_chunks
from tests.models import tiny
from tests.models.tflite import Graph

_MIB = 1024 * 1024
_SIZE = 64 * _MIB
_ROUNDS = 5
_STARTS = 5
_LARGE_STARTS = 3
# More than the rest of that model has.
_NET_BYTES = 4096
_CARD = """schema: enclavectl.model/2
id: {id}
title: A benchmark
file: model.tflite
sha256: {sha256}
input: {{width: {side}, height: {side}, fit: stretch, filter: bilinear, mean: 127.5, std: 127.5}}
output: {{scores: softmax}}
labels: [{{code: a, name: A}}, {{code: b, name: B}}, {{code: c, name: C}}]
notice: A benchmark.
"""
# Peak memory of a process that opens as the zygote receives: chunk by chunk into one buffer.
_MEMORY = """
import io
from enclave_payload.sealed import CHUNK_BYTES, chunk_nonce
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
cipher, piece, weights = AESGCM(bytes(32)), bytes(CHUNK_BYTES), io.BytesIO()
def peak():  # not ru_maxrss, which is inherited over exec
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
before = peak()
for index in range({size} // CHUNK_BYTES):
    sealed = cipher.encrypt(chunk_nonce(index, is_last=False), piece, None)
    weights.write(cipher.decrypt(chunk_nonce(index, is_last=False), sealed, None))
data = weights.getvalue()
print((peak() - before) * 1024)
"""


def main() -> list[Row]:
    """Measure and return the rows."""
    weights = os.urandom(_SIZE)
    draft = SealedHeader(raw=b"", card=load_card(MODEL_DIR), size=_SIZE, file_id=bytes(16), release={})
    header = parse_header(encode_header(draft))
    key, nonce = bytes(32), bytes(12)
    chunk_key, check = derive_keys(key, header.raw)
    bare = AESGCM(chunk_key)
    chunks, whole = list(seal_chunks(weights, chunk_key)), bare.encrypt(nonce, weights, None)

    def opened() -> None:
        opener, digest = ChunkOpener(key, header, check), hashlib.sha256()
        for chunk in chunks:
            digest.update(opener.open(chunk))

    def opened_bare() -> None:
        hashlib.sha256(bare.decrypt(nonce, whole, None)).digest()

    sealing = alternate(
        lambda: list(seal_chunks(weights, chunk_key)),
        lambda: bare.encrypt(nonce, weights, None),
        rounds=_ROUNDS,
        warmup=1,
    )
    opening = alternate(opened, opened_bare, rounds=_ROUNDS, warmup=1)
    return [
        compare("seal 64 MiB, against AES-256-GCM", *sealing, limit=1.25),
        compare("open 64 MiB, against AES-256-GCM and SHA-256", *opening, limit=1.25),
        _memory(),
        *_starts(),
    ]


def _memory() -> Row:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY.format(size=_SIZE)],
        capture_output=True, text=True, check=True, cwd=PROJECT,
    )  # fmt: skip
    peak = int(done.stdout)
    return Row(
        what="peak memory of opening 64 MiB",
        ours=f"{peak / _MIB:.0f} MiB",
        base=f"{_SIZE // _MIB} MiB",
        ratio=peak / _SIZE,
        limit=1.25,
    )


def _starts() -> list[Row]:
    """Start models sealed and baked in, on the local backend: the demo model, and one of 64 MiB."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        host = _Host(Path(folder))
        large = host.write_model(_SIZE)
        rows = [
            host.compare_starts("demo-lesion", "start of the demo model", rounds=_STARTS, limit=1.2),
            host.compare_starts(str(large), "start with 64 MiB", rounds=_LARGE_STARTS, limit=1.5),
        ]
        host.run("run", "--model", "m.sealed", "--release", "file:m.key")
        with_large, count = host.memory()
        host.run("terminate", "--all")
        host.run("run", "--model", str(host.write_model(0)))
        without, _ = host.memory()
        host.run("terminate", "--all")
    more = with_large - without
    shared = Row(
        what=f"memory that 64 MiB of weights take in {count} processes, decoders included",
        ours=f"{more / _MIB:.0f} MiB",
        base=f"{_SIZE // _MIB} MiB",
        ratio=more / _SIZE,
        limit=1.25,
    )
    return [*rows, shared]


class _Host:
    """Folders of their own for the local backend."""

    def __init__(self, base: Path) -> None:
        self._base = base
        base.chmod(0o700)

    def run(self, *words: str) -> float:
        """Run a command; return how many seconds it took."""
        folder = str(self._base)
        environ = {"PATH": os.environ["PATH"], "HOME": folder, "ENCLAVECTL_STATE_DIR": f"{folder}/state"}
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "enclavectl", *words],
            cwd=self._base, env={**environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, check=True,
        )  # fmt: skip
        return time.perf_counter() - started

    def write_model(self, size: int) -> Path:
        """Write a tiny model whose file has ``size`` bytes, most of them a tensor that nothing uses.

        Not metadata, which the runtime copies.
        """
        graph = Graph()
        count = max(0, size - _NET_BYTES) // 4
        if count:
            graph.tensor("ballast", [count], data=os.urandom(4 * count))
        image = graph.tensor("image", [1, tiny.SIDE, tiny.SIDE, 3])
        scores = graph.softmax(graph.dense(graph.mean(image)))
        weights = graph.model([image], [scores])
        folder = self._base / f"model-{size}"
        folder.mkdir(exist_ok=True)
        (folder / "model.tflite").write_bytes(weights)
        card = _CARD.format(id=f"m{size}", sha256=hashlib.sha256(weights).hexdigest(), side=tiny.SIDE)
        (folder / "model.yaml").write_text(card)
        return folder / "model.yaml"

    def compare_starts(self, model: str, what: str, *, rounds: int, limit: float) -> Row:
        """Compare starts of the model, sealed and baked in, which take turns."""
        for name in ("m.key", "m.sealed"):
            (self._base / name).unlink(missing_ok=True)
        self.run("model", "seal", model, "--to", "m.sealed")
        sealed, baked = [], []
        for _ in range(rounds):
            sealed.append(self.run("run", "--model", "m.sealed", "--release", "file:m.key"))
            self.run("terminate", "--all")
            baked.append(self.run("run", "--model", model))
            self.run("terminate", "--all")
        return compare(f"{what}, sealed against baked in", sealed, baked, limit=limit)

    def memory(self) -> tuple[int, int]:
        """Return the bytes of the enclave's processes, shared ones counted once, and their number."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        parents = {pid: parent for pid in pids if (parent := _parent(pid)) is not None}
        state = os.fsencode(self._base)
        family = [pid for pid in parents if state in _command(pid)]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid and child not in family]
        return sum(map(_proportional, family)), len(family)


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it ended


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _proportional(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
