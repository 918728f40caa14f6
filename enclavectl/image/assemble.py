"""Copies one root file system out of the build stage: what the payload needs, and nothing else.

Runs in the build stage of ``enclave_payload/Dockerfile``, not on the host, with the standard library only.
Native code is copied if the payload maps it into memory while it does its work once; Python code is copied
whole, but for tests and tools, because modules are also imported later. What was assembled then does the
same work in there, with nothing else around it.
"""

from __future__ import annotations

import os
import py_compile
import stat
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

INTERPRETER = Path("/usr/bin/enclave-python")
# Of the standard library: what a server without terminal, network and package manager never imports.
_LEFT_OUT = """
    __pycache__ __phello__ site-packages dist-packages
    asyncio curses dbm distutils ensurepip idlelib lib2to3 msilib multiprocessing pydoc_data sqlite3 test
    tests tkinter turtledemo unittest venv wsgiref xmlrpc
    antigravity.py _pydecimal.py cProfile.py cgi.py cgitb.py doctest.py ftplib.py imaplib.py mailbox.py
    mailcap.py nntplib.py pdb.py pickletools.py poplib.py profile.py pstats.py pyclbr.py pydoc.py smtplib.py
    tabnanny.py tarfile.py telnetlib.py this.py trace.py turtle.py webbrowser.py xdrlib.py
"""
# Of the packages: tests, build tools, headers, and cffi but for its backend, which cryptography loads.
_LEFT_OUT_OF_PACKAGES = "__pycache__ tests _pyinstaller f2py distutils testing include bin cffi pycparser"
_LEFT_OUT_SUFFIXES = (".pyi", ".pxd", ".pyx", ".h", ".c", ".a", ".pyc")
# hashlib and hmac work without OpenSSL's copy of the same hashes, which is 5 MB.
_NOT_MAPPED = ("_hashlib", "_ssl", "libcrypto.so", "libssl.so")
_LINK_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_MOUNT_POINTS = ("dev", "etc", "proc", "run", "sys", "tmp", "var")

_WORK = """
import io, sys
sys.path.insert(0, {site!r})
sys.modules["_hashlib"] = sys.modules["_ssl"] = None
import enclave_payload.__main__ as payload
from PIL import Image
from enclave_payload.classifier import load_classifiers
from enclave_payload.media import MediaType
from enclave_payload.picture import decode_picture
from enclave_payload.seal import SuiteId, generate_keys, seal_request
keys = generate_keys()
for suite in SuiteId:
    assert keys.open(suite, seal_request(suite, keys.public[suite], b"x", b"info"), b"info") == b"x"
(classifier,) = load_classifiers(payload.MODEL_DIR, 1)
side = classifier.card.width, classifier.card.height
for kind in MediaType:
    picture = io.BytesIO()
    Image.new("RGB", (300, 200), "gray").save(picture, kind.name)
    decoded = decode_picture(picture.getvalue(), kind, width=side[0], height=side[1])
    assert len(classifier.classify(decoded)) == len(classifier.card.labels)
"""


def main(site: Path, root: Path) -> None:
    """``root`` holds a file system in which the payload runs; this process ends in there, doing its work."""
    exec(_WORK.format(site=str(site)), {"__name__": "work"})  # noqa: S102 - the text above, and nothing else
    mapped = set(_mapped())
    for name in _MOUNT_POINTS:
        _folder(root, Path("/", name))
    stdlib, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    for source in _wanted(stdlib, frozenset(_LEFT_OUT.split()), mapped):
        _copy(source, root, source)
    for source in _wanted(site, frozenset(_LEFT_OUT_OF_PACKAGES.split()), mapped):
        _copy(source, root, packages / source.relative_to(site))
    for library in sorted(mapped):
        if not library.is_relative_to(stdlib) and not library.is_relative_to(site):
            _copy(library, root, library)
            _copy_links(library, root)
    cache = Path("/etc/ld.so.cache")
    if cache.exists():
        _copy(cache, root, cache)
    _below(root, INTERPRETER).symlink_to(os.path.realpath(sys.executable))
    _settle(root)
    os.chroot(root)
    os.chdir("/")
    argv = [str(INTERPRETER), "-I", "-B", "-c", _WORK.format(site="/nowhere")]
    os.execv(INTERPRETER, argv)  # noqa: S606 - it takes the place of this process


def _mapped() -> Iterator[Path]:
    """The files that this process has mapped, the interpreter and the dynamic loader included."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        path = Path(fields[5]) if len(fields) == 6 else None
        if path and path.is_file() and not any(part in path.name for part in _NOT_MAPPED):
            yield path


def _wanted(top: Path, left_out: frozenset[str], mapped: set[Path]) -> Iterator[Path]:
    """The files of a tree that are copied; native code only if it was mapped."""
    for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name not in left_out and not name.startswith("config-3"))
        for name in sorted(files):
            path = Path(folder, name)
            if name in left_out or name.endswith(_LEFT_OUT_SUFFIXES):
                continue
            if ".so" not in path.suffixes or path.resolve() in mapped:
                yield path


def _copy(source: Path, root: Path, target: Path) -> None:
    """``target`` below ``root`` has the content of ``source``, less what only people and debuggers read."""
    place = _below(root, target)
    if source.suffix == ".py" and "enclave_payload" not in source.parts:
        # Without documentation strings, and nothing is left to compile at boot. The payload stays readable.
        py_compile.compile(
            str(source),
            str(place.with_suffix(".pyc")),
            dfile=str(target),
            doraise=True,
            optimize=0 if "numpy" in source.parts else 2,  # numpy adds to its own texts when it is imported
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        return
    data = source.read_bytes()
    place.write_bytes(_without_symbols(data) if data.startswith(b"\x7fELF\x02\x01") else data)
    place.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)


def _without_symbols(data: bytes) -> bytes:
    """A 64-bit little-endian ELF file up to the end of what is loaded: no section table, no symbols.

    Loading needs the program headers only: https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.intro.html
    """
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    end = table + size * count
    for index in range(count):
        offset, _, _, length = struct.unpack_from("<QQQQ", data, table + index * size + 8)
        end = max(end, offset + length)
    header = bytearray(data[:64])
    struct.pack_into("<Q", header, 40, 0)
    struct.pack_into("<HH", header, 60, 0, 0)
    return bytes(header) + data[64:end]


def _copy_links(library: Path, root: Path) -> None:
    """Links to a library carry the names by which it is asked for: libz.so.1, ld-linux-x86-64.so.2."""
    for name in (*_LINK_FOLDERS, str(library.parent)):
        folder = Path(name)
        if folder.is_symlink():  # /lib -> usr/lib
            _link(root / name.lstrip("/"), folder)
            _folder(root, folder.resolve())
        for path in sorted(folder.glob("*.so*")) if folder.is_dir() else []:
            if path.is_symlink() and path.resolve() == library:
                _link(_below(root, path), path)


def _link(place: Path, original: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(original.readlink())


def _below(root: Path, target: Path) -> Path:
    """Where ``target`` stands below ``root``, by the real name of its folder, which is there now."""
    folder = target.parent.resolve()
    _folder(root, folder)
    return root / folder.relative_to("/") / target.name


def _folder(root: Path, path: Path) -> None:
    (root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)


def _settle(root: Path) -> None:
    """Modes do not depend on the umask, and times are constant."""
    for folder, names, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in (*names, *files):
            os.utime(Path(folder, name), (0, 0), follow_symlinks=False)
    os.utime(root, (0, 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
