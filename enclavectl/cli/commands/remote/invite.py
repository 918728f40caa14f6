"""``enclavectl remote invite``: what an operator hands to a data owner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.invocation import screen_for
from enclavectl.cli.network_options import NetworkFlags
from enclavectl.cli.options import AnotherRoot, Output, OutputFormat
from enclavectl.files import require_output, write_atomic
from enclavectl.new_files import require_own_or_new
from enclavectl.targets.invitation import INVITATION_BEGIN, render_invitation

INVITE_SCHEMA = "enclavectl.remote-invite/1"

GatewayAddress = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="The gateway, as the data owner reaches it: wss://HOST/v1.")
]
PolicyToSend = Annotated[
    Path, typer.Option("--policy", metavar="FILE", help="The releases that run behind the gateway.")
]
TokenToSend = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="For wss://: the data owner's token, from enclavectl gateway token add.",
    ),
]
CaToSend = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="The CA (PEM) of the gateway's certificate, if the data owner's system does not trust it.",
    ),
]
PinToSend = Annotated[
    str | None,
    typer.Option(
        "--tls-pin",
        metavar="sha256:DIGEST",
        help="The only key that the gateway's certificate may have (SHA-256 of its SPKI).",
    ),
]
WriteTo = Annotated[
    Path | None,
    typer.Option(
        "--write", metavar="FILE", help="Write it there, readable by you only, in place of standard output."
    ),
]


def invite(
    address: GatewayAddress,
    policy: PolicyToSend,
    token_file: TokenToSend = None,
    ca: CaToSend = None,
    tls_pin: PinToSend = None,
    root: AnotherRoot = None,
    write: WriteTo = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write an invitation for a data owner.

    It is one block of text with the address, the releases and the token, which is a secret. The data owner
    reads it with enclavectl remote add NAME --from FILE, and compares its PCRs with those of whoever built
    the image. Send those another way.

    Examples:
      enclavectl remote invite wss://lab.example --policy p.yaml  print it
    """
    screen = screen_for(output)
    files = NetworkFlags(token_file=token_file, ca=ca, tls_pin=tls_pin)
    content = files.content(address, policy=policy, root=root)
    text = render_invitation(content)
    if write is not None:
        require_output("--write", write)
        require_own_or_new("--write", write, INVITATION_BEGIN.encode(), "an invitation")
        write_atomic(write, text.encode())
    if screen.as_json:
        releases = [{"name": one.name, "pcr0": one.pcrs[0].hex()} for one in content.read_policy().releases]
        value = {"schema": INVITE_SCHEMA, "address": content.address, "releases": releases}
        where = {"file": None if write is None else str(write), "text": text if write is None else None}
        screen.result({**value, "has_token": content.token is not None, **where})
        return
    if write is None:
        typer.echo(text, nl=False)
    for one in content.read_policy().releases:
        screen.note(f"release {one.name}: the data owner will be asked for PCR0 {one.pcrs[0].hex()}")
    screen.note(
        f"{'it is on standard output' if write is None else f'written to {write}'}; publish the PCRs another"
        " way, such as with the image's sources"
    )
