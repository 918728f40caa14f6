"""Real parts: what only BuildKit builds, and that the payload is the same image without it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from enclavectl.eif.ramdisk.cpio import CpioReader
from tests.image.engine import APP, BASE_IMAGE, Lane, own_image

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

HEREDOCS = """FROM scratch
COPY app /bin/sh
COPY --chmod=755 <<EOF /bin/app
#!/bin/sh
exec /bin/sleep 9
EOF
COPY --link file.txt /linked
CMD ["/bin/app"]
"""


def files_of(lane: Lane, folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of each file in the image that was built."""
    assert lane.run("eif", "extract", folder / "enclave.eif", "--to", folder / "parts").status == 0
    with (folder / "parts" / "ramdisk1.cpio").open("rb") as file:
        reader = CpioReader(file)
        return {entry.name.decode(): (entry.mode & 0o7777, b"".join(reader.data())) for entry in reader}


def test_heredocs_and_flags_are_built_as_docker_build_does(lane: Lane, tmp_path: Path) -> None:
    context = own_image(tmp_path, HEREDOCS, **{"file.txt": b"file", "app": APP})
    done = lane.build(tmp_path, "--dockerfile", context)
    assert done.status == 0, done.err
    script = (0o755, b"#!/bin/sh\nexec /bin/sleep 9\n")
    assert files_of(lane, tmp_path)["rootfs/bin/app"] == script


def test_a_step_that_is_a_heredoc_runs(lane: Lane, tmp_path: Path) -> None:
    text = (
        f"FROM {BASE_IMAGE} AS tree\nARG TARGETARCH\nRUN <<EOF\n"
        'echo "one for $TARGETARCH" >/one\nEOF\n'
        'FROM scratch\nCOPY --from=tree --chmod=755 /one /one\nCOPY app /app\nCMD ["/app"]\n'
    )
    done = lane.build(tmp_path, "--dockerfile", own_image(tmp_path, text, app=APP))
    assert done.status == 0, done.err
    machine = {"x86_64": b"amd64", "aarch64": b"arm64"}[os.uname().machine]
    assert files_of(lane, tmp_path)["rootfs/one"] == (0o755, b"one for " + machine + b"\n")


def test_a_checksum_is_never_dropped(lane: Lane, tmp_path: Path) -> None:
    """For a file of the context only newer frontends look at it, and older ones refuse it."""
    text = f'FROM scratch\nADD --checksum=sha256:{"0" * 64} app /app\nCMD ["/app"]\n'
    done = lane.build(tmp_path, "--dockerfile", own_image(tmp_path, text, app=APP))
    assert done.status == 3
    assert done.error()["code"] == "docker-build"
    assert "checksum" in str(done.error()["message"])
    assert {path.name for path in tmp_path.iterdir()} == {"context"}


def test_without_the_docker_command_they_are_refused_by_name(lane: Lane, tmp_path: Path) -> None:
    context = own_image(tmp_path, HEREDOCS, **{"file.txt": b"file", "app": APP})
    without = Lane(lane.home, {**lane.environ, "PATH": str(tmp_path)})
    for dry in ([], ["--dry-run"]):
        done = without.build(tmp_path, "--dockerfile", context, *dry)
        assert done.status == 2
        assert done.error()["code"] == "needs-buildkit"
        for words in ("line 3: COPY with a heredoc", "with --chmod", "with --link"):
            assert words in str(done.error()["message"])


def test_a_negated_class_keeps_patients_out_of_the_image(lane: Lane, tmp_path: Path) -> None:
    ignored = b"[^a]*.csv\nDockerfile\n.dockerignore\n"
    files = {"a.csv": b"a", "patients.csv": b"p", ".dockerignore": ignored, "app": APP}
    text = 'FROM scratch\nCOPY . /ctx/\nCMD ["/ctx/app"]\n'
    context = own_image(tmp_path, text, **files)
    done = lane.build(tmp_path, "--dockerfile", context)
    assert done.status == 0, done.err
    sent = {name for name in files_of(lane, tmp_path) if name.startswith("rootfs/ctx/")}
    assert sent == {"rootfs/ctx/a.csv", "rootfs/ctx/app"}


@pytest.mark.parametrize("ignored", [b"", b"Dockerfile\n"], ids=["all-sent", "dockerfile-ignored"])
def test_a_changed_file_of_the_same_size_is_in_the_next_image(
    lane: Lane, tmp_path: Path, ignored: bytes
) -> None:
    """BuildKit tells the files of a folder apart by size and time only."""
    text = 'FROM scratch\nCOPY app data /\nCMD ["/app"]\n'
    for content in (b"one", b"two"):
        folder = tmp_path / content.decode()
        folder.mkdir()
        context = own_image(folder, text, app=APP, data=content, **{".dockerignore": ignored})
        done = lane.build(folder, "--dockerfile", context)
        assert done.status == 0, done.err
        assert files_of(lane, folder)["rootfs/data"][1] == content


def test_the_payload_measures_the_same_with_either_builder(lane: Lane, payload: Path, tmp_path: Path) -> None:
    built = {"classic": Lane(lane.home, {**lane.environ, "PATH": str(tmp_path)}), "buildkit": lane}
    for name, by in built.items():
        (tmp_path / name).mkdir()
        shutil.copy(payload / "enclavectl.lock.json", tmp_path / name)
        done = by.build(tmp_path / name, "--base-image", BASE_IMAGE)
        assert done.status == 0, done.err
        assert f'"docker-builder": "{name}"' in (tmp_path / name / "enclavectl.lock.json").read_text()
        assert (tmp_path / name / "enclave.eif").read_bytes() == (payload / "enclave.eif").read_bytes()
