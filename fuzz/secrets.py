"""Any bytes hold the same secrets however they are cut into chunks, and looking never fails.

What is packed in them may be damaged in any way.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

from enclavectl.image.secrets import secrets_in

_SECRET = b"token: ghp_" + b"a" * 36 + b"\n"


def one(data: bytes) -> None:
    whole = _look([data])
    step = 1 + len(data) // 7
    pieces = _look([data[at : at + step] for at in range(0, len(data), step)])
    assert whole == pieces, "the chunks decide what is found"


def _look(chunks: list[bytes]) -> list[str]:
    try:
        return [what for _, what in secrets_in(b"data", chunks)]
    except Exception as exc:
        raise AssertionError(f"looking raised {exc!r}") from exc


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = len(_SECRET)
        archive.addfile(info, io.BytesIO(_SECRET))
    return out.getvalue()


def _zip(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a", _SECRET)
        archive.writestr("b", _tar())
    return out.getvalue()


SEEDS: list[bytes] = [
    _SECRET,
    _tar(),
    _zip(zipfile.ZIP_DEFLATED),
    _zip(zipfile.ZIP_STORED),
    gzip.compress(_tar(), mtime=0),
    bz2.compress(_SECRET),
    lzma.compress(_SECRET),
]
