"""Models: a card in YAML (``enclavectl.model/1``) and the weights that it names by SHA-256, in one folder.

Three places hold them: ``enclave_payload/model`` the packaged one, ``data_dir/models/<id>`` those that were
fetched, and any folder that the user names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import enclave_payload
from enclave_payload.card import MAX_CARD_BYTES, CardError, ModelCard, card_from_mapping
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.settings import is_path, shown
from enclavectl.yaml_file import Node, Plain, parse_yaml, refuse_unknown

MODEL_SCHEMA = "enclavectl.model/1"
CARD_NAME = "model.yaml"
PACKAGED_ID = "demo-lesion"
PACKAGED_DIR = Path(enclave_payload.__file__).parent / "model"
# The payload's own bound on a card is 16 KiB; the rest is for what only people read.
MAX_CARD_FILE_BYTES = 64 * 1024
# MobileNet v1 1.0 in float32 has 17 MB; more than this would not fit the memory of the smallest enclave.
MAX_WEIGHTS_BYTES = 64 * 1024 * 1024

_MEASURED = ("id", "sha256", "input", "labels", "notice")
_REQUIRED = ("schema", "title", "file", *_MEASURED)
_FREE_FORM = ("training", "evaluation", "license", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model whose card has been read; the weights are checked by ``load_weights``, not before.

    ``extra`` has the free-form parts of the card: training, evaluation, license, source.
    """

    card: ModelCard
    title: str
    card_path: Path
    weights_path: Path
    extra: Mapping[str, Plain]

    def to_json(self) -> dict[str, object]:
        """The object that ``model show --output json`` prints."""
        card = self.card
        return {
            "schema": MODEL_SCHEMA,
            "id": card.model_id,
            "title": self.title,
            "card": str(self.card_path),
            "file": str(self.weights_path),
            "sha256": card.sha256,
            "input": {"width": card.width, "height": card.height, "mean": card.mean, "std": card.std},
            "labels": [{"code": label.code, "name": label.name} for label in card.labels],
            "notice": card.notice,
            **self.extra,
        }


def find_model(name_or_path: str | Path, *, data_dir: Path) -> Model:
    """The model of that id (packaged or fetched), or of the card or folder at that path.

    A value with a ``/``, or that ends in .yaml, is a path. A fetched model cannot shadow the packaged one.

    Raises:
        UsageError: there is no such model (the message lists those that exist), or its card cannot be used.
    """
    if is_path(name_or_path):
        path = Path(name_or_path)
        if path.suffix == ".tflite":
            raise UsageError(
                f"{path}: expected a model card or its folder, found weights",
                hint=f"write a {CARD_NAME} beside the weights, in the form of {PACKAGED_DIR / CARD_NAME}",
            )
        return read_card(path / CARD_NAME if _is_folder(path) else path)
    known = installed_models(data_dir)
    name = str(name_or_path)
    if name not in known:
        here = f"for the folder of that name here, write ./{name}" if _is_folder(Path(name)) else None
        raise UsageError(
            f"expected one of the models {', '.join(known) or '(none is installed)'}; found {shown(name)}",
            hint=here or "name a model card by its path, or try: enclavectl model fetch skin-lesion",
        )
    model = read_card(known[name])
    if model.card.model_id != name:
        raise UsageError(f"{known[name]}: expected the card of {name!r}, found id {model.card.model_id!r}")
    return model


def installed_models(data_dir: Path) -> dict[str, Path]:
    """The card's path of every model that has an id to be called by, sorted by id. Cards are not read.

    Raises:
        UsageError: the folder of fetched models cannot be read.
    """
    try:
        fetched = sorted(data_dir.glob(f"models/*/{CARD_NAME}"))
    except OSError as exc:
        raise UsageError(f"{data_dir}: cannot read the folder of models ({exc.strerror})") from exc
    found = {path.parent.name: path for path in fetched if not path.parent.name.startswith(".")}
    if (packaged := PACKAGED_DIR / CARD_NAME).is_file():
        found[PACKAGED_ID] = packaged
    return dict(sorted(found.items()))


def read_card(path: Path) -> Model:
    """The model that the card at ``path`` describes.

    Raises:
        UsageError: the file cannot be read, or is not a card.
    """
    return parse_model_card(read_bounded(path, MAX_CARD_FILE_BYTES, what="model card"), path)


def parse_model_card(data: bytes, path: Path) -> Model:
    """The model that these bytes of a card describe; ``path`` is where they are from. Nothing is read.

    Raises:
        UsageError: not a model card; the message names the place and the field.
    """
    name = str(path)
    if len(data) > MAX_CARD_FILE_BYTES:
        raise UsageError(f"{name}: expected a model card of at most {MAX_CARD_FILE_BYTES} bytes, found more")
    root = parse_yaml(data, name=name)
    if not isinstance(root.value, dict):
        raise UsageError(f"{name}:{root.line}: expected a model card, found {shown(root.to_plain())}")
    top = root.value
    refuse_unknown(top, (*_REQUIRED, *_FREE_FORM), name=name)
    if missing := [key for key in _REQUIRED if key not in top]:
        raise UsageError(f"{name}: the model card lacks {', '.join(missing)}")
    if (schema := top["schema"].to_plain()) != MODEL_SCHEMA:
        raise UsageError(
            f"{name}:{top['schema'].line}: expected schema {MODEL_SCHEMA}, found {shown(schema)}"
        )
    return Model(
        card=_measured(top, name),
        title=_line_of_text(top["title"], "title", name),
        card_path=path,
        weights_path=path.parent / _file_name(top["file"], name),
        extra=MappingProxyType({key: top[key].to_plain() for key in _FREE_FORM if key in top}),
    )


def load_weights(model: Model) -> bytes:
    """The weights, which have the SHA-256 of the card.

    Raises:
        UsageError: the file is missing, longer than 64 MiB, or not the one that the card describes.
    """
    weights = read_bounded(model.weights_path, MAX_WEIGHTS_BYTES, what="weights file")
    found = hashlib.sha256(weights).hexdigest()
    if found != model.card.sha256:
        raise UsageError(
            f"{model.weights_path}: expected SHA-256 {model.card.sha256} ({model.card_path}), found {found}",
            hint="if you replaced the weights on purpose, write their SHA-256 into the card",
        )
    return weights


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # what is wrong with it, reading it will say


def _measured(top: Mapping[str, Node], name: str) -> ModelCard:
    values = {key: top[key].to_plain() for key in _MEASURED}
    values["labels"] = _label_pairs(top["labels"], name)
    if isinstance(notice := values["notice"], str):
        values["notice"] = " ".join(notice.split())  # a card may fold a long notice over lines
    if isinstance(image := top["input"].value, dict):
        refuse_unknown(image, ("width", "height", "mean", "std"), name=name, where="input")
    try:
        card = card_from_mapping(values)
    except CardError as exc:
        raise UsageError(f"{name}: {exc}") from exc
    if (size := len(card.to_json())) > MAX_CARD_BYTES:
        raise UsageError(
            f"{name}: expected labels and a notice of at most {MAX_CARD_BYTES} bytes, found {size}"
        )
    return card


def _label_pairs(labels: Node, name: str) -> list[Plain]:
    if not isinstance(labels.value, list):
        raise UsageError(f"{name}:{labels.line}: labels: expected a list, found {shown(labels.to_plain())}")
    pairs: list[Plain] = []
    for label in labels.value:
        if not isinstance(label.value, dict) or set(label.value) != {"code", "name"}:
            found = shown(label.to_plain())
            raise UsageError(f"{name}:{label.line}: labels: expected {{code: ..., name: ...}}, found {found}")
        pairs.append([label.value["code"].to_plain(), label.value["name"].to_plain()])
    return pairs


def _line_of_text(node: Node, key: str, name: str) -> str:
    if isinstance(node.value, str) and 0 < len(node.value) <= 200 and node.value.isprintable():
        return node.value
    raise UsageError(
        f"{name}:{node.line}: {key}: expected 1 to 200 printable characters on one line, "
        f"found {shown(node.to_plain())}"
    )


def _file_name(node: Node, name: str) -> str:
    text = _line_of_text(node, "file", name)
    # A card is often somebody else's: it may name its neighbor, and no other file of this machine.
    if "/" in text or text in {".", ".."}:
        raise UsageError(
            f"{name}:{node.line}: file: expected the name of a file beside the card, found {shown(text)}"
        )
    return text
