"""``enclavectl model``: which models there are, and the one that can be fetched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli.begin import begin
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.cli.screen import Screen, error_value

if TYPE_CHECKING:
    from enclavectl.errors import UsageError
    from enclavectl.models.card import DescribedModel

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
    """Print a model's card, and whether the model can serve: its hash, its form, two test pictures.

    Exit code 2 if it cannot; the card is printed all the same.
    """
    from enclavectl.models.card import read_card
    from enclavectl.models.find import find_model
    from enclavectl.models.weights import load_weights

    invocation = begin(output, config, {"model": name})
    found = read_card(find_model(invocation.config.model, data_dir=invocation.config.data_dir).card_path)
    size = len(load_weights(found))
    runtime, error = _probed(found)
    if invocation.screen.as_json:
        verdict = {"runtime": runtime, "error": None if error is None else error_value(error)}
        invocation.screen.result({**found.to_json(), "probe": verdict})
    else:
        _draw(invocation.screen, found, size, runtime)
    if error is not None:
        error.after_answer = True
        raise error


def _probed(model: DescribedModel) -> tuple[str | None, UsageError | None]:
    """The runtime in which the model serves, or why it cannot."""
    from enclavectl.errors import UsageError
    from enclavectl.models.probe import probe

    try:
        return probe(model).runtime, None
    except UsageError as error:
        return None, error


def _draw(screen: Screen, model: DescribedModel, size: int, runtime: str | None) -> None:
    card = model.card
    screen.facts(
        [
            ("model", card.model_id),
            ("title", model.title),
            ("card", str(model.card_path)),
            ("weights", f"{model.weights_path} ({size:,} bytes)"),
            ("sha256", card.sha256),
            ("input", f"{card.width} x {card.height} RGB, (v - {card.mean:g}) / {card.std:g}"),
            *((f"label {label.code}", label.name) for label in card.labels),
            ("notice", card.notice),
            ("probe", "it cannot serve" if runtime is None else f"it serves in {runtime}"),
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
