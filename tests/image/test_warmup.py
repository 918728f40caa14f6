"""The round that each image must survive, here on the payload as a context has it, without an image."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from enclavectl.image.context import payload_context, write_context
from enclavectl.image.wheels import WheelStore
from enclavectl.models.find import PACKAGED_ID, find_model


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return context_in(tmp_path_factory.mktemp("context"), is_sealed=False)


def context_in(folder: Path, *, is_sealed: bool) -> Path:
    model = find_model(PACKAGED_ID, data_dir=folder)
    store = WheelStore(folder=folder, environ={})
    archive = io.BytesIO()
    write_context(payload_context(model, [], store, is_sealed=is_sealed), archive)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        # Not the argument, which Python 3.11 has only from 3.11.4 on; later ones warn where none is named.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)
    return folder


def warm_up(context: Path, *absent: str) -> subprocess.CompletedProcess[str]:
    """One round in which the ``absent`` modules, and clients' own, cannot be imported."""
    absent += ("cbor2",)
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(context)!r}); sys.modules |= dict.fromkeys({absent!r}); "
        f"runpy.run_path({str(context / 'warmup.py')!r}, run_name='__main__')"
    )
    argv = [sys.executable, "-I", "-B", "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)


def test_the_payload_passes(context: Path) -> None:
    done = warm_up(context)
    assert done.returncode == 0, done.stderr


def test_a_runtime_without_weights_passes_and_has_none(tmp_path: Path) -> None:
    context = context_in(tmp_path, is_sealed=True)
    (mark,) = (context / "enclave_payload" / "model").iterdir()
    assert (mark.name, mark.read_bytes()) == ("sealed", b"sealed\n")
    done = warm_up(context)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("PIL._webp", "WEBP"),  # imported with its plugin, which then has no decoder
        ("PIL.TiffTags", "TiffTags"),  # imported with the payload
        ("PIL.ImageFile", "ImageFile"),
        ("PIL.PngImagePlugin", "PngImagePlugin"),
        ("isal.isal_zlib", "isal_zlib"),
    ],
)
def test_what_is_missing_ends_the_build(context: Path, module: str, what: str) -> None:
    done = warm_up(context, module)
    assert done.returncode == 1
    assert what in done.stderr


def test_a_change_of_what_the_payload_answers_ends_the_build(context: Path, tmp_path: Path) -> None:
    """Such as a picture that is read on this machine and not in the image."""
    broken = tmp_path / "context"
    broken.mkdir()
    (broken / "warmup.py").write_bytes((context / "warmup.py").read_bytes())
    (broken / "enclave_payload").mkdir()
    for path in (context / "enclave_payload").glob("*.py"):
        text = path.read_text().replace("raise PictureError(Problem.MORE_THAN_ONE_FRAME)", "pass")
        (broken / "enclave_payload" / path.name).write_text(text)
    (broken / "enclave_payload" / "model").symlink_to(context / "enclave_payload" / "model")
    done = warm_up(broken)
    assert done.returncode == 1
    assert "film: expected more-than-one-frame, found None" in done.stderr
