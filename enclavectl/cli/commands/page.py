"""``enclavectl page``."""

from __future__ import annotations

import gzip
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.attestation import aws_nitro_root, parse_policy
from enclavectl.attestation.trust import read_root
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import AnotherRoot, Output, OutputFormat
from enclavectl.cli.policy_arguments import read_policy_text
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded, require_output, write_atomic
from enclavectl.net.address import parse_address
from enclavectl.new_files import require_own_or_new
from enclavectl.page.content import MAX_NOTICE_CHARACTERS, PageRequest, require_browser_address
from enclavectl.page.html import PAGE_MARK, render_page

SCHEMA = "enclavectl.page/1"

PolicyToEmbed = Annotated[
    Path, typer.Option("--policy", metavar="FILE", help="What an enclave must prove to the page.")
]
GatewayAddress = Annotated[
    str, typer.Option("--remote", metavar="ADDRESS", help="The gateway: wss://HOST[:PORT][/PATH].")
]
PageFile = Annotated[Path, typer.Option("--to", metavar="FILE", help="The page; an older one is replaced.")]
Title = Annotated[str, typer.Option("--title", metavar="TITLE", help="The heading of the page.")]
Contact = Annotated[
    str,
    typer.Option(
        "--contact", metavar="WHO", help="Who helps and gives newer pages: a name, a telephone number."
    ),
]
Notice = Annotated[
    Path | None, typer.Option("--notice", metavar="FILE", help="A text that stands below the heading.")
]
AskToken = Annotated[
    bool, typer.Option("--ask-token", help="Let the page ask for the token that the gateway demands.")
]


def page(
    policy: PolicyToEmbed,
    remote: GatewayAddress,
    to: PageFile,
    root: AnotherRoot = None,
    title: Title = "",
    contact: Contact = "",
    notice: Notice = None,
    ask_token: AskToken = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write a web page that verifies and seals in the browser.

    The page is one file with policy, root and gateway inside. Whoever serves it serves the verifier:
    publish it from the data owner's side, never from the operator's, together with its SHA-256.

    Examples:
      enclavectl page --policy p.yaml --remote wss://gw --to p.html    a page
    """
    screen = screen_for(output)
    text = read_policy_text(policy)
    request = PageRequest(
        policy=parse_policy(text, source=str(policy)),
        policy_text=text,
        root=aws_nitro_root() if root is None else read_root(root),
        address=require_browser_address(parse_address(remote)),
        title=title,
        contact=contact,
        notice="" if notice is None else _read_notice(notice),
        asks_token=ask_token,
    )
    require_output("--to", to)
    require_own_or_new("--to", to, PAGE_MARK, "a page of enclavectl")
    data = render_page(request)
    write_atomic(to, data, mode=0o644)  # it is for everybody, and holds no secret
    digest, packed = sha256(data).hexdigest(), len(gzip.compress(data, mtime=0))
    if screen.as_json:
        screen.result(
            {
                "schema": SCHEMA,
                "file": str(to),
                "sha256": digest,
                "bytes": len(data),
                "gzip_bytes": packed,
                "address": str(request.address),
                "trust": str(request.root.trust),
            }
        )
        return
    screen.facts(
        [
            ("page", f"{to} ({len(data):,} bytes, {packed:,} gzipped)"),
            ("SHA-256", digest),
            ("gateway", str(request.address)),
            ("origins", "the gateway needs --origin for where the page is served; null: opened as a file"),
        ]
    )


def _read_notice(path: Path) -> str:
    # A character has at most four bytes.
    data = read_bounded(path, 4 * MAX_NOTICE_CHARACTERS, what="notice")
    try:
        # As editors on Windows write it: behind a mark, and with a return at the end of each line.
        return data.decode("utf-8-sig").replace("\r\n", "\n").strip()
    except UnicodeDecodeError as exc:
        raise UsageError(f"--notice {path}: expected UTF-8 text") from exc
