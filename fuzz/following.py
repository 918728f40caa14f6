"""Any stream cut anywhere is followed to the same counts, which are those of the frames, or a WireError."""

from enclave_payload.messages import ANSWER_BYTES
from enclave_payload.wire import FrameType, WireError, encode_frame
from enclavectl.gateway.following import FrameFollower, follow_client, follow_enclave
from enclavectl.net.carriage import RefusalCode, encode_challenge, refusal_frame

_CHALLENGE = encode_challenge(bytes(32))
_EVIDENCE = encode_frame(FrameType.EVIDENCE, b"e" * 50)

SEEDS: list[bytes] = [
    b"",
    _CHALLENGE,
    _CHALLENGE + encode_frame(FrameType.SEALED, b"s" * 40) * 2,
    _EVIDENCE + encode_frame(FrameType.ANSWER, bytes(ANSWER_BYTES)),
    _EVIDENCE + refusal_frame(RefusalCode.BUSY),
    refusal_frame(RefusalCode.STOPPING),
    b"\xff\xff\xff\xff\x01" + bytes(50),
    b"GET / HTTP/1.1\r\n\r\n",
]


def one(data: bytes) -> None:
    for make in (follow_client, follow_enclave):
        whole = _facts(make(), [data])
        assert whole == _facts(make(), [bytes([byte]) for byte in data])
        assert whole == _facts(make(), [data[: len(data) // 2], data[len(data) // 2 :]])


def _facts(follower: FrameFollower, chunks: list[bytes]) -> tuple[object, ...]:
    try:
        for chunk in chunks:
            follower.feed(chunk, 0.0)
    except WireError:
        return (dict(follower.frames), "dead")
    assert follower.bytes == sum(map(len, chunks))
    return (dict(follower.frames), follower.bytes, follower.frame_bytes, follower.refusal_code)
