"""Any two tars flatten to sorted, unique, relative names that write as a ramdisk, or raise one EifError.

The input is cut in two at its middle block, so that whiteouts of the second part meet files of the first.
"""

from __future__ import annotations

import io
import tarfile

from enclavectl.eif.errors import EifError
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.ramdisk.entries import Entry, Kind
from enclavectl.eif.ramdisk.layers import ImpliedParents, flatten
from enclavectl.eif.ramdisk.ramdisks import Mode, application_entries, write_ramdisk

_MAX_DATA = 1 << 20


def one(data: bytes) -> None:
    middle = len(data) // 1024 * 512
    halves = [bytes_range(data[:middle] + bytes(1024)), bytes_range(data[middle:] + bytes(1024))]
    for implied, mode in ((ImpliedParents.DOCKER, Mode.NITRO_CLI), (ImpliedParents.KEEP, Mode.REPRODUCIBLE)):
        try:
            with flatten(halves, implied=implied) as image:
                entries = list(image.entries())
        except EifError:
            continue
        except Exception as exc:
            raise AssertionError(f"flattening raised {exc!r}") from exc
        paths = [entry.name.split(b"/") for entry in entries]
        assert paths == sorted(paths), "the entries are not in order"
        assert len({entry.name for entry in entries}) == len(entries), "a name stands twice"
        for path in paths:
            assert not {b"", b".", b".."} & set(path), "an unsafe name"
        folders = {entry.name for entry in entries if entry.kind is Kind.DIRECTORY}
        for path in paths:
            assert len(path) == 1 or b"/".join(path[:-1]) in folders, "an entry without its directory"
        if sum(entry.data.size for entry in entries if entry.data) <= _MAX_DATA:
            _write(entries, mode)


def _write(entries: list[Entry], mode: Mode) -> None:
    try:
        write_ramdisk(io.BytesIO(), application_entries(entries, cmd=b"", env=b""), mode)
    except EifError:
        return  # a time or an owner that a cpio record cannot hold
    except Exception as exc:
        raise AssertionError(f"writing raised {exc!r}") from exc


def _seed(*members: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            if kind == tarfile.REGTYPE:
                info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return out.getvalue()[: out.getvalue().rindex(b"x") // 512 * 512 + 512]


def _sparse() -> bytes:
    """Encode a file of a hole and ten bytes in GNU's pax form 0.1."""
    records = {"major": "0", "minor": "1", "size": "90", "numblocks": "1", "map": "80,10"}
    info = tarfile.TarInfo("s")
    info.size, info.pax_headers = 10, {f"GNU.sparse.{key}": value for key, value in records.items()}
    return info.tobuf(tarfile.PAX_FORMAT) + b"x" * 10 + bytes(502)


_FIRST = _seed(("d", tarfile.DIRTYPE, ""), ("h", tarfile.SYMTYPE, "d"), ("d/f", tarfile.REGTYPE, ""))
_SECOND = _seed(("d/.wh.f", tarfile.REGTYPE, ""), ("e/.wh..wh..opq", tarfile.REGTYPE, ""))
SEEDS: list[bytes] = [
    _FIRST,
    _FIRST + _SECOND,
    _seed(("a", tarfile.REGTYPE, ""), ("é" * 80, tarfile.REGTYPE, "")),
    _FIRST + _seed(("/d", tarfile.CHRTYPE, ""), ("/e", tarfile.REGTYPE, "")),
    _sparse(),
]
