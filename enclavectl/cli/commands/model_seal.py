"""``enclavectl model seal``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli.invocation import begin
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.cli.sealed_view import sealed_facts, sealed_json
from enclavectl.errors import UsageError
from enclavectl.files import require_output, status_at
from enclavectl.models.find import PACKAGED_DIR, find_model
from enclavectl.new_files import require_new
from enclavectl.run import hide_memory
from enclavectl.weights.key_file import write_key
from enclavectl.weights.sealed_file import SEALED_SUFFIX, is_sealed_path, seal_model

if TYPE_CHECKING:
    from enclave_payload.cbor import Value
    from enclavectl.cli.screen import Screen
    from enclavectl.models.weights import Model

SEAL_SCHEMA = "enclavectl.model-seal/1"
_KEY_BYTES = 32
_FILE_ID_BYTES = 16

ModelToSeal = Annotated[str, typer.Argument(metavar="MODEL", help="A model's id or card.")]
SealedOutput = Annotated[
    Path, typer.Option("--to", metavar="FILE.sealed", help="The sealed model; its key is written beside it.")
]
OwnerHint = Annotated[
    str | None,
    typer.Option(
        "--owner",
        metavar="ADDRESS",
        help="Where model release --listen waits: a hint in the file, in the clear.",
    ),
]
KmsKeyArn = Annotated[
    str | None,
    typer.Option(
        "--kms-key",
        metavar="ARN",
        help="Let this key of AWS KMS release it as well; calls kms:Encrypt with your credentials.",
    ),
]
KmsContext = Annotated[
    list[str] | None,
    typer.Option(
        "--kms-context",
        metavar="NAME=VALUE",
        help="One more pair of the encryption context, in the clear; may be repeated.",
    ),
]
KmsLease = Annotated[
    str | None,
    typer.Option(
        "--lease",
        metavar="TIME",
        help="With --kms-key: how long an enclave may serve, such as 24h; then it ends itself.",
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
    """Encrypt weights, for attested enclaves only.

    Writes FILE.sealed, for the operator, and FILE.key (mode 0600), which stays with the model's owner. Prints
    PCR16, which names the model in every policy. An old key file is never overwritten.

    Examples:
      enclavectl model seal demo-lesion --to m.sealed        writes m.key as well
      enclavectl model seal ./m --to m.sealed --kms-key ARN  for KMS as well
    """
    from enclavectl.cli.lease import parse_lease  # noqa: PLC0415 - beside its option

    invocation = begin(output, config, {"model": model})
    screen = invocation.screen
    if not is_sealed_path(to.name):
        raise UsageError(f"--to: expected a name that ends in {SEALED_SUFFIX}, found {to.name!r:.80}")
    if kms_key is None and (kms_context or lease):
        raise UsageError(
            "--kms-context and --lease: expected --kms-key as well",
            hint="model release --lease sets the lease of a release by the owner",
        )
    key_path = to.with_suffix(".key")
    if status_at(key_path) is not None:
        raise UsageError(
            f"{key_path}: expected nothing there, found the key of another sealed file",
            hint="move it away if that file is still in use; otherwise remove it",
        )
    require_new("--to", to)  # its key may be elsewhere
    require_output("--to", to)
    found = find_model(model, data_dir=invocation.config.data_dir)
    _check_serves(screen, found)
    hide_memory()  # from here on this process has the key
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
    screen.facts([*sealed_facts(sealed), ("key", f"{key_path} (secret: it stays with the model's owner)")])


def _check_serves(screen: Screen, model: Model) -> None:
    """Try the model: in an enclave its owner would learn of a misfit from the operator only."""
    if model.card_path.parent == PACKAGED_DIR:  # our tests probe the packaged model
        return
    from enclavectl.models.probe import OP_VERSION, probe  # noqa: PLC0415 - needs a runtime's modules

    try:
        probe(model)
    except UsageError as error:
        if error.code != OP_VERSION:
            raise
        screen.note(f"{error.message}; the image's runtime may be another one, so it is sealed all the same")


def _kms_release(
    arn: str, pairs: list[str], key: bytes, file_id: bytes, model_id: str
) -> dict[int | str, Value]:
    from enclavectl.cli.kms_arguments import parse_pairs  # noqa: PLC0415 - few seal for KMS
    from enclavectl.weights.kms_call import kms_for  # noqa: PLC0415 - see above

    context = {**parse_pairs("--kms-context", pairs), "file": file_id.hex(), "model": model_id}
    blob = kms_for(arn, os.environ).encrypt(key, context)
    return {"key": arn, "blob": blob, "context": dict(context.items())}
