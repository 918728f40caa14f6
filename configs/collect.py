"""Collect the root file system of the parent's image: ``python3 collect.py PARTS ROOT``.

Python's interpreter and library, the packages that the commands of a pod use, nitro-cli, the shared
libraries of all of them, and CAs. What a pod never imports stays out: the runtime of models, decoders of
pictures, Docker's client.
"""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = "/opt/enclavectl/lib"
# What `run`, `gateway`, `fleet probe`, `doctor` and `plan` import, by the names of distributions.
NEEDED = (
    *("enclavectl", "typer", "rich", "pyyaml", "cryptography", "cbor2", "websockets", "prometheus_client"),
    *(
        "cffi",
        "pycparser",
        "markdown_it_py",
        "mdurl",
        "pygments",
        "shellingham",
        "typing_extensions",
        "click",
    ),
    *("annotated_doc", "backports_zstd"),
)
LAUNCHER = f"""#!{sys.executable} -EPB
import sys

sys.path.insert(0, "{PACKAGES}")
from enclavectl.cli.main import main

sys.argv[0] = "enclavectl"
main()
"""
# A module of its own, since `-m` starts keepers without our launcher.
SITE = f'import sys\nsys.path.insert(0, "{PACKAGES}")\n'
NOT_NEEDED = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "distutils")
_LIBRARY = re.compile(r"(/\S+) \(0x")


def main() -> None:
    """Make the root file system below ROOT."""
    parts, root = Path(sys.argv[1]), Path(sys.argv[2])
    packages = root / PACKAGES.lstrip("/")
    packages.mkdir(parents=True)
    _install(parts / "wheels", packages)
    _copy_python(root)
    program = root / "usr/local/bin/enclavectl"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(LAUNCHER)
    program.chmod(0o755)
    nitro_cli = root / "usr/bin/nitro-cli"
    nitro_cli.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(parts / "nitro-cli", nitro_cli)
    nitro_cli.chmod(0o755)
    _copy_libraries(root)
    _copy_authorities(parts, root)
    for name in ("tmp", "dev/shm", "run/nitro_enclaves", "var/log/nitro_enclaves", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/tmp:/\nenclavectl:x:65532:65532::/tmp:/\n")
    (root / "etc/group").write_text("root:x:0:\nenclavectl:x:65532:\n")


def _install(wheels: Path, packages: Path) -> None:
    found = {path.name.partition("-")[0].lower(): path for path in wheels.glob("*.whl")}
    chosen = [str(found[name]) for name in NEEDED if name in found]
    # Python finds pip inside of its wheel, so the base image needs none.
    command = [sys.executable, f"{found['pip']}/pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--no-compile", "--target", str(packages), *chosen], check=True)
    shutil.rmtree(packages / "bin", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(packages)], check=True)


def _copy_python(root: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    target = root / sys.executable.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(interpreter, target)
    library = sysconfig.get_path("stdlib")
    # Debian's Python comes compiled, and a copy keeps its times; that of Docker's own images does not.
    leave_out = shutil.ignore_patterns("site-packages", "dist-packages", *NOT_NEEDED)
    shutil.copytree(library, root / library.lstrip("/"), ignore=leave_out, symlinks=False)
    (root / library.lstrip("/") / "sitecustomize.py").write_text(SITE)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(root / library.lstrip("/"))], check=False)
    for shared in Path(sysconfig.get_config_var("LIBDIR")).glob("libpython3*.so.*"):
        place = root / str(shared).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shared, place)


def _copy_libraries(root: Path) -> None:
    """Copy the shared libraries that the programs and modules below ROOT load, to the same places."""
    programs = [str(path) for path in root.rglob("*") if _is_program(path)]
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    for library in set(_LIBRARY.findall(told)):
        place = root / library.lstrip("/")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(library).resolve(), place)


def _copy_authorities(parts: Path, root: Path) -> None:
    """Copy the CAs by which pods know AWS KMS to where OpenSSL looks, if PARTS or this system has any."""
    places = (parts / "ca.pem", Path("/etc/ssl/certs/ca-certificates.crt"))
    given = next((path for path in places if path.is_file()), None)
    if given is not None:
        place = root / ssl.get_default_verify_paths().openssl_cafile.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(given, place)
        place.chmod(0o644)


def _is_program(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


if __name__ == "__main__":
    main()
