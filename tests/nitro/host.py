"""A fake Nitro host for the tests: its folders, its nitro-cli on PATH, an image with its lock, its end.

::

    HOST/bin/nitro-cli      the fake        HOST/fake.json   what kind of host it is today
    HOST/run, HOST/log      as on a host    HOST/vsock       CID.vsock, host.vsock_5006
    HOST/root.pem           what vouches    HOST/argv.log    every command line
    HOST/tree               /sys and /proc, as far as enclaves are concerned
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enclave_payload.card import model_register
from enclavectl.artifacts.lock import MODEL_REGISTER, Lock
from enclavectl.artifacts.names import LOCK_NAME
from enclavectl.artifacts.wheel import Wheel
from enclavectl.backends.local.root import ensure_root
from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.format import Arch
from enclavectl.models.find import PACKAGED_ID, find_model
from enclavectl.models.weights import load_weights
from tests.cli.command import Done
from tests.eif import samples
from tests.nitro.fake.place import Place, Settings

_ROOT = Path(__file__).resolve().parents[2]
_WHEEL = Wheel(name="numpy", version="1", file="numpy-1-py3-none-any.whl", sha256="0" * 64)
# In the command line of a payload (tests/nitro/fake/guest.py).
_PARENT = re.compile(rb'"parent_pid": ([0-9]+)')
_PROGRAM = """#!{python} -EP
import sys

sys.path.insert(0, {root!r})
from tests.nitro.fake.main import main

main()
"""


@dataclass(frozen=True, slots=True)
class FakeHost:
    """A fake host; ``fake_host`` makes one and ends everything on it."""

    home: Path

    @property
    def program(self) -> Path:
        return self.home / "bin" / "nitro-cli"

    @property
    def lock(self) -> Path:
        """The lock of the image, which is beside it."""
        return self.home / "images" / LOCK_NAME

    @property
    def eif(self) -> Path:
        return self.home / "images" / "demo.eif"

    @property
    def environment(self) -> dict[str, str]:
        """What tells a nitro-cli, and enclavectl, where things are on this host."""
        return {
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
            "NITRO_CLI_LOGS_PATH": str(self.home / "log"),
            "NITRO_CLI_SOCKETS_PATH": str(self.home / "run"),
            "ENCLAVECTL_NITRO_VSOCK_DIR": str(self.home / "vsock"),
            "ENCLAVECTL_NITRO_ROOT": str(self.home / "root.pem"),
            "ENCLAVECTL_NITRO_HOST_ROOT": str(self.home / "tree"),
        }

    @property
    def place(self) -> Place:
        return Place.of(str(self.program), {})

    def set(self, **settings: object) -> None:
        """Change the host: what is not named is as in ``Settings``, but its owner stays who it was."""
        path = self.home / "fake.json"
        owner_pid = json.loads(path.read_text())["owner_pid"] if path.exists() else os.getpid()
        value = {"owner_pid": owner_pid, **settings}
        Settings.from_json(json.dumps(value))
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(value))
        scratch.replace(path)

    def hold(self, what: str) -> None:
        """No ``boot``, or no first ``hash``, ends until ``let_go``."""
        self.place.held_up(what).touch()

    def let_go(self, what: str) -> None:
        """What was held up goes on."""
        self.place.held_up(what).unlink()

    def read_log(self) -> str:
        """nitro-cli's own log."""
        path = self.home / "log" / "nitro_enclaves.log"
        return path.read_text() if path.exists() else ""

    def argv(self) -> list[list[str]]:
        """Every command line so far."""
        path = self.home / "argv.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """nitro-cli, running."""
        return subprocess.Popen(
            [str(self.program), *map(str, arguments)],
            env={**self.environment, **(env or {})},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """nitro-cli, to its end."""
        with self.start(*arguments, env=env) as process:
            out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)

    def launch(self, *more: str | Path, memory: int = 1024, cpus: int = 2) -> dict[str, Any]:
        """An enclave of the image, by nitro-cli itself."""
        arguments = ("--eif-path", self.eif, "--memory", str(memory), "--cpu-count", str(cpus))
        ran = self.run("run-enclave", *arguments, *more)
        assert ran.status == 0, ran.err
        value, _ = json.JSONDecoder().raw_decode(ran.out)
        assert isinstance(value, dict)
        return value

    def daemons(self) -> list[int]:
        """The processes that hold something of this host: enclave processes, and the payloads in them."""
        program, inside = os.fsencode(self.program), self.place.held
        return [pid for pid, line, cwd in _processes() if program in line or cwd.is_relative_to(inside)]

    def guests(self) -> list[int]:
        """The payloads in its enclaves, by who started them: a sandbox hides the folder that they are in."""
        starters = {os.getpid(), *self.daemons()}
        found = [(pid, _PARENT.search(line)) for pid, line, _ in _processes()]
        return [pid for pid, parent in found if parent and int(parent[1]) in starters]

    def end_guests(self) -> None:
        """Every enclave ends by itself: its payload is gone."""
        _kill(self.guests())

    def prints(self, text: str) -> None:
        """Every debug-mode enclave prints a line."""
        with self.place.said.open("a") as file:
            file.write(text + "\n")

    @property
    def is_real(self) -> bool:
        """Whether its nitro-cli is AWS's own."""
        return False

    def enclaves(self) -> list[int]:
        """The CIDs that are in use."""
        from tests.nitro.fake.driver import holders

        return sorted(held.cid for held in holders(self.place))

    def end(self) -> list[int]:
        """Kill what is left; the processes that there were."""
        found = self.daemons()
        _kill(found)
        return found


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _processes() -> Iterator[tuple[int, bytes, Path]]:
    """Every process but this one that has not ended: its command line and its current folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found = (entry / "cmdline").read_bytes(), (entry / "cwd").readlink()
            except OSError:
                continue
            if not _is_zombie(entry):
                yield int(entry.name), *found


def _is_zombie(entry: Path) -> bool:
    try:
        return "State:\tZ" in (entry / "status").read_text()
    except OSError:
        return True


@contextmanager
def fake_host(home: Path, **settings: object) -> Iterator[FakeHost]:
    """A fake host in the folder ``home``; at the end nothing of it runs."""
    host = FakeHost(home)
    lay_out(host, **settings)
    host.program.write_text(_PROGRAM.format(python=sys.executable, root=str(_ROOT)))
    host.program.chmod(0o755)
    try:
        yield host
    finally:
        host.end()


def lay_out(host: FakeHost, **settings: object) -> None:
    """Make a host's folders, its root and its image."""
    home = host.home
    for name in ("bin", "run", "log", "vsock", "held", "tree", "images", "image/model"):
        (home / name).mkdir(parents=True)
    host.set(**settings)
    ensure_root(home / "root")
    (home / "root.pem").write_bytes((home / "root" / "certificate.pem").read_bytes())
    model = find_model(PACKAGED_ID, data_dir=home / "none")
    (home / "image" / "model" / "model.tflite").write_bytes(load_weights(model))
    (home / "image" / "model" / "model.json").write_bytes(model.card.to_json())
    write_image(host.eif)


def write_image(path: Path, tag: bytes = b"a", *, is_sealed: bool = False) -> None:
    """A small sound image, and its lock for the demo model beside it; another ``tag``, another PCR2.

    With ``is_sealed`` it is a runtime without weights.
    """
    model = find_model(PACKAGED_ID, data_dir=path.parent)
    card = {} if is_sealed else {"rootfs/app/enclave_payload/model/model.json": model.card.to_json()}
    register = {} if is_sealed else {MODEL_REGISTER: model_register(model.card.to_json()).hex()}
    spec = ImageSpec(
        kernel=samples.stream(samples.bzimage()),
        cmdline=samples.CMDLINE.decode(),
        ramdisks=(samples.stream(samples.cpio(b"i")), samples.stream(samples.cpio(tag, card))),
        metadata=samples.METADATA,
        arch=Arch.X86_64,
    )
    measurements = build_image(spec, path)
    data = path.read_bytes()
    lock = Lock(
        eif={"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)},
        pcrs={**measurements.registers(), **register},
        mode="reproducible",
        image={"id": "sha256:" + "0" * 64, "base": {}},
        model=None if is_sealed else {"id": model.card.model_id, "sha256": model.card.sha256},
        # By which an image of the payload without weights is known.
        wheels=(_WHEEL,) if is_sealed else (),
        blobs={},
        tools={"builder": "native"},
        findings=(),
        allowed={},
    )
    (path.parent / LOCK_NAME).write_bytes(lock.to_bytes())
