"""Models: a card in YAML and the weights that it names by SHA-256, in one folder.

They are in three places: the packaged model in ``enclave_payload/model``, fetched ones in
``data_dir/models/<id>``, and others in any folder that the user names. ``enclavectl.models.card`` reads
cards. The packaged model also has its card in the payload's form, as every image has: reading YAML takes
longer than launching a local enclave.
"""

from __future__ import annotations

from pathlib import Path

import enclave_payload
from enclave_payload.card import MAX_CARD_BYTES, CardError, ModelCard
from enclavectl.config.setting import is_path, shown
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.models.weights import Model
from enclavectl.protocol.card import check_card

CARD_NAME = "model.yaml"
MEASURED_NAME = "model.json"
WEIGHTS_NAME = "model.tflite"
PACKAGED_ID = "demo-lesion"
PACKAGED_DIR = Path(enclave_payload.__file__).parent / "model"


def find_model(name_or_path: str | Path, *, data_dir: Path) -> Model:
    """Find a model by its id (packaged or fetched), or by the path of its card or folder.

    A value with a ``/``, or with the ending .yaml, is a path. A fetched model cannot shadow the packaged one.

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
        from enclavectl.models.card import read_card

        return read_card(path / CARD_NAME if _is_folder(path) else path)
    known = installed_models(data_dir)
    name = str(name_or_path)
    if name not in known:
        here = f"for the folder of that name here, write ./{name}" if _is_folder(Path(name)) else None
        raise UsageError(
            f"expected one of the models {', '.join(known) or '(none is installed)'}; found {shown(name)}",
            hint=here or "name a model card by its path, or try: enclavectl model fetch skin-lesion",
        )
    measured = PACKAGED_DIR / MEASURED_NAME
    if known[name].parent == PACKAGED_DIR and measured.is_file():
        return Model(
            card=_read_measured(measured), card_path=known[name], weights_path=PACKAGED_DIR / WEIGHTS_NAME
        )
    from enclavectl.models.card import read_card

    model = read_card(known[name])
    if model.card.model_id != name:
        raise UsageError(f"{known[name]}: expected the card of {name!r}, found id {model.card.model_id!r}")
    return model


def installed_models(data_dir: Path) -> dict[str, Path]:
    """List the paths of the cards of all packaged and fetched models, sorted by id. No card is read.

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


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # reading it reports what is wrong


def _read_measured(path: Path) -> ModelCard:
    try:
        return check_card(read_bounded(path, MAX_CARD_BYTES, what="model card"))
    except CardError as exc:
        raise UsageError(f"{path}: {exc}") from exc
