import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.messages import NO_REQUEST, RefusalCode, refusal_frame
from enclave_payload.wire import HEADER_BYTES, WireError
from enclavectl.net.refusal import Refusal, parse_refusal

ids = st.binary(min_size=24, max_size=24)


@given(st.sampled_from(RefusalCode), ids, st.binary(min_size=1, max_size=8))
def test_a_refusal_reads_back_and_has_one_size(code: RefusalCode, request_id: bytes, more: bytes) -> None:
    body = refusal_frame(code, request_id)[HEADER_BYTES:]
    assert parse_refusal(body) == Refusal(code, request_id)
    for wrong in (body[: -len(more)], body + more):
        with pytest.raises(WireError):
            parse_refusal(wrong)


@pytest.mark.parametrize("code", [0, max(RefusalCode) + 1, 255, 256, 0xFFFF])
def test_a_refusal_with_an_unknown_code_is_refused(code: int) -> None:
    with pytest.raises(WireError):
        parse_refusal(code.to_bytes(2, "big") + NO_REQUEST)
