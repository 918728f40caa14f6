"""Any bytes are a request, outcome or key configuration that reads back the same, or a ContentError."""

from enclave_payload.card import Label, ModelCard
from enclave_payload.contents import (
    PARTS_PER_BILLION,
    ContentError,
    KeyConfig,
    Outcome,
    Problem,
    Request,
    Timings,
    parse_key_config,
    parse_outcome,
    parse_request,
)
from enclave_payload.media import MediaType
from enclave_payload.seal import SuiteId

_PARSERS = (parse_request, parse_outcome, parse_key_config)
_CARD = ModelCard(
    model_id="m",
    sha256="0a" * 32,
    width=8,
    height=8,
    mean=0.0,
    std=1.0,
    labels=(Label(code="a", name="A"), Label(code="b", name="B")),
    notice="n",
)
_TIMINGS = Timings(queue_us=0, decode_us=24, inference_us=2**33)

# The first byte chooses the parser.
SEEDS: list[bytes] = [
    b"",
    b"\0" + b"".join(Request(picture=b"p", media_type=MediaType.PNG, reply_key=bytes(32)).to_parts()),
    b"\1"
    + Outcome(
        model_id="m", model_sha256="s", timings=_TIMINGS, probabilities_ppb={"a": 0, "b": PARTS_PER_BILLION}
    ).to_cbor(),
    b"\1" + Outcome(model_id="m", model_sha256="s", timings=_TIMINGS, problem=Problem.EMPTY).to_cbor(),
    b"\2" + KeyConfig(public_keys={SuiteId.X25519: bytes(32)}, card=_CARD).to_cbor(),
]


def one(data: bytes) -> None:
    if not data:
        return
    parse = _PARSERS[data[0] % len(_PARSERS)]
    try:
        content = parse(data[1:])
    except ContentError:
        return
    again = b"".join(content.to_parts()) if isinstance(content, Request) else content.to_cbor()
    assert parse(again) == content
    if isinstance(content, Outcome):
        assert (content.problem is None) is not (content.probabilities_ppb is None)
        assert all(0 <= ppb <= PARTS_PER_BILLION for ppb in (content.probabilities_ppb or {}).values())
