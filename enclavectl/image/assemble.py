"""The payload's root file system, copied out of the build stage: what the payload needs and nothing else.

This script runs in the build stage of ``enclave_payload/Dockerfile``, not on the host, and uses the standard
library only. A first process observes which files the payload loads; a second process copies them. Native
code is copied if the payload maps it into memory during the warm-up. Python code is copied whole, except
tests and tools, because some modules are imported later. The Dockerfile then runs the warm-up again in the
copied file system alone.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import runpy
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
    html http tomllib xml zoneinfo
    _pydecimal.py _pyio.py aifc.py antigravity.py cProfile.py cgi.py cgitb.py chunk.py configparser.py
    doctest.py ftplib.py imaplib.py mailbox.py mailcap.py nntplib.py optparse.py pdb.py pickletools.py
    plistlib.py poplib.py profile.py pstats.py pyclbr.py pydoc.py smtpd.py smtplib.py sndhdr.py ssl.py
    sunau.py tabnanny.py tarfile.py telnetlib.py this.py trace.py turtle.py wave.py webbrowser.py xdrlib.py
"""
# Of the packages: tests, build tools, headers, and cffi but for its backend, which cryptography loads.
_LEFT_OUT_OF_PACKAGES = (
    "__pycache__ tests _pyinstaller f2py distutils testing array_api include bin cffi pycparser"
    # What ai-edge-litert depends on and its interpreter does not import.
    " google flatbuffers tqdm backports ml_dtypes typing_extensions.py schema_py_generated.py tools"
    # isal's readers and writers of gzip files, and the pages of its library but for the license.
    " igzip.py igzip_threaded.py CMakeLists.txt MAINTAINERS.md README.md Release_notes.txt"
)
_LEFT_OUT_SUFFIXES = (".pyi", ".pxd", ".pyx", ".h", ".c", ".a", ".pyc")
# hashlib and hmac have the hashes without OpenSSL, 5 MB of it; nothing here unpacks bzip2 or xz archives, and
# Pillow brings its own library for TIFF; without a locale Python takes UTF-8 (PEP 540). The warm-up's
# encoders load Pillow's AVIF, which the payload does not read. ai-edge-litert loads the library of its newer
# interface where that is; its interpreter does not use it.
_NOT_MAPPED = (
    *("/_avif.", "/libavif", "/libLiteRt.so"),
    *("/_hashlib.", "/_ssl.", "/libcrypto.so", "/libssl.so"),
    *("/_bz2.", "/_lzma.", "/libbz2.so", "/liblzma.so"),
    "/usr/lib/locale/",
)
# Modules of numpy that write documentation strings and nothing else: they take a tenth of its import.
_ONLY_DOCUMENTATION = ("_add_newdocs.py", "_add_newdocs_scalars.py")
_LINK_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_SEGMENT = struct.Struct(
    "<IIQQQQQQ"
)  # type, flags, offset, address, physical, size in file, in memory, align
_LOAD = 1
_MAX_ALIGN = 0x10000  # the largest page of any system that runs it; older linkers ask for 2 MiB
_MOUNT_POINTS = ("dev", "etc", "proc", "run", "sys", "tmp", "var")


def observe(site: Path, listed: Path) -> None:
    """Run the warm-up, and write to ``listed`` the path of every file that the payload maps into memory."""
    sys.path.insert(0, str(site))
    runpy.run_path(str(Path(__file__).with_name("warmup.py")), run_name="__main__")
    listed.write_text("".join(f"{path}\n" for path in sorted(set(_mapped()))), encoding="utf-8")


def assemble(site: Path, listed: Path, root: Path) -> None:
    """Fill ``root`` with a file system in which the payload runs.

    Call this in a process that has not run the warm-up: the bytes of compiled code depend on what else is in
    the interpreter's memory, and the warm-up's threads would make that differ from build to build.
    """
    mapped = {Path(line) for line in listed.read_text(encoding="utf-8").splitlines()}
    for name in _MOUNT_POINTS:
        _folder(root, Path("/", name))
    stdlib, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    for source in _wanted(stdlib, frozenset(_LEFT_OUT.split()), mapped):
        copy_file(source, root, source)
    for source in _wanted(site, frozenset(_LEFT_OUT_OF_PACKAGES.split()), mapped):
        copy_file(source, root, packages / source.relative_to(site))
    for library in sorted(mapped):
        if not library.is_relative_to(stdlib) and not library.is_relative_to(site):
            copy_file(library, root, library)
            _copy_links(library, root)
    cache = Path("/etc/ld.so.cache")
    if cache.exists():
        copy_file(cache, root, cache)
    _below(root, INTERPRETER).symlink_to(os.path.realpath(sys.executable))
    _normalize_metadata(root)


def _mapped() -> Iterator[Path]:
    """Yield the files that this process has mapped, the interpreter and the dynamic loader included."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        path = Path(fields[5]) if len(fields) == 6 else None
        if path and path.is_file() and not any(part in str(path) for part in _NOT_MAPPED):
            yield path


def _wanted(top: Path, left_out: frozenset[str], mapped: set[Path]) -> Iterator[Path]:
    """Yield the files of a tree that the image needs: native code only if it is in ``mapped``."""
    for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name not in left_out and not name.startswith("config-3"))
        for name in sorted(files):
            path = Path(folder, name)
            if name in left_out or name.endswith(_LEFT_OUT_SUFFIXES) or name.startswith("_sysconfigdata"):
                continue
            if ".so" not in path.suffixes or path.resolve() in mapped:
                yield path


def copy_file(source: Path, root: Path, target: Path) -> None:
    """Copy ``source`` to ``target`` below ``root``, without what only people and debuggers read."""
    place = _below(root, target)
    if source.suffix == ".py" and "enclave_payload" not in source.parts:
        # Without documentation strings, and nothing is left to compile at boot.
        # numpy hands this module's documentation strings to native code; its import fails without them.
        optimize = 0 if source.name == "multiarray.py" else 2
        if source.name in _ONLY_DOCUMENTATION:
            source = Path(os.devnull)
        _compile(
            source, place.with_suffix(".pyc"), target, py_compile.PycInvalidationMode.UNCHECKED_HASH, optimize
        )
        return
    if source.suffix == ".py":
        # The payload stays readable. Its bytecode is taken only if it has the hash of the source beside it.
        cached = Path(importlib.util.cache_from_source(str(target)))
        _compile(source, _below(root, cached), target, py_compile.PycInvalidationMode.CHECKED_HASH, 0)
    data = source.read_bytes()
    place.write_bytes(loaded_parts(data) if data.startswith(b"\x7fELF\x02\x01") else data)
    place.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)


def _compile(
    source: Path, place: Path, target: Path, mode: py_compile.PycInvalidationMode, optimize: int
) -> None:
    py_compile.compile(
        str(source), str(place), dfile=str(target), doraise=True, optimize=optimize, invalidation_mode=mode
    )


def loaded_parts(data: bytes) -> bytes:
    """Strip a 64-bit little-endian ELF file to what is loaded: no symbols, sections or gaps.

    Loading needs the program headers only: https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.intro.html
    Addresses stay as they are. Segments move down in the file, to offsets congruent to their addresses.
    """
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [list(_SEGMENT.unpack_from(data, table + index * size)) for index in range(count)]
    packed = bytearray()
    moved: list[tuple[int, int, int]] = []  # from, length, to
    for header in sorted((one for one in headers if one[0] == _LOAD), key=lambda one: one[2]):
        _, _, offset, address, _, length, _, align = header
        header[7] = align = min(align, _MAX_ALIGN)
        packed += bytes((address - len(packed)) % align)
        moved.append((offset, length, len(packed)))
        packed += data[offset : offset + length]
    place = _moved(moved, table)
    struct.pack_into("<Q", packed, 32, place)
    struct.pack_into("<Q", packed, 40, 0)
    struct.pack_into("<HH", packed, 60, 0, 0)
    for index, header in enumerate(headers):
        if header[5]:  # a segment without bytes in the file needs no offset
            header[2] = _moved(moved, header[2])
        _SEGMENT.pack_into(packed, place + index * size, *header)
    return bytes(packed)


def _moved(moved: list[tuple[int, int, int]], offset: int) -> int:
    for start, length, place in moved:
        if start <= offset < start + length:
            return place + offset - start
    raise ValueError(f"byte {offset} is in no segment that is loaded")


def _copy_links(library: Path, root: Path) -> None:
    """Copy the links to a library: the loader looks for the links' names, such as libz.so.1."""
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
    """Return the path of ``target`` below ``root``, with links in its folder resolved; create the folder."""
    folder = target.parent.resolve()
    _folder(root, folder)
    return root / folder.relative_to("/") / target.name


def _folder(root: Path, path: Path) -> None:
    (root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)


def _normalize_metadata(root: Path) -> None:
    """Set modes that do not depend on the umask, and constant times."""
    for folder, names, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in (*names, *files):
            os.utime(Path(folder, name), (0, 0), follow_symlinks=False)
    os.utime(root, (0, 0))


if __name__ == "__main__":
    step, *paths = sys.argv[1:]
    if step == "observe":
        observe(*map(Path, paths))
    else:
        assemble(*map(Path, paths))
