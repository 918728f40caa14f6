"""``kernel prepare``: boot files from an installed distribution kernel, for use without AWS's boot files.

The result is a folder for ``build --blobs``: the kernel, our own init (``init.c``, compiled here as a static
program), the modules that the kernel needs in an enclave, numbered in the order in which init loads them, and
a command line.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from enclavectl.eif.format import Arch, kernel_arch
from enclavectl.eif.packed import PackedError, Packing, TrailingData, Unpacker, packing_of
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.files import is_folder, is_regular, read_bounded, status_at, write_atomic
from enclavectl.run import Command, capture
from enclavectl.scratch import temporary_folder

INIT_SOURCE = Path(__file__).with_name("init.c")
# Device first, then vsock with its transport, then the NSM; each with its dependencies.
# https://docs.kernel.org/virt/ne_overview.html; the NSM driver is in Linux since 6.8.
MODULES = ("virtio_mmio", "vmw_vsock_virtio_transport", "nsm")
# Not nitro-cli's command line: a distribution's kernel has modules and finds its devices by ACPI or PCI.
CMDLINE = "reboot=k panic=30 console=ttyS0 random.trust_cpu=on"
# Bytes. Distribution kernels have 10 to 60 MiB unpacked; the modules above and the lists have under 5 MiB.
_MAX_KERNEL = 128 << 20
_MAX_MODULE = 64 << 20
_MAX_TEXT = 16 << 20
_CC_TIMEOUT_S = 120  # one file of C compiles in a second; this ends a compiler that hangs
# In a module's section .modinfo: https://docs.kernel.org/kbuild/modules.html
_DEPENDS = re.compile(rb"\0depends=([A-Za-z0-9_,-]*)\0")
_RELEASE = re.compile(r"[A-Za-z0-9._+~-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSource:
    """An installed kernel. ``root`` is / or the folder of an unpacked kernel package."""

    root: Path
    release: str
    modules: Sequence[str] = MODULES

    @property
    def image(self) -> Path:
        """The kernel."""
        return self.root / "boot" / f"vmlinuz-{self.release}"

    @property
    def module_folder(self) -> Path:
        """The folder of its modules. Newer distributions link /lib to usr/lib, but not in their packages."""
        merged = self.root / "usr" / "lib" / "modules" / self.release
        return merged if is_folder(merged) else self.root / "lib" / "modules" / self.release


def find_kernel(root: Path, release: str | None) -> KernelSource:
    """Find the kernel of this release, or the only one that is installed below ``root``.

    Raises:
        StateError: there is no kernel, or there are several and ``release`` is None.
        UsageError: not the name of a release.
    """
    if release is not None:
        if not _RELEASE.fullmatch(release):
            raise UsageError(f"--release: expected the name of a kernel release, found {release!r}")
        found = [release] if is_regular(KernelSource(root=root, release=release).image) else []
    else:
        found = sorted(path.name.removeprefix("vmlinuz-") for path in root.glob("boot/vmlinuz-*"))
    if len(found) != 1:
        what = f"kernel {release}" if release else "one kernel"
        raise StateError(
            f"{root}: expected {what} in boot/, found {', '.join(found) or 'none'}",
            hint="enclavectl kernel prepare --release names one; a package need not be installed: "
            "dpkg -x linux-image-VERSION.deb DIR, then --root DIR",
        )
    return KernelSource(root=root, release=found[0])


def prepare_kernel(source: KernelSource, folder: Path, *, compiler: Path) -> tuple[Path, ...]:
    """Create ``folder`` with everything that ``build --blobs`` needs; return the files in it.

    Raises:
        StateError: ``folder`` exists.
        HostError: a module is missing, the init cannot be built, or the file system fails.
        UsageError: a file of the kernel cannot be read.
    """
    if status_at(folder, follows_links=False) is not None:
        raise StateError(f"{folder}: exists already, and nothing is overwritten", hint="name a new folder")
    kernel, name = _kernel(source)
    modules = {
        f"{number:02}-{module}.ko": data
        for number, (module, data) in enumerate(load_modules(source).items(), 1)
    }
    try:
        with temporary_folder(folder.parent) as scratch:
            made = scratch / "set"
            (made / "modules").mkdir(parents=True)
            write_atomic(made / name, kernel, mode=0o644)
            write_atomic(made / "cmdline", f"{CMDLINE}\n".encode(), mode=0o644)
            for module, data in modules.items():
                write_atomic(made / "modules" / module, data, mode=0o644)
            build_init(made / "init", compiler=compiler)
            made.rename(folder)
    except OSError as exc:
        raise HostError(f"{folder}: cannot be written ({exc.strerror})") from exc
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def build_init(target: Path, *, compiler: Path) -> None:
    """Compile our init to the static program ``target``.

    Raises:
        HostError: the compiler fails.
    """
    with tempfile.TemporaryDirectory(prefix="enclavectl-init-") as scratch:
        # A copy in an empty folder keeps this machine's paths out of the program.
        shutil.copyfile(INIT_SOURCE, Path(scratch) / "init.c")
        argv = [str(compiler), "-static", "-Os", "-s", "-Wl,--build-id=none", "-o", "init", "init.c"]
        done = capture(Command(argv=argv, cwd=Path(scratch)), timeout_s=_CC_TIMEOUT_S)
        if done.status != 0:
            words = done.err.decode(errors="replace").strip()[-400:]
            raise HostError(
                f"{compiler}: cannot compile the init: {words}",
                hint="apt-get install gcc libc6-dev",
                code="init-compile",
            )
        write_atomic(target, (Path(scratch) / "init").read_bytes(), mode=0o755)


def find_compiler(path: str | None) -> Path:
    """Find the C compiler of this machine.

    Raises:
        HostError: there is none.
    """
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name, path=path)
        if found is not None:
            return Path(found)
    raise HostError(
        "no C compiler on the PATH; it builds the init",
        hint="apt-get install gcc libc6-dev",
        code="compiler-missing",
    )


def load_modules(source: KernelSource) -> dict[str, bytes]:
    """Read the modules and their dependencies, unpacked, in an order in which they can be loaded.

    Modules that are built into the kernel are omitted. The dependencies come from the modules themselves,
    since packages have no ``modules.dep``: the installation generates it.

    Raises:
        HostError: a module is neither a file nor built in.
        UsageError: a module cannot be read.
    """
    folder = source.module_folder
    files = {_name(path.name): path for path in sorted(folder.rglob("*.ko*"))}
    listed = folder / "modules.builtin"
    builtin = set()
    if listed.is_file():
        text = read_bounded(listed, _MAX_TEXT, what="list of modules").decode(errors="replace")
        builtin = {_name(Path(line).name) for line in text.splitlines()}
    loaded: dict[str, bytes] = {}
    for name in source.modules:
        _load(name, files, builtin, loaded, ())
    if not loaded and not builtin:
        raise HostError(f"{folder}: no modules", code="kernel-module")
    return loaded


def _load(
    name: str, files: Mapping[str, Path], builtin: set[str], loaded: dict[str, bytes], above: tuple[str, ...]
) -> None:
    if name in builtin or name in loaded:
        return
    if name not in files or name in above:
        needed = f", which {above[-1]} needs" if above else ""
        raise HostError(
            f"the kernel has no module {name}{needed}",
            hint="an enclave needs Linux 6.8 or newer with the nsm driver, as Debian's 6.12 cloud kernel",
            code="kernel-module",
        )
    data = _module(files[name])
    depends = _DEPENDS.search(data)
    for other in (depends[1].decode(errors="replace") if depends else "").split(","):
        if other:
            _load(other.replace("-", "_"), files, builtin, loaded, (*above, name))
    loaded[name] = data


def _name(file: str) -> str:
    return file.strip().partition(".")[0].replace("-", "_")


def _kernel(source: KernelSource) -> tuple[bytes, str]:
    data = read_bounded(source.image, _MAX_KERNEL, what="kernel")
    if kernel_arch(data) is Arch.X86_64:
        return data, Arch.X86_64.kernel_name
    if packing_of(data) is Packing.GZIP:  # arm64 distributions compress the flat image; an EIF needs it plain
        data = _unpacked(source.image, data, _MAX_KERNEL)
    if kernel_arch(data) is Arch.ARM64:
        return data, Arch.ARM64.kernel_name
    raise UsageError(f"{source.image}: expected a bzImage or an arm64 Image, found {data[:4]!r}")


def _module(path: Path) -> bytes:
    return _unpacked(path, read_bounded(path, _MAX_MODULE, what="kernel module"), _MAX_MODULE)


def _unpacked(path: Path, data: bytes, limit: int) -> bytes:
    """Unpack a kernel or module file: not every kernel can unpack its own modules."""
    packing = packing_of(data)
    if packing is None:
        return data
    if not packing.is_readable:
        raise UsageError(
            f"{path}: compressed with {packing}", hint="unpack the modules first (unzstd); then run depmod"
        )
    plain, unpacker = b"", Unpacker(packing, after=TrailingData.ANYTHING)
    try:
        for piece in unpacker.feed(data):
            plain += piece
            if len(plain) > limit:
                raise UsageError(f"{path}: expected at most {limit} bytes unpacked, found more")
        unpacker.finish()
    except PackedError as exc:
        raise UsageError(f"{path}: cannot be unpacked ({exc})") from exc
    return plain
