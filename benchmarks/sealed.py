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

_MIB = 1024 * 1024
_SIZE = 64 * _MIB
_ROUNDS = 5
_STARTS = 5
# Peak memory of a process that opens as the zygote receives: chunk by chunk into one buffer.
_MEMORY = """
import io, resource, sys
from enclave_payload.sealed import CHUNK_BYTES, chunk_nonce
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
cipher, piece, weights = AESGCM(bytes(32)), bytes(CHUNK_BYTES), io.BytesIO()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for index in range({size} // CHUNK_BYTES):
    sealed = cipher.encrypt(chunk_nonce(index, is_last=False), piece, None)
    weights.write(cipher.decrypt(chunk_nonce(index, is_last=False), sealed, None))
data = weights.getvalue()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
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
        _starts(),
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


def _starts() -> Row:
    """Start the demo model with sealed weights and with baked-in ones, on the local backend."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        base = Path(folder)
        base.chmod(0o700)

        def command(*words: str) -> float:
            environ = {"PATH": os.environ["PATH"], "HOME": folder, "ENCLAVECTL_STATE_DIR": f"{folder}/state"}
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "enclavectl", *words],
                cwd=base, env={**environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, check=True,
            )  # fmt: skip
            return time.perf_counter() - started

        command("model", "seal", "demo-lesion", "--to", "m.sealed")
        sealed, baked = [], []
        for _ in range(_STARTS):
            sealed.append(command("run", "--model", "m.sealed", "--release", "file:m.key"))
            command("terminate", "--all")
            baked.append(command("run"))
            command("terminate", "--all")
    return compare("start of the demo model, sealed against baked in", sealed, baked, limit=1.2)
