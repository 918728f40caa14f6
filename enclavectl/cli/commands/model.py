"""``enclavectl model``: which models there are, and the one that can be fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.completion import model_names, published_models
from enclavectl.cli.invocation import begin
from enclavectl.cli.model_view import input_line, label_lines, output_line
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.cli.screen import Screen, error_value
from enclavectl.cli.sealed_view import show_sealed
from enclavectl.errors import UsageError
from enclavectl.models.card import DescribedModel, read_card
from enclavectl.models.fetch import fetch as fetch_model
from enclavectl.models.find import find_model
from enclavectl.models.probe import probe
from enclavectl.models.weights import load_weights
from enclavectl.weights.sealed_file import is_sealed_path

SHOW_SCHEMA = "enclavectl.model-show/1"
FETCH_SCHEMA = "enclavectl.model-fetch/1"

ModelToShow = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A model's id or card; default: the configured one.",
        autocompletion=model_names,
    ),
]
PublishedName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Which model: skin-lesion is the one there is.", autocompletion=published_models
    ),
]
OtherUrl = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Another address of the same file; its hash is checked all the same."
    ),
]


def show(
    name: ModelToShow = None,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Print a model's card, and whether the model can serve.

    Checks the weights against the SHA-256 in the card, loads them, and asks them about two test pictures. If
    the model cannot serve, the card is printed all the same and the exit code is 2.

    Examples:
      enclavectl model show              the configured model
      enclavectl model show skin-lesion  one that was fetched
      enclavectl model show ./my-model   the card in a folder
      enclavectl model show m.sealed     the header of a sealed model
    """
    if name is not None and is_sealed_path(name):
        show_sealed(begin(output, config, {}).screen, Path(name))
        return
    invocation = begin(output, config, {"model": name})
    found = read_card(find_model(invocation.config.model, data_dir=invocation.config.data_dir).card_path)
    size = len(load_weights(found))
    runtime, error = _probed(found)
    if invocation.screen.as_json:
        verdict = {"runtime": runtime, "error": None if error is None else error_value(error)}
        invocation.screen.result({"schema": SHOW_SCHEMA, **found.to_json(), "probe": verdict})
    else:
        _draw(invocation.screen, found, size, runtime)
    if error is not None:
        error.after_answer = True
        raise error


def _probed(model: DescribedModel) -> tuple[str | None, UsageError | None]:
    """Return the runtime in which the model serves, or why it cannot."""
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
            ("input", input_line(card.input)),
            ("output", output_line(card.output)),
            *label_lines(card.labels),
            ("notice", card.notice),
            ("probe", "it cannot serve" if runtime is None else f"it serves in {runtime}"),
        ]
    )


def fetch(
    name: PublishedName,
    url: OtherUrl = None,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Download the tutorial's published model.

    Checks the weights against their pinned hash and installs them in the data folder. This is the only thing
    that enclavectl ever downloads.

    Examples:
      enclavectl model fetch skin-lesion                   download and install
      enclavectl diagnose --model skin-lesion picture.jpg  use it
    """
    invocation = begin(output, config, {})
    screen = invocation.screen

    screen.outlive_reader()

    def progress(received: int, total: int | None) -> None:
        screen.count(f"receiving {name}", received >> 10, None if total is None else total >> 10, "KiB")

    found = fetch_model(name, data_dir=invocation.config.data_dir, url=url, progress=progress)
    screen.end_count()
    if screen.as_json:
        screen.result({"schema": FETCH_SCHEMA, **found.to_json()})
    else:
        screen.drawn((f"installed {found.card.model_id} in {found.card_path.parent}", ""))
        screen.drawn((found.card.notice, ""))
