"""``enclavectl gateway token``: the tokens of a gateway's clients."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.commands.gateway.serve import Tokens, default_tokens
from enclavectl.cli.invocation import Invocation, begin
from enclavectl.cli.options import OutputFormat
from enclavectl.files import make_private_dir
from enclavectl.gateway.tokens import TokenEntry, TokenSet, change_tokens, read_tokens

TOKEN_SCHEMA = "enclavectl.gateway-token/1"  # noqa: S105 - a name
LIST_SCHEMA = "enclavectl.gateway-token-list/1"

NewTokenName = Annotated[
    str, typer.Argument(metavar="NAME", help="Whom it is for; it stands in logs and metrics.")
]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="The name that it was made with.")]
Days = Annotated[
    int | None, typer.Option("--days", metavar="DAYS", help="End it after so many days.", min=1, max=3650)
]


def add(
    name: NewTokenName,
    days: Days = None,
    tokens: Tokens = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Make a token and print it once.

    The file keeps its SHA-256 only, so nobody can print it again. A gateway that runs takes it within a
    second. Hand it over on a way that others cannot read.

    Examples:
      enclavectl gateway token add hospital > token  into a file for the client
      enclavectl gateway token add trial --days 30   one that ends by itself
    """
    invocation = begin(output, config, {})
    now = datetime.now(UTC).replace(microsecond=0)
    expires = None if days is None else now + timedelta(days=days)
    token = ""

    def with_another(found: TokenSet) -> TokenSet:
        nonlocal token
        changed, token = found.added(name, expires)
        return changed

    path = _changed_path(invocation, tokens)
    entry = change_tokens(path, with_another).entries[-1]
    try:
        if invocation.screen.as_json:
            invocation.screen.result({"schema": TOKEN_SCHEMA, **_json(entry, now), "token": token})
        else:
            invocation.screen.note(f"token {name}, which is shown this once:")
            typer.echo(token)
    except OSError:  # the disk is full: nobody has the token, and its name must be free for another try
        change_tokens(path, lambda found: found.revoked(name))
        raise


def list_tokens(
    tokens: Tokens = None, config: options.ConfigFile = None, output: options.Output = OutputFormat.TEXT
) -> None:
    """List the tokens' names and when they end.

    The tokens themselves cannot be shown: the file has their SHA-256 only.

    Examples:
      enclavectl gateway token list  every token that was not revoked
    """
    invocation = begin(output, config, {})
    entries = read_tokens(tokens or default_tokens(invocation)).entries
    now = datetime.now(UTC)
    if invocation.screen.as_json:
        invocation.screen.result(_list_json(entries, now))
    elif entries:
        invocation.screen.table(("NAME", "ENDS", "STATE"), [_row(entry, now) for entry in entries])
    else:
        invocation.screen.note("no token was given out")


def revoke(
    name: TokenName,
    tokens: Tokens = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Make a token worthless.

    A gateway that runs ends the token's sessions within a second, and lets it in no more.

    Examples:
      enclavectl gateway token revoke hospital  end it
    """
    invocation = begin(output, config, {})
    path = _changed_path(invocation, tokens)
    left = change_tokens(path, lambda found: found.revoked(name)).entries
    if invocation.screen.as_json:
        invocation.screen.result(_list_json(left, datetime.now(UTC)))
    else:
        typer.echo(f"revoked {name}")


def _changed_path(invocation: Invocation, tokens: Path | None) -> Path:
    """Return the file to change; the folder of the default one is made if it is missing."""
    if tokens is not None:
        return tokens
    path = default_tokens(invocation)
    make_private_dir(path.parent)
    return path


def _list_json(entries: Sequence[TokenEntry], now: datetime) -> dict[str, object]:
    return {"schema": LIST_SCHEMA, "tokens": [_json(entry, now) for entry in entries]}


def _json(entry: TokenEntry, now: datetime) -> dict[str, object]:
    expires = None if entry.expires is None else entry.expires.isoformat()
    return {"name": entry.name, "expires": expires, "is_valid": entry.is_valid(now)}


def _row(entry: TokenEntry, now: datetime) -> tuple[str, str, str]:
    ends = "never" if entry.expires is None else f"{entry.expires:%Y-%m-%d %H:%M} UTC"
    return entry.name, ends, "valid" if entry.is_valid(now) else "has ended"
