"""Images and signing files on the disk, and ``enclavectl eif`` about them."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.eif.format import SectionKind
from enclavectl.eif.ramdisk.cpio import TRAILER, CpioEntry, CpioWriter
from tests.cli.command import Done, enclavectl
from tests.eif import samples

MODEL = b"rootfs/app/model.tflite"


def ramdisk(files: dict[bytes, bytes], *, mtime: int = 0) -> bytes:
    sink = io.BytesIO()
    writer = CpioWriter(sink)
    for ino, (name, data) in enumerate(files.items()):
        entry = CpioEntry(name=name, ino=ino, mode=0o100644, mtime=mtime, size=len(data))
        writer.add(entry, [data])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    return sink.getvalue()


def write_image(path: Path, *, model: bytes = b"weights", mtime: int = 0) -> Path:
    parts = samples.sections(ramdisks=1)
    parts.append((SectionKind.RAMDISK, ramdisk({b"cmd": b"/app\n", MODEL: model}, mtime=mtime)))
    path.write_bytes(samples.image(parts))
    return path


def eif(tmp_path: Path, *arguments: object) -> Done:
    return enclavectl("eif", *arguments, "--output", "json", home=tmp_path)


def signing_files(folder: Path, *, days: int = 30) -> list[object]:
    key = ec.generate_private_key(ec.SECP384R1())
    start = datetime.now(UTC) - timedelta(days=10)
    (folder / "key.pem").write_bytes(samples.key_pem(key))
    (folder / "cert.pem").write_bytes(samples.certificate(key, start=start, days=days))
    return ["--key", folder / "key.pem", "--cert", folder / "cert.pem"]
