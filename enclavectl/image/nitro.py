"""The other builder: ``nitro-cli build-enclave``, where it is installed.

Its traps are dealt with here: it truncates the output before it looks at anything, so it writes to a scratch
folder; builds of one user overwrite each other's ramdisks unless each has its own artifacts folder; and old
releases leave an image unsigned without a word, so PCR8 is looked for.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enclavectl.eif.examine import read_image
from enclavectl.eif.measure import Measurements
from enclavectl.errors import HostError
from enclavectl.files import open_regular
from enclavectl.run import Command, capture

_TIMEOUT_S = 1800
# https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.4.2/docs/ and its sources: what it reads.
_PASSED_ON = ("HOME", "PATH", "DOCKER_HOST", "NITRO_CLI_BLOBS", "NITRO_CLI_LOGS_PATH", "TMPDIR")
_KMS = re.compile(r"(AWS_.*|(https?|no)_proxy)", re.IGNORECASE)
_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:key[:/][A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroSigning:
    """With what nitro-cli signs, if with anything: a path or a KMS ARN, and a certificate."""

    key: str | None = None
    certificate: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroBuild:
    """A ``nitro-cli build-enclave`` of a local Docker image; ``key`` is a path or the ARN of a KMS key."""

    image: str
    output: Path
    blobs: Path | None = None
    key: str | None = None
    certificate: Path | None = None

    def to_argv(self, program: str, output: Path) -> list[str]:
        """The command line, writing to ``output``."""
        argv = [program, "build-enclave", "--docker-uri", self.image, "--output-file", str(output)]
        if self.key is not None and self.certificate is not None:
            argv += ["--private-key", self.key, "--signing-certificate", str(self.certificate)]
        return argv


def is_kms_key(key: str) -> bool:
    """Whether a signing key is the ARN of a KMS key, which nitro-cli can use and we cannot."""
    return _ARN.fullmatch(key) is not None


def find_nitro_cli(environ: Mapping[str, str]) -> str:
    """The path of nitro-cli.

    Raises:
        HostError: it is not installed.
    """
    found = shutil.which("nitro-cli", path=environ.get("PATH"))
    if found is None:
        raise HostError(
            "nitro-cli is not on the PATH",
            hint="enclavectl build --builder native gives the same PCRs with --mode nitro-cli",
            code="nitro-cli-missing",
        )
    return found


def build_with_nitro_cli(build: NitroBuild, environ: Mapping[str, str]) -> Measurements:
    """``build.output`` is what nitro-cli built, read back by our strict reader; or what it was before.

    Raises:
        HostError: nitro-cli is missing or failed, left the image unsigned, or printed other PCRs.
        EifError: what it wrote is not sound.
    """
    program = find_nitro_cli(environ)
    environment = {key: environ[key] for key in _PASSED_ON if key in environ}
    environment |= {key: value for key, value in environ.items() if _KMS.fullmatch(key)}
    with tempfile.TemporaryDirectory(prefix=".enclavectl-", dir=build.output.parent) as scratch:
        folder = Path(scratch)
        output = folder / "built.eif"
        (folder / "artifacts").mkdir()
        environment |= {"NITRO_CLI_ARTIFACTS": str(folder / "artifacts"), "BACKTRACE": "1"}
        if build.blobs is not None:
            environment["NITRO_CLI_BLOBS"] = str(build.blobs)
        command = Command(argv=build.to_argv(program, output), cwd=folder, environment=environment)
        done = capture(command, timeout_s=_TIMEOUT_S)
        if done.status != 0:
            raise _error(done.status, done.err.decode(errors="replace"))
        with open_regular(output, what="image file") as file:
            measurements = read_image(file).measurements
        _compare(done.out.decode(errors="replace"), measurements)
        if build.key is not None and measurements.pcr8 is None:
            raise HostError(
                "nitro-cli left the image unsigned although it was given a key",
                hint="releases before 1.5.0 do that when the key cannot be read; see its log",
                code="nitro-cli-unsigned",
            )
        output.chmod(0o644)
        output.replace(build.output)
    return measurements


def _compare(printed: str, measurements: Measurements) -> None:
    start = printed.find("{")
    try:
        value, _ = json.JSONDecoder().raw_decode(printed[start:]) if start >= 0 else ({}, 0)
    except (ValueError, RecursionError):
        value = {}
    claimed = value.get("Measurements") if isinstance(value, dict) else None
    if not isinstance(claimed, dict):
        raise HostError(f"nitro-cli: expected its Measurements, found {printed[-200:]!r}", code="nitro-cli")
    for name, register in measurements.registers().items():
        if claimed.get(name) != register:
            raise HostError(
                f"nitro-cli printed {name} {claimed.get(name)}, its image measures {register}",
                hint="was the file changed meanwhile?",
                code="nitro-cli-pcrs",
            )


def _error(status: int, words: str) -> HostError:
    codes = re.findall(r"\[ (E[0-9]+) \]([^\n]*)", words)
    said = next((f"{code}{text}" for code, text in codes if code != "E39"), words.strip()[-300:])
    causes = [line.strip() for line in words.splitlines() if "Error" in line and "[ E" not in line]
    more = f" ({causes[-1][:200]})" if causes else ""
    return HostError(
        f"nitro-cli build-enclave failed with status {status}: {said.strip()}{more}", code="nitro-cli"
    )
