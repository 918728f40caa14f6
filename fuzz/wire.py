"""Any stream cut anywhere is the same frames, within their limits, or the same WireError; errors stay."""

from enclave_payload.wire import Frame, FrameReader, FrameType, WireError, encode_frame

_LIMITS = {FrameType.CHALLENGE: 34, FrameType.EVIDENCE: 100, FrameType.ANSWER: 0}

SEEDS: list[bytes] = [
    b"",
    encode_frame(FrameType.CHALLENGE, bytes(34)),
    encode_frame(FrameType.ANSWER, b"") + encode_frame(FrameType.EVIDENCE, b"e" * 100),
    encode_frame(FrameType.SEALED, b"s"),
    b"\xff\xff\xff\xff\x01" + bytes(50),
    b"GET / HTTP/1.1\r\n\r\n",
]


def one(data: bytes) -> None:
    whole = _read([data])
    assert whole == _read([bytes([byte]) for byte in data])
    assert whole == _read([data[: len(data) // 2], data[len(data) // 2 :]])
    frames, is_dead = whole
    stream = b"".join(encode_frame(frame.type, frame.body) for frame in frames)
    assert data.startswith(stream)
    assert all(len(frame.body) <= _LIMITS[frame.type] for frame in frames)
    assert is_dead or len(data) - len(stream) < 5 + max(_LIMITS.values())


def _read(chunks: list[bytes]) -> tuple[list[Frame], bool]:
    reader = FrameReader(_LIMITS)
    frames: list[Frame] = []
    for chunk in chunks:
        reader.feed(chunk)
        try:
            while (frame := reader.next_frame()) is not None:
                frames.append(frame)
        except WireError:
            assert not reader.is_mid_frame
            return frames, True
    return frames, False
