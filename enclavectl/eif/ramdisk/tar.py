"""A bounded tar reader: headers only, file data by offset.

``tarfile`` keeps every member, reads extended headers of any size into memory, loses trailing slashes and
raises half a dozen exception types on damaged input. This one reads the formats that Docker, BuildKit and
containerd write (ustar, GNU long names, pax with sparse files), in constant memory, and raises only
``LayerError``.

https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html and, for Docker's reading of a header,
https://github.com/golang/go/blob/go1.23.0/src/archive/tar/reader.go
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.ramdisk.cpio import MAX_ENTRIES, show
from enclavectl.eif.ramdisk.sparse import SparseBudget, expand, is_sparse, sparse_name

BLOCK = 512
MAX_EXTENDED = 1 << 20  # bytes of one pax header or long name, as in Go's reader
_XATTR = b"SCHILY.xattr."
_SPARSE_0_0 = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")  # for each piece of data, in this order
_FILE_TYPES = b"0\x007"
_HEADER_ONLY = b"123456"  # links, devices, directories and fifos never have data


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One member, unchanged. ``kind`` is the type flag; ``mtime`` is in seconds, rounded down."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    target: bytes
    rdev: tuple[int, int]
    data: FileRange
    offset: int
    xattrs: tuple[bytes, ...] = ()


@dataclass(slots=True)
class _Extended:
    """The extended headers before a member."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    name: bytes | None = None
    target: bytes | None = None


def read_tar(archive: FileRange, *, sparse: SparseBudget | None = None) -> Iterator[TarEntry]:
    """Yield every member in order.

    The archive ends with two blocks of zeros or, as in Docker's reader, at the end of the file between two
    members: some builders write no such blocks. An archive cut inside a member is refused; one cut between
    members does not match its layer's digest. ``sparse`` is the image's budget for sparse files, shared by
    its layers.

    Raises:
        LayerError: ``tar-header``, ``tar-checksum``, ``tar-truncated``, ``tar-type``, ``tar-extended``,
            ``tar-sparse`` or ``tar-entries``, with the offset of the member's header.
    """
    at, extended, count = 0, _Extended(), 0
    budget = sparse or SparseBudget()
    while at < archive.size:  # the last member's padding may be missing as well
        header = _range(archive, at, BLOCK, "a header")
        if header.count(0) == BLOCK:
            _check_end(archive, at + BLOCK)
            return
        count += 1
        if count > MAX_ENTRIES:
            raise _error("tar-entries", f"more than {MAX_ENTRIES} members", at)
        _check_sum(header, at)
        kind = header[156:157]
        size = _number(header[124:136], at)
        if kind in b"xgLK":
            if not 0 <= size <= MAX_EXTENDED:
                raise _error("tar-extended", f"an extended header of {size} bytes", at)
            data = _range(archive, at + BLOCK, size, "an extended header")
            _extend(extended, kind, data, at)
            at = _next(at, size)
            continue
        entry, stored = _entry(archive, header, at, extended, size, budget)
        extended = _Extended()
        yield entry
        at = _next(at, stored)


def _check_end(archive: FileRange, at: int) -> None:
    """Check that a block of zeros is followed by another or by nothing; Docker refuses other archives."""
    if at != archive.size and _range(archive, at, BLOCK, "its end").count(0) != BLOCK:
        raise _error("tar-header", "expected a second block of zeros at the end", at)


def _error(code: str, text: str, at: int) -> LayerError:
    return LayerError(f"tar: {text}", code=code, offset=at)


def _next(at: int, size: int) -> int:
    return at + BLOCK + size + -size % BLOCK


def _range(archive: FileRange, at: int, size: int, what: str) -> bytes:
    if at + size > archive.size:
        raise _error("tar-truncated", f"the archive ends within {what}", at)
    archive.file.seek(archive.offset + at)
    data = archive.file.read(size)
    if len(data) != size:
        raise _error("tar-truncated", f"the file ends within {what}", at)
    return data


def _check_sum(header: bytes, at: int) -> None:
    claimed = _number(header[148:156], at)
    blank = header[:148] + b" " * 8 + header[156:]
    total = sum(blank)
    if claimed == total:
        return
    if claimed != total - 256 * sum(byte > 127 for byte in blank):  # some old writers summed signed bytes
        raise _error("tar-checksum", "the header's checksum is wrong", at)


def _number(raw: bytes, at: int) -> int:
    """Decode octal digits, or base 256 where the first bit is set."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw)
        bits = 8 * len(raw)
        return value - (1 << bits) if raw[0] & 0x40 else value - (1 << (bits - 1))
    text = raw.strip(b" \0").partition(b"\0")[0]
    if text.strip(b"01234567"):
        raise _error("tar-header", f"expected octal digits, found {raw!r}", at)
    return int(text or b"0", 8)


def _extend(extended: _Extended, kind: bytes, data: bytes, at: int) -> None:
    if kind == b"x":
        extended.records = _pax_records(data, at)  # a second header replaces the first
    elif kind == b"L":
        extended.name = data.partition(b"\0")[0]
    elif kind == b"K":
        extended.target = data.partition(b"\0")[0]
    else:
        # Docker ignores global headers ("g") and the extended headers before them.
        extended.records, extended.name, extended.target = {}, None, None


def _pax_records(data: bytes, at: int) -> dict[bytes, bytes]:
    """Read the records of one header; convert a sparse map of form 0.0 to form 0.1."""
    records: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    for key, value in _pax(data, at):
        if key not in _SPARSE_0_0:
            records[key] = value
        elif key != _SPARSE_0_0[len(pieces) % 2] or b"," in value:
            raise _error("tar-sparse", "the map of a sparse file is malformed", at)
        else:
            pieces.append(value)
    if pieces:
        records[b"GNU.sparse.map"] = b",".join(pieces)
    return records


def _pax(data: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(data):
        digits, space, _ = data[position : position + 12].partition(b" ")
        if not space or not digits.isdigit():
            raise _error("tar-extended", "a pax record without a length", at)
        end = position + int(digits)
        record = data[position + len(digits) + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or not key or not equals or not value.endswith(b"\n"):
            raise _error("tar-extended", "a pax record is malformed", at)
        yield key, value[:-1]
        position = end


def _pax_number(records: dict[bytes, bytes], key: bytes, default: int, at: int) -> int:
    raw = records.get(key)
    if not raw:  # an empty value deletes the record
        return default
    whole, _, fraction = raw.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    digits = whole.lstrip(b"-")
    if not digits.isdigit() or len(digits) > 20 or (fraction and not fraction.isdigit()):
        raise _error("tar-extended", f"expected {key.decode()} to be a number, found {raw[:32]!r}", at)
    value = sign * int(digits)
    return value - 1 if sign < 0 and fraction.strip(b"0") else value


def _entry(
    archive: FileRange, header: bytes, at: int, extended: _Extended, size: int, budget: SparseBudget
) -> tuple[TarEntry, int]:
    """Read a member, and count its bytes of data in the archive."""
    records = extended.records
    # If a member has both, Docker's reader takes GNU's long name.
    name = extended.name or records.get(b"path") or _ustar_name(header)
    kind = header[156:157]
    if kind in _FILE_TYPES:
        kind = b"5" if kind == b"\0" and name.endswith(b"/") else b"0"
        size = _pax_number(records, b"size", size, at)
    elif kind in _HEADER_ONLY:
        size = 0
    else:
        raise _error("tar-type", f"{show(name[:64])}: unsupported type {kind!r}", at)
    uid = _pax_number(records, b"uid", _number(header[108:116], at), at)
    gid = _pax_number(records, b"gid", _number(header[116:124], at), at)
    mtime = _pax_number(records, b"mtime", _number(header[136:148], at), at)
    if not all(-1 << 63 <= value < 1 << 63 for value in (uid, gid, mtime)):  # as in Go's reader
        raise _error("tar-header", f"{show(name[:64])}: an owner or a time of more than 64 bits", at)
    if size < 0 or at + BLOCK + size > archive.size:
        raise _error("tar-truncated", f"{show(name[:64])}: {size} bytes are not in the archive", at)
    data = FileRange(file=archive.file, offset=archive.offset + at + BLOCK, size=size)
    if is_sparse(records):
        if kind != b"0":
            raise _error("tar-sparse", f"{show(name[:64])}: a sparse file that is no file", at)
        data, name = expand(records, data, budget, at), sparse_name(records) or name
    entry = TarEntry(
        name=name,
        kind=kind,
        mode=_number(header[100:108], at),
        uid=uid,
        gid=gid,
        mtime=mtime,
        target=extended.target or records.get(b"linkpath") or header[157:257].partition(b"\0")[0],
        rdev=(_number(header[329:337], at), _number(header[337:345], at)) if kind in b"34" else (0, 0),
        data=data,
        offset=at,
        xattrs=tuple(key[len(_XATTR) :] for key in records if key.startswith(_XATTR)),
    )
    return entry, size


def _ustar_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    # GNU's magic is "ustar  \0"; it keeps other things in the prefix field.
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
