"""Any bytes are a request, answer, outcome or key configuration, in its one encoding, or a ContentError."""

from enclave_payload.card import (
    PARTS_PER_BILLION,
    Filter,
    Fit,
    Label,
    ModelCard,
    ModelInput,
    ModelOutput,
    Scores,
)
from enclave_payload.cbor import decode
from enclave_payload.contents import (
    SALT_BYTES,
    ContentError,
    Outcome,
    Request,
    Timings,
    encode_answer,
    encode_key_config,
    parse_request,
)
from enclave_payload.media import MediaType
from enclave_payload.seal import SuiteId
from enclave_payload.verdict import Problem
from enclavectl.protocol.answers import AnswerContent, parse_answer_content, parse_outcome
from enclavectl.protocol.key_config import KeyConfig, parse_key_config
from enclavectl.protocol.requests import request_content

_PARSERS = (parse_request, parse_outcome, parse_key_config, parse_answer_content)
_CARD = ModelCard(
    model_id="m",
    sha256="0a" * 32,
    input=ModelInput(
        width=8,
        height=8,
        fit=Fit.STRETCH,
        filter=Filter.BILINEAR,
        mean=("0",) * 3,
        std=("1",) * 3,
    ),
    output=ModelOutput(scores=Scores.SOFTMAX),
    labels=(Label(code="a", name="A"), Label(code="b", name="B")),
    notice="n",
)
_REQUEST = Request(picture=b"p", media_type=MediaType.PNG, reply_key=bytes(32), salt=bytes(32))
_TIMINGS = Timings(queue_us=0, decode_us=24, inference_us=2**33)

# The first byte chooses the parser.
SEEDS: list[bytes] = [
    b"",
    b"\0" + b"".join(request_content(_REQUEST)),
    b"\1"
    + Outcome(
        model_id="m", model_sha256="s", timings=_TIMINGS, probabilities_ppb={"a": 0, "b": PARTS_PER_BILLION}
    ).to_cbor(),
    b"\1" + Outcome(model_id="m", model_sha256="s", timings=_TIMINGS, problem=Problem.EMPTY).to_cbor(),
    b"\3" + encode_answer(b"outcome", b"receipt"),
    b"\3" + encode_answer(b"outcome", None),
    b"\2" + encode_key_config({SuiteId.X25519: bytes(32)}, _CARD, bytes(SALT_BYTES)),
]


def one(data: bytes) -> None:
    if not data:
        return
    data, parse = data[1:], _PARSERS[data[0] % len(_PARSERS)]
    try:
        content = parse(data)
    except ContentError as exc:
        str(exc).encode()
        return
    match content:
        case Request():
            assert b"".join(request_content(content)) == data
        case Outcome():
            assert content.to_cbor() == data
            words = [content.problem, content.probabilities_ppb, content.top_ppb]
            assert words.count(None) == 2
            assert all(0 <= ppb <= PARTS_PER_BILLION for ppb in (content.probabilities_ppb or {}).values())
        case AnswerContent():
            assert encode_answer(content.outcome, content.receipt) == data
        case KeyConfig():
            fields = decode(data, max_bytes=len(data))
            assert isinstance(fields, dict)
            salt = fields["salt"]
            assert isinstance(salt, bytes)
            again = encode_key_config(content.public_keys, content.card, salt)
            assert parse_key_config(again) == content
