"""The other builder: ``nitro-cli build-enclave``, where it is installed.

This module avoids its traps. nitro-cli truncates the output before it checks its input, so it writes to a
scratch folder. Concurrent builds of one user overwrite each other's ramdisks, so each build has its own
artifacts folder. Old releases leave an image unsigned without an error, so the result must have PCR8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from enclavectl.eif.examine import Image, read_image
from enclavectl.eif.measure import Measurements
from enclavectl.eif.signature import verify_signature
from enclavectl.errors import HostError
from enclavectl.files import open_regular, replace_file
from enclavectl.image.scratch import scratch_folder
from enclavectl.json_object import JsonError
from enclavectl.nitro_cli.build_enclave import BuildEnclave, BuildInfo
from enclavectl.nitro_cli.environment import build_environment, find_nitro_cli
from enclavectl.nitro_cli.failure import read_error_log, read_failure
from enclavectl.nitro_cli.stream import one_object
from enclavectl.run import Command, capture

_TIMEOUT_S = 1800  # a build of a large image takes minutes; this ends one that hangs
_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:key[:/][A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroSigning:
    """The signing options of nitro-cli: a key (a path or a KMS ARN) and a certificate, or neither."""

    key: str | None = None
    certificate: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroBuild:
    """One ``nitro-cli build-enclave`` of a local Docker image; ``key`` is a path or the ARN of a KMS key."""

    image: str
    output: Path
    blobs: Path | None = None
    key: str | None = None
    certificate: Path | None = None


def is_kms_key(key: str) -> bool:
    """Return whether a signing key is the ARN of a KMS key; only nitro-cli can use one."""
    return _ARN.fullmatch(key) is not None


def build_with_nitro_cli(build: NitroBuild, environ: Mapping[str, str]) -> Measurements:
    """Build ``build.output`` with nitro-cli and read the result with our strict reader.

    On failure the file keeps its old content.

    Raises:
        HostError: nitro-cli is missing or failed, left the image unsigned, or printed other PCRs.
        EifError: the image that it wrote is not valid.
    """
    program = find_nitro_cli(environ)
    build = _absolute(build)
    environment = build_environment(environ, uses_kms=build.key is not None and is_kms_key(build.key))
    with scratch_folder(build.output.parent) as folder:
        output = folder / "built.eif"
        (folder / "artifacts").mkdir()
        environment["NITRO_CLI_ARTIFACTS"] = str(folder / "artifacts")
        if build.blobs is not None:
            environment["NITRO_CLI_BLOBS"] = str(build.blobs)
        elif "NITRO_CLI_BLOBS" in environment:
            environment["NITRO_CLI_BLOBS"] = str(Path(environment["NITRO_CLI_BLOBS"]).absolute())
        asked = BuildEnclave(image=build.image, output=output, key=build.key, certificate=build.certificate)
        command = Command(argv=[program, *asked.to_argv()], cwd=folder, environment=environment)
        done = capture(command, timeout_s=_TIMEOUT_S)
        if done.status != 0:
            raise read_failure(done, read_error_log).to_error("build-enclave")
        with open_regular(output, what="image file") as file:
            image = read_image(file)
        _compare(done.out, image.measurements)
        if build.key is not None:
            _verify(image)
        output.chmod(0o644)
        replace_file(output, build.output)
    return image.measurements


def _absolute(build: NitroBuild) -> NitroBuild:
    """Make every path absolute: nitro-cli runs in a folder of its own."""
    key = build.key
    if key is not None and not is_kms_key(key):
        key = str(Path(key).absolute())
    return replace(
        build,
        output=build.output.absolute(),
        blobs=build.blobs and build.blobs.absolute(),
        key=key,
        certificate=build.certificate and build.certificate.absolute(),
    )


def _verify(image: Image) -> None:
    """Check the signature: nitro-cli also signs with a key that is not the certificate's."""
    if image.signature is None:
        raise HostError(
            "nitro-cli left the image unsigned although it was given a key",
            hint="releases before 1.5.0 do that when the key cannot be read; see its log",
            code="nitro-cli-unsigned",
        )
    verify_signature(image.signature, pcr0=image.measurements.pcr0)


def _compare(printed: bytes, measurements: Measurements) -> None:
    try:
        claimed = BuildInfo.from_json(one_object(printed)).registers.values
    except JsonError as exc:
        raise HostError(f"nitro-cli build-enclave: {exc}", code="nitro-cli") from exc
    for name, register in measurements.registers().items():
        if claimed.get(name) != register:
            raise HostError(
                f"nitro-cli printed {name} {claimed.get(name)}, its image measures {register}",
                hint="was the file changed meanwhile?",
                code="nitro-cli-pcrs",
            )
