"""An image that ``enclavectl build`` makes of real parts: a kernel, our init, and the payload."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from enclavectl.models.find import PACKAGED_DIR
from tests.cli.command import Done, enclavectl
from tests.image.engine import BASE_IMAGE, docker_environment
from tests.image.guest import qemu_parts


@dataclass(frozen=True, slots=True)
class Builder:
    """A home with boot files, from which ``build`` makes images."""

    home: Path
    environ: dict[str, str]

    def build(self, folder: Path, *arguments: object) -> Path:
        """An image with its lock in a folder of its own."""
        folder.mkdir()
        outputs = ["--to", folder / "enclave.eif", "--lock", folder / "enclavectl.lock.json"]
        self.run("build", "--blobs", self.home / "blobs", "--base-image", BASE_IMAGE, *outputs, *arguments)
        return folder / "enclave.eif"

    def build_changed(self, folder: Path) -> Path:
        """The same image with the lowest bit of one number of the model changed."""
        model = self.home / f"{folder.name}-model"
        shutil.copytree(PACKAGED_DIR, model)
        old = (model / "model.tflite").read_bytes()
        new = bytearray(old)
        new[len(new) // 8 * 4] ^= 1
        (model / "model.tflite").write_bytes(new)
        card = (model / "model.yaml").read_text()
        named = card.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
        (model / "model.yaml").write_text(named)
        return self.build(folder, "--model", model)

    def run(self, *arguments: object) -> Done:
        """A command that succeeds."""
        done = enclavectl(*arguments, home=self.home, environ=self.environ, timeout_s=500)
        assert done.status == 0, done.err
        return done


def make_builder(home: Path) -> Builder:
    """Prepare the boot files of the QEMU lane's kernel; skips the test where a lane's part is absent."""
    parts, environ = qemu_parts(), dict(docker_environment())
    builder = Builder(home, environ)
    builder.run("kernel", "prepare", "--root", parts.kernel_root, "--to", home / "blobs")
    return builder


def qemu_program() -> Path:
    """The lane's QEMU; skips the test where there is none."""
    return qemu_parts().qemu
