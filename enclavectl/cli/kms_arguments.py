"""Arguments of the commands about key policies, and the values that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.kms import KeyPolicy, parse_key_policy
from enclavectl.kms.key_policy import MAX_KEY_POLICY_BYTES
from enclavectl.kms.reader import MAX_READABLE_BYTES

KeyPolicyPath = Annotated[
    Path, typer.Argument(metavar="FILE", help="A key policy: JSON, as PutKeyPolicy takes it.")
]
Context = Annotated[
    list[str] | None,
    typer.Option(
        "--context", metavar="NAME=VALUE", help="A pair of the encryption context; may be repeated."
    ),
]
Parents = Annotated[
    list[str] | None,
    typer.Option(
        "--parent", metavar="ARN", help="A role of the operator, which asks for the enclave; may be repeated."
    ),
]
KeyArn = Annotated[
    str | None,
    typer.Option("--key", metavar="ARN", help="The ARN of the key that has, or will have, this policy."),
]


def read_key_policy(path: Path, *, limit: int = MAX_KEY_POLICY_BYTES) -> KeyPolicy:
    """Read a key policy of at most ``limit`` bytes.

    Raises:
        UsageError: it cannot be read, or is no key policy.
    """
    # Up to what any reader takes, so that the reader of policies says what is too long for this one.
    hint = "enclavectl policy kms writes one"
    data = read_bounded(path, MAX_READABLE_BYTES, what="key policy", hint_if_missing=hint)
    return parse_key_policy(data, source=str(path), limit=limit)


def parse_pairs(option: str, values: Sequence[str], *, example: str = "model=demo-lesion") -> dict[str, str]:
    """Read the values of an option that takes NAME=VALUE, such as ``example``.

    Raises:
        UsageError: a value has another form, or a name is given twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, sign, rest = value.partition("=")
        if not sign or not name:
            raise UsageError(
                f"{option}: expected NAME=VALUE, found {value!r:.80}",
                hint=f"such as {option} {example}",
            )
        if name in found:
            raise UsageError(f"{option}: {name} is given twice")
        found[name] = rest
    return found
