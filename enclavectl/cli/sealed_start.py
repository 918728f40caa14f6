"""The start of an enclave without weights: what `run --model FILE.sealed --release SOURCE` means."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.base import SealedModel
from enclavectl.errors import UsageError

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, RunningEnclave
    from enclavectl.cli.invocation import Invocation
    from enclavectl.cli.network_options import NetworkFlags
    from enclavectl.net.access import Access
    from enclavectl.weights.bringing import KeySource
    from enclavectl.weights.sealed_file import SealedFile

_SUFFIX = ".sealed"
_FILE = "file:"
_OWNER = "--release tls:HOST:PORT as well"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedStart:
    """A sealed model and whence its key comes, as the command line has them."""

    sealed: SealedFile
    release: str | None
    access: Access

    @property
    def model(self) -> SealedModel:
        """The model as a backend starts it."""
        return SealedModel(card=self.sealed.card)


def parse(model: str | None, release: str | None, network: NetworkFlags, *, wait: bool) -> SealedStart | None:
    """Read the sealed model, if one is meant.

    Raises:
        UsageError: the file cannot be used, or the options contradict each other.
    """
    if model is None or not model.endswith(_SUFFIX):
        if release is not None:
            raise UsageError(
                "--release: expected a sealed model as well: --model FILE.sealed",
                hint="enclavectl model seal writes one; other models need no key",
            )
        network.read(None, needs=_OWNER)
        return None
    from enclavectl.weights.sealed_file import read_sealed  # noqa: PLC0415 - few models are sealed

    if not wait:
        raise UsageError(
            "--no-wait: expected --wait with a sealed model: this command brings the weights",
            hint="leave --no-wait out",
        )
    sealed = read_sealed(Path(model))
    is_owner = release is not None and release != "kms" and not release.startswith(_FILE)
    check_for_kms(sealed, release)
    return SealedStart(
        sealed=sealed, release=release, access=network.read(release if is_owner else None, needs=_OWNER)
    )


def check_for_kms(sealed: SealedFile, release: str | None) -> None:
    """Check that KMS can release the key of a sealed file, if ``release`` means KMS.

    Raises:
        UsageError: its owner did not seal it for KMS.
    """
    if release == "kms" and "kms" not in sealed.header.release:
        raise UsageError(
            f"--release kms: {sealed.path} was not sealed for KMS",
            hint="its owner runs: enclavectl model seal MODEL --to FILE.sealed --kms-key ARN",
        )


def bring(invocation: Invocation, backend: Backend, running: RunningEnclave, start: SealedStart) -> None:
    """Bring the model to an enclave that this command has started.

    Raises:
        EnclavectlError: it does not get its key, or cannot serve.
    """
    from enclavectl.targets.session import explain_boot_failure  # noqa: PLC0415 - loaded while it boots
    from enclavectl.weights.bringing import bring_model  # noqa: PLC0415 - see above
    from enclavectl.weights.release_port import release_address  # noqa: PLC0415 - see above

    screen = invocation.screen
    address = release_address(running.enclave.address)
    source = _source(invocation, backend, running, start)
    if start.release is None:
        screen.note(f"waiting for the model's owner: enclavectl model release FILE.key --to {address}")
    with explain_boot_failure(backend, running):
        bring_model(
            address,
            start.sealed,
            source,
            screen,
            boot_s=running.boot_grace_s,
            is_alive=running.is_alive,
        )


def _source(
    invocation: Invocation, backend: Backend, running: RunningEnclave, start: SealedStart
) -> KeySource:
    from enclavectl.weights import bringing  # noqa: PLC0415 - see above

    release = start.release
    if release is None:
        return bringing.OwnerDials()
    if release == "kms":
        return _kms(start.sealed, invocation.config.state_dir / "kms-refused.document")
    if release.startswith(_FILE):
        return _key_in_file(invocation, backend, running, start.sealed, Path(release.removeprefix(_FILE)))
    from enclavectl.net.address import is_network, parse_address  # noqa: PLC0415 - see above

    address = parse_address(release)
    if not is_network(address):
        raise UsageError(f"--release: expected tls:HOST:PORT, kms or file:FILE.key, found {release!r:.80}")
    return bringing.OwnerService(address=address, access=start.access)


def _key_in_file(
    invocation: Invocation, backend: Backend, running: RunningEnclave, sealed: SealedFile, path: Path
) -> KeySource:
    from enclavectl.targets.verification import expectation_of, verification_options  # noqa: PLC0415 - see above
    from enclavectl.weights.bringing import KeyInFile  # noqa: PLC0415 - see above
    from enclavectl.weights.key_file import read_key  # noqa: PLC0415 - see above
    from enclavectl.weights.owner import ReleaseTerms  # noqa: PLC0415 - see above

    if backend.name == "nitro":
        raise UsageError(
            "--release file: is for trials on backends local and qemu: on a real parent the key would lie "
            "beside the sealed weights",
            hint="let the model's owner release it: --release tls:HOST:PORT, or kms",
        )
    key, enclave = read_key(path), running.enclave
    if key.file_id != sealed.header.file_id:
        raise UsageError(
            f"{path}: expected the key of file {sealed.header.file_id.hex()}, found "
            f"one of {key.file_id.hex()}",
            hint="each sealed file has a key of its own; enclavectl model show FILE.sealed names the file",
            code="other-file",
        )
    options = replace(verification_options(invocation.config, allow_debug=enclave.debug), policy=None)

    def terms() -> ReleaseTerms:
        expectation = expectation_of(backend, lambda: [enclave], options)
        return ReleaseTerms(expectation=replace(expectation, module_id=enclave.module_id), lease_s=None)

    return KeyInFile(key=key, terms=terms)


def _kms(sealed: SealedFile, refused: Path) -> KeySource:
    from enclavectl.weights.bringing import KmsRelease  # noqa: PLC0415 - see above
    from enclavectl.weights.kms_call import kms_for  # noqa: PLC0415 - see above

    match sealed.header.release.get("kms"):
        case {"key": str(arn), "blob": bytes(blob), "context": dict(context)} if all(
            isinstance(name, str) and isinstance(value, str) for name, value in context.items()
        ):
            return KmsRelease(
                kms=kms_for(arn, os.environ),
                blob=blob,
                context={str(name): str(value) for name, value in context.items()},
                refused=refused,
            )
    raise UsageError(f"{sealed.path}: expected key, blob and context for KMS in its header", code="header")
