"""``enclavectl eif sign``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.image_files import ImageFile, progress
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.output_files import require_image_or_new
from enclavectl.cli.signing import read_signer
from enclavectl.eif.errors import naming
from enclavectl.eif.sign import sign_image
from enclavectl.errors import UsageError
from enclavectl.files import require_output

SIGN_SCHEMA = "enclavectl.eif-sign/1"

PrivateKey = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", help="Private key: PEM, EC P-256, P-384 or P-521, no password."),
]
Certificate = Annotated[
    Path, typer.Option("--cert", metavar="FILE", help="The certificate that belongs to it: PEM.")
]
SignedImage = Annotated[
    Path, typer.Option("--to", metavar="FILE", help="The signed image; never the same file.")
]


def sign(
    file: ImageFile,
    key: PrivateKey,
    certificate: Certificate,
    signed: SignedImage,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write a signed copy of an image.

    The new signature replaces any that the image has. PCR0, PCR1 and PCR2 stay as they are; PCR8 becomes that
    of the certificate. Keys in KMS: enclavectl build --sign.

    Examples:
      enclavectl eif sign app.eif --key k.pem --cert c.pem --to new.eif  a copy
      enclavectl eif verify new.eif                                      check it
    """
    if str(key).startswith("arn:"):
        raise UsageError(
            "--key: expected a PEM file, found an ARN; only nitro-cli can use a key in KMS",
            hint="enclavectl build --sign ARN --cert CERT signs with it, through nitro-cli",
        )
    screen = screen_for(output)
    require_output("--to", signed)
    require_image_or_new("--to", signed)
    signer = read_signer(key, certificate)
    with naming(file), progress(screen, "signing", file) as on_bytes:
        measurements = sign_image(file, signed, signer, on_bytes=on_bytes)
    if screen.as_json:
        screen.result({"schema": SIGN_SCHEMA, "file": str(signed), "pcrs": measurements.registers()})
    else:
        screen.facts([("signed", str(signed)), *measurements.registers().items()])
