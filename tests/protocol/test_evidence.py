import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.messages import MAX_DOCUMENT_BYTES, MAX_EVIDENCE_BYTES, MAX_KEY_CONFIG_BYTES
from enclave_payload.wire import WireError
from enclavectl.protocol.evidence import Evidence, parse_evidence

parts = st.binary(min_size=1, max_size=99)


@given(parts, parts)
def test_evidence_reads_back(document: bytes, key_config: bytes) -> None:
    evidence = Evidence(document, key_config)
    assert parse_evidence(evidence.to_body()) == evidence


def test_evidence_is_refused_at_every_cut_that_leaves_no_key_configuration() -> None:
    body = Evidence(b"document", b"k").to_body()
    for kept in range(len(body)):
        with pytest.raises(WireError):
            parse_evidence(body[:kept])
    assert parse_evidence(body).key_config == b"k"


@pytest.mark.parametrize(
    ("document", "key_config"),
    [(0, 1), (1, 0), (MAX_DOCUMENT_BYTES + 1, 1), (1, MAX_KEY_CONFIG_BYTES + 1)],
)
def test_evidence_is_refused_when_a_part_is_missing_or_too_long(document: int, key_config: int) -> None:
    with pytest.raises(WireError):
        parse_evidence(Evidence(bytes(document), bytes(key_config)).to_body())


def test_the_longest_evidence_passes() -> None:
    body = Evidence(bytes(MAX_DOCUMENT_BYTES), bytes(MAX_KEY_CONFIG_BYTES)).to_body()
    assert len(body) == MAX_EVIDENCE_BYTES
    assert len(parse_evidence(body).document) == MAX_DOCUMENT_BYTES


def test_a_length_that_points_past_the_end_is_refused() -> None:
    with pytest.raises(WireError):
        parse_evidence(b"\xff\xff" + bytes(100))


@given(st.binary(max_size=200))
def test_any_bytes_are_the_one_valid_form_or_a_wire_error(data: bytes) -> None:
    try:
        evidence = parse_evidence(data)
    except WireError:
        return
    assert evidence.to_body() == data
