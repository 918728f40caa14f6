"""Any bytes are a .tflite file whose graph can be described, or a FlatbufferError; both within a second."""

from enclavectl.errors import UsageError
from enclavectl.models.draft import DraftRequest, draft_card
from enclavectl.models.flatbuffer import FlatbufferError
from enclavectl.models.presets import PRESETS
from enclavectl.models.weights_file import read_weights_file
from tests.models.tflite import Graph, metadata_of
from tests.models.tiny import MODELS


def _with_metadata() -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, 8, 8, 3])
    metadata = metadata_of([127.5], [127.5], "labels.txt")
    return graph.model([image], [graph.softmax(graph.dense(graph.mean(image)))], metadata=metadata)


SEEDS: list[bytes] = [
    b"",
    *(MODELS[name]() for name in ("f32", "f16", "int8", "uint8-logits", "nchw", "out4d")),
    _with_metadata(),
    MODELS["f32"]()[:600],
]


def one(data: bytes) -> None:
    try:
        found = read_weights_file(data)
    except FlatbufferError as exc:
        str(exc).encode()
        return
    assert found.scores in {"softmax", "sigmoid", "logits", "argmax"}
    assert found.scales_by_itself in {True, False}
    request = DraftRequest(data=data, file="m.tflite", model_id="m", preset=PRESETS["torchvision"])
    try:
        assert draft_card(request).text.encode()
    except UsageError as exc:
        exc.message.encode(errors="strict")
