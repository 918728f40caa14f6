"""What somebody with the evidence, a policy and the picture reads, in a container that has nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, Done
from tests.e2e.cli import Cli, sample

# Where Python, its libraries and the installed command are; nothing else is in the container.
_PROGRAMS = ("/usr", "/bin", "/lib", "/lib64", sys.prefix, sys.base_prefix, Path(__file__).parents[2])
_ALONE = ("unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork")
_CONTAINER = """
set -eu
root=$1; shift
mount -t tmpfs none "$root"
while [ "$1" != -- ]; do
  mkdir -p "$root$(dirname "$1")"
  if [ -L "$1" ]; then cp -P "$1" "$root$1"
  elif [ -d "$1" ]; then mkdir -p "$root$1"; mount --rbind "$1" "$root$1"
  fi
  shift
done
shift
mkdir "$root/case"
mount --bind . "$root/case"
exec chroot "$root" /bin/sh -c 'cd /case && exec "$@"' sh "$@"
"""


@pytest.fixture(scope="module")
def case(shared: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that a hospital's auditor has."""
    folder = tmp_path_factory.mktemp("case")
    keep = ("--evidence", folder / "evidence.json", "--include-statements")
    shared.ok("diagnose", *keep, sample("bcc"))
    shared.ok("describe", "shared", "--policy-file", folder / "policy.yaml")
    shutil.copy(sample("bcc"), folder / "picture.png")
    shutil.copy(shared.root, folder / "root.pem")  # of a simulated enclave; AWS's is in the package
    return folder


def verify_alone(case: Path, container: Path, *arguments: str) -> Done:
    """Run ``verify`` without a network, a home, or any file but those of the case."""
    programs = [str(path) for path in _PROGRAMS if Path(path).exists()]
    container.mkdir()
    enter = [*_ALONE, "sh", "-c", _CONTAINER, "sh", str(container), *programs, "--"]
    done = subprocess.run(
        [*enter, str(COMMAND), "verify", "evidence.json", *arguments],
        cwd=case,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


def test_code_model_and_answer_are_read_in_an_empty_container_without_network(
    case: Path, tmp_path: Path
) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare of util-linux is not installed here")
    allowed = subprocess.run([*_ALONE, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"this machine allows no namespaces: {allowed.stderr.decode().strip()}")
    judge = ("--policy", "policy.yaml", "--root", "root.pem", "--at", "document")
    done = verify_alone(case, tmp_path / "first", *judge, "--picture", "picture.png")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("VERIFIED (trust simulated)")
    for words in (
        "shared as started, valid at",  # the code
        "pinned by PCR16; the attested card names demo-lesion",
        "a signed receipt of demo-lesion; 1 with the answer",
        "basal cell carcinoma",
        "freshness was not checked",
        "does not prove",
    ):
        assert words.lower() in done.out.lower()
    other = case / "other.png"
    picture = bytearray((case / "picture.png").read_bytes())
    picture[len(picture) // 2] ^= 1
    other.write_bytes(picture)
    refused = verify_alone(case, tmp_path / "second", *judge, "--picture", "other.png", "-o", "json")
    assert (refused.status, refused.json()["error"]["code"]) == (4, "picture-mismatch")
