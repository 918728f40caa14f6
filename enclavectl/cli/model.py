"""``enclavectl model``: which models there are, and the one that can be fetched."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from enclavectl.cli.begin import begin
from enclavectl.cli.options import ConfigFile, Output, OutputFormat

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Show and fetch models.")


@app.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(help="A model's id or card; default: the configured one.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Print a model's card, after checking its weights against the SHA-256 in it."""
    from enclavectl.models.card import read_card
    from enclavectl.models.find import find_model, load_weights

    invocation = begin(output, config, {"model": name})
    screen = invocation.screen
    found = read_card(find_model(invocation.config.model, data_dir=invocation.config.data_dir).card_path)
    weights = load_weights(found)
    if screen.as_json:
        screen.result(found.to_json())
        return
    card = found.card
    screen.facts(
        [
            ("model", card.model_id),
            ("title", found.title),
            ("card", str(found.card_path)),
            ("weights", f"{found.weights_path} ({len(weights):,} bytes)"),
            ("sha256", card.sha256),
            ("input", f"{card.width} x {card.height} RGB, (v - {card.mean:g}) / {card.std:g}"),
            *((f"label {label.code}", label.name) for label in card.labels),
            ("notice", card.notice),
        ]
    )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Which model: skin-lesion is the one there is.")],
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="Another address of the same file; its hash is checked all the same.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Download the tutorial's published weights, check them against their pinned hash, and install them.

    This is the only thing that enclavectl ever downloads. Use the model with: --model skin-lesion
    """
    from enclavectl.models.fetch import fetch as fetch_model

    invocation = begin(output, config, {})
    is_watched = sys.stderr.isatty() and not invocation.screen.as_json

    def progress(received: int, total: int | None) -> None:
        if is_watched:
            of = f" of {total:,}" if total else ""
            sys.stderr.write(f"\rreceived {received:,}{of} bytes")

    found = fetch_model(name, data_dir=invocation.config.data_dir, url=url, progress=progress)
    if is_watched:
        sys.stderr.write("\n")
    if invocation.screen.as_json:
        invocation.screen.result(found.to_json())
    else:
        typer.echo(f"installed {found.card.model_id} in {found.card_path.parent}")
        typer.echo(found.card.notice)
