"""The two ramdisks of an enclave image: one that boots, one that holds the application.

There are two modes. ``NITRO_CLI`` writes linuxkit's bytes, quirks included, so that the PCRs are nitro-cli's.
``REPRODUCIBLE`` boots to the same files, but each path occurs once, sorted, with one constant time and real
hard links, so builds on two machines have the same PCRs.

linuxkit's rules: https://github.com/linuxkit/linuxkit/blob/v1.5.2/src/cmd/linuxkit/moby/image.go and
https://github.com/linuxkit/linuxkit/tree/v1.5.2/src/cmd/linuxkit/vendor/github.com/surma/gocpio
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from enclavectl.eif.errors import EifError, LayerError
from enclavectl.eif.file_range import FileRange, bytes_range
from enclavectl.eif.ramdisk.cpio import TRAILER, ByteSink, CpioEntry, CpioWriter, show
from enclavectl.eif.ramdisk.entries import Entry, Kind
from enclavectl.eif.ramdisk.index import Index, Name, Names, key_of, open_index

EPOCH = 1492533000  # 2017-04-18T16:30:00Z, linuxkit's constant; ours in the reproducible mode too
_FIRST_INO = 721  # linuxkit's counter starts here
_DEV = (3, 1)
_PREFIX = b"rootfs/"
_HOSTS = b"""127.0.0.1       localhost
::1     localhost ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""
_RESOLV_CONF = b"/run/resolvconf/resolv.conf"
# linuxkit omits these, and with them a file named Dockerfile in the root of an image.
_EXCLUDED = frozenset({b".dockerenv", b"Dockerfile", b"dev/console", b"dev/pts", b"dev/shm", b"etc/hostname"})
# Creating a container touches these, so linuxkit gives them a constant time and adds missing ones.
_TOUCHED = frozenset({b"dev/", b"dev/pts/", b"dev/shm/", b"etc/", b"etc/mtab", b"proc/", b"sys/"})
_EXPECTED = (
    b"dev",
    b"dev/pts",
    b"dev/shm",
    b"etc",
    b"etc/hosts",
    b"etc/mtab",
    b"etc/resolv.conf",
    b"proc",
    b"sys",
)
# The mount points of nitro-cli's init, in nitro-cli's order.
_MOUNT_POINTS = (b"dev", b"run", b"sys", b"var", b"proc", b"tmp")


class Mode(StrEnum):
    """The mode in which ramdisks are written."""

    NITRO_CLI = "nitro-cli"
    REPRODUCIBLE = "reproducible"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFile:
    """A file in the root of the boot ramdisk: ``init``, ``nsm.ko`` and others that an init needs."""

    name: str
    data: FileRange
    perm: int = 0o755


def init_lines(words: Sequence[str]) -> bytes:
    """Write the ``cmd`` or ``env`` file that nitro-cli's init reads: one word per line, no quoting.

    Raises:
        EifError: ``init-line``; init would split a word with a line break or a NUL.
    """
    for word in words:
        if "\n" in word or "\0" in word:
            raise EifError(
                f"init reads one word per line, so a word may not contain a line break or NUL: {word[:64]!r}",
                code="init-line",
            )
    return "".join(f"{word}\n" for word in words).encode("utf-8", "surrogateescape")


def boot_entries(files: Iterable[BootFile]) -> Iterator[Entry]:
    """Yield the boot ramdisk: ``/dev`` and the files, which are ``init`` and ``nsm.ko`` for nitro-cli."""
    yield _directory(b"dev")
    for file in files:
        yield Entry(name=file.name.encode(), kind=Kind.FILE, perm=file.perm, mtime=EPOCH, data=file.data)


def application_entries(image: Iterable[Entry], *, cmd: bytes, env: bytes) -> Iterator[Entry]:
    """Yield the application ramdisk, record by record, as linuxkit orders it.

    ``image`` are the entries of ``docker export``. Directories from it keep the trailing slash that they have
    there, because linuxkit keeps it in the record's name.

    Raises:
        LayerError: ``ramdisk-hosts``; ``/etc/hosts`` is neither a file nor absent.
    """
    yield _directory(b"rootfs")
    missing = dict.fromkeys(_EXPECTED)
    for entry in image:
        missing.pop(entry.name, None)
        name = entry.name + b"/" if entry.kind is Kind.DIRECTORY else entry.name
        if name not in _EXCLUDED:
            yield _exported(entry, name)
    for name in missing:
        yield _missing(name)
    yield _directory(b"rootfs")
    for name in _MOUNT_POINTS:
        yield _directory(_PREFIX + name)
    for name, data in ((b"cmd", cmd), (b"env", env)):
        yield Entry(name=name, kind=Kind.FILE, perm=0o644, mtime=EPOCH, data=bytes_range(data))


def write_ramdisk(sink: ByteSink, entries: Iterable[Entry], mode: Mode) -> int:
    """Write one ramdisk and return its size, a multiple of 512. File data is streamed.

    Raises:
        LayerError: ``ramdisk-duplicate`` or ``ramdisk-hardlink`` (reproducible mode only).
        CpioError: a number or a name does not fit the format; a file is 4 GiB or larger.
        EifError: ``short-read``.
        HostError: the disk has no room for the list of files (reproducible mode only).
    """
    writer = CpioWriter(sink)
    if mode is Mode.NITRO_CLI:
        _write_linuxkit(writer, entries)
    else:
        _write_reproducible(writer, entries)
    return writer.size


def _directory(name: bytes) -> Entry:
    return Entry(name=name, kind=Kind.DIRECTORY, perm=0o755, mtime=EPOCH)


def _exported(entry: Entry, name: bytes) -> Entry:
    target = entry.target
    if entry.kind is Kind.HARDLINK:
        target = _PREFIX + target
    moved = replace(entry, name=_PREFIX + name, target=target)
    if entry.name == b"etc/hosts":
        if entry.kind is not Kind.FILE:
            raise LayerError("the image's /etc/hosts is no regular file", code="ramdisk-hosts")
        return replace(moved, mtime=EPOCH, data=bytes_range(_HOSTS))
    if name == b"etc/resolv.conf":
        return replace(moved, kind=Kind.SYMLINK, mtime=EPOCH, target=_RESOLV_CONF, data=None)
    return replace(moved, mtime=EPOCH) if name in _TOUCHED else moved


def _missing(name: bytes) -> Entry:
    entry = _directory(_PREFIX + name)
    if name == b"etc/hosts":
        return replace(entry, kind=Kind.FILE, perm=0o644, data=bytes_range(_HOSTS))
    if name == b"etc/mtab":
        return replace(entry, kind=Kind.SYMLINK, target=b"/proc/mounts")
    if name == b"etc/resolv.conf":
        return replace(entry, kind=Kind.SYMLINK, perm=0o644, target=_RESOLV_CONF)
    return entry


def _content(entry: Entry) -> FileRange:
    return entry.data or bytes_range(entry.target if entry.kind is Kind.SYMLINK else b"")


def _record(entry: Entry, data: FileRange, *, ino: int, dev: tuple[int, int]) -> CpioEntry:
    return CpioEntry(
        name=entry.name,
        ino=ino,
        mode=entry.kind.value | entry.perm,
        uid=entry.uid,
        gid=entry.gid,
        nlink=2 if entry.kind is Kind.DIRECTORY else 1,
        mtime=entry.mtime,
        size=data.size,
        dev=dev,
        rdev=entry.rdev,
    )


def _write_linuxkit(writer: CpioWriter, entries: Iterable[Entry]) -> None:
    ino = _FIRST_INO
    for entry in entries:
        if entry.kind is Kind.HARDLINK:
            # linuxkit turns hard links into symbolic ones, with the link's own permission bits.
            target = relative_path(entry.target, entry.name)
            entry = replace(entry, kind=Kind.SYMLINK, target=target)  # noqa: PLW2901
        data = _content(entry)
        writer.add(_record(entry, data, ino=ino, dev=_DEV), data.chunks())
        ino += 1
    writer.finish(CpioEntry(name=TRAILER, ino=ino, mode=0, dev=_DEV))


def relative_path(target: bytes, link: bytes) -> bytes:
    """Return the relative target for a link at ``link`` to ``target``; both paths have the same root."""
    to, start = target.split(b"/"), link.split(b"/")[:-1]
    common = 0
    while common < min(len(to) - 1, len(start)) and to[common] == start[common]:
        common += 1
    return b"/".join([b".."] * (len(start) - common) + to[common:])


def _write_reproducible(writer: CpioWriter, entries: Iterable[Entry]) -> None:
    """Write entries in order; of hard links, the last has the data, as in GNU cpio."""
    with open_index() as index:
        names = Names(index, "ramdisk")
        for entry in entries:
            _index_entry(index, names, entry)
        next_ino = 1
        for found in index.walk(names):
            entry, links, ino = found.entry, found.links, next_ino
            if links is None or entry.kind is Kind.SYMLINK:
                data, nlink = _content(entry), None
            else:
                ino = index.number(found.inode, ino)
                data, nlink = _content(entry) if entry.name == links.last else bytes_range(b""), links.count
            next_ino = max(next_ino, ino + 1)
            record = _record(replace(entry, mtime=EPOCH), data, ino=ino, dev=(0, 0))
            writer.add(replace(record, nlink=nlink) if nlink else record, data.chunks())
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))


def _index_entry(index: Index, names: Names, entry: Entry) -> None:
    key = key_of(entry.name.rstrip(b"/"))
    # linuxkit repeats directories on purpose; the kernel applies the last record, so keep that one.
    if entry.kind is not Kind.DIRECTORY and names.get(key) is not None:
        raise LayerError(f"{show(entry.name[:128])}: stands twice in the image", code="ramdisk-duplicate")
    if entry.kind is not Kind.HARDLINK:
        names.put(key, Name(inode=index.add(entry), folder=entry.kind is Kind.DIRECTORY))
        return
    target = names.get(key_of(entry.target))
    if target is None or target.folder:
        raise LayerError(
            f"{show(entry.name[:128])}: hard link to {show(entry.target[:128])}, which is not in the ramdisk",
            code="ramdisk-hardlink",
        )
    index.link(target.inode)
    names.put(key, target)
