"""``enclavectl model seal``, and ``model show`` of a sealed file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli.invocation import begin
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.errors import UsageError
from enclavectl.files import open_regular, read_chunks
from enclavectl.models.find import find_model
from enclavectl.weights.key_file import write_key
from enclavectl.weights.sealed_file import SEALED_SUFFIX, is_sealed_path, read_sealed, seal_model

if TYPE_CHECKING:
    from enclave_payload.cbor import Value
    from enclavectl.cli.screen import Screen
    from enclavectl.weights.sealed_file import SealedFile

SEAL_SCHEMA = "enclavectl.model-seal/1"
SHOW_SCHEMA = "enclavectl.model-sealed/1"
_KEY_BYTES = 32
_FILE_ID_BYTES = 16

ModelToSeal = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's id or card.", show_default=False)
]
SealedOutput = Annotated[
    Path, typer.Option("--to", metavar="FILE.sealed", help="The sealed model; its key is written beside it.")
]
OwnerHint = Annotated[
    str | None,
    typer.Option(
        "--owner",
        metavar="ADDRESS",
        help="Where model release --listen waits: a hint in the file, in the clear.",
        show_default=False,
    ),
]
KmsKeyArn = Annotated[
    str | None,
    typer.Option(
        "--kms-key",
        metavar="ARN",
        help="Let this key of AWS KMS release it as well; calls kms:Encrypt with your credentials.",
        show_default=False,
    ),
]
KmsContext = Annotated[
    list[str] | None,
    typer.Option(
        "--kms-context",
        metavar="NAME=VALUE",
        help="One more pair of the encryption context, in the clear; may be repeated.",
        show_default=False,
    ),
]
KmsLease = Annotated[
    str | None,
    typer.Option(
        "--lease",
        metavar="TIME",
        help="With --kms-key: how long an enclave may serve, such as 24h; then it ends itself.",
        show_default=False,
    ),
]


def seal(
    model: ModelToSeal,
    to: SealedOutput,
    owner: OwnerHint = None,
    kms_key: KmsKeyArn = None,
    kms_context: KmsContext = None,
    lease: KmsLease = None,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Encrypt a model's weights into a file that only attested enclaves open.

    Writes FILE.sealed, for the operator, and FILE.key (mode 0600), which stays with the model's owner. Prints
    PCR16, which names the model in every policy. An old key file is never overwritten.

    Examples:
      enclavectl model seal demo-lesion --to demo.sealed               and demo.key
      enclavectl model seal ./m --to m.sealed --kms-key arn:aws:kms:.. or KMS
    """
    from enclavectl.cli.lease import parse_lease  # noqa: PLC0415 - beside its option

    screen = begin(output, config, {}).screen
    if not is_sealed_path(to.name):
        raise UsageError(f"--to: expected a name that ends in {SEALED_SUFFIX}, found {to.name!r:.80}")
    if kms_key is None and (kms_context or lease):
        raise UsageError(
            "--kms-context and --lease: expected --kms-key as well",
            hint="model release --lease sets the lease of a release by the owner",
        )
    key_path = to.with_suffix(".key")
    if key_path.exists():
        raise UsageError(
            f"{key_path}: expected nothing there, found the key of another sealed file",
            hint="move it away if that file is still in use; otherwise remove it",
        )
    found = find_model(model, data_dir=begin(output, config, {"model": model}).config.data_dir)
    key, file_id = os.urandom(_KEY_BYTES), os.urandom(_FILE_ID_BYTES)
    release: dict[int | str, Value] = {} if owner is None else {"owner": owner}
    if kms_key is not None:
        release["kms"] = _kms_release(kms_key, kms_context or [], key, file_id, found.card.model_id)
        if lease is not None:
            release["lease_s"] = parse_lease(lease)
    sealed, secret = seal_model(found, to, key=key, release=release, file_id=file_id)
    try:
        write_key(key_path, secret)
    except BaseException:
        to.unlink(missing_ok=True)  # nobody could ever open it
        raise
    if screen.as_json:
        screen.result({"schema": SEAL_SCHEMA, **sealed_json(sealed), "key_file": str(key_path)})
        return
    screen.facts([*_facts(sealed), ("key", f"{key_path} (secret: it stays with the model's owner)")])


def _kms_release(
    arn: str, pairs: list[str], key: bytes, file_id: bytes, model_id: str
) -> dict[int | str, Value]:
    from enclavectl.cli.kms_arguments import parse_pairs  # noqa: PLC0415 - few seal for KMS
    from enclavectl.weights.credentials import find_credentials  # noqa: PLC0415 - see above
    from enclavectl.weights.kms_call import Kms, parse_key_arn  # noqa: PLC0415 - see above

    context = {
        **parse_pairs("--kms-context", pairs),
        "enclavectl:file": file_id.hex(),
        "enclavectl:model": model_id,
    }
    parsed = parse_key_arn(arn)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_KMS") or parsed.endpoint
    kms = Kms(key=parsed, credentials=find_credentials(os.environ), endpoint=endpoint)
    texts: dict[int | str, Value] = dict(context)
    return {"key": arn, "blob": kms.encrypt(key, context), "context": texts}


def show_sealed(screen: Screen, path: Path) -> None:
    """Show a sealed file's header; no key is needed, and the chunks are not opened."""
    sealed = read_sealed(path)
    if screen.as_json:
        screen.result({"schema": SHOW_SCHEMA, **sealed_json(sealed)})
    else:
        screen.facts(_facts(sealed))


def sealed_json(sealed: SealedFile) -> dict[str, object]:
    """Return the facts of a sealed file."""
    kms = sealed.header.release.get("kms")
    return {
        "file": str(sealed.path),
        "file_id": sealed.header.file_id.hex(),
        "sha256": _sha256(sealed.path),
        "model": {"id": sealed.card.model_id, "sha256": sealed.card.sha256},
        "labels": [{"code": label.code, "name": label.name} for label in sealed.card.labels],
        "notice": sealed.card.notice,
        "weights_bytes": sealed.header.size,
        "pcr16": sealed.register.hex(),
        "owner": sealed.owner,
        "kms": {"key": kms.get("key"), "context": kms.get("context")} if isinstance(kms, dict) else None,
        "lease_s": sealed.header.lease_s,
    }


def _facts(sealed: SealedFile) -> list[tuple[str, str]]:
    value = sealed_json(sealed)
    rows = [
        ("sealed", f"{sealed.path} ({sealed.header.size:,} bytes of weights)"),
        ("file", str(value["file_id"])),
        ("SHA-256", str(value["sha256"])),
        ("model", f"{sealed.card.model_id}, weights {sealed.card.sha256}"),
        ("PCR16", sealed.register.hex()),
    ]
    if sealed.owner is not None:
        rows.append(("owner", sealed.owner))
    if isinstance(kms := sealed.header.release.get("kms"), dict):
        rows.append(("KMS key", str(kms.get("key"))))
        if isinstance(context := kms.get("context"), dict):
            rows += [(f"context {name}", str(text)) for name, text in context.items()]
    if sealed.header.lease_s is not None:
        rows.append(("lease", f"{sealed.header.lease_s} s after a release by KMS"))
    return rows


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path, what="sealed model") as file:
        for chunk in read_chunks(file):
            digest.update(chunk)
    return digest.hexdigest()
