"""The memory through which a picture reaches its decoder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from enclave_payload.media import MAX_PICTURE_BYTES
from enclave_payload.shared_picture import SharedPicture, create_memory


@contextmanager
def both_sides() -> Iterator[tuple[SharedPicture, SharedPicture, int]]:
    """Yield the key holder's side, the decoder's, and the descriptor of their memory."""
    descriptor = create_memory()
    ours, theirs = SharedPicture(descriptor), SharedPicture(descriptor)
    yield ours, theirs, descriptor
    ours.close()
    theirs.close()
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, MAX_PICTURE_BYTES])
def test_a_picture_crosses_once_and_leaves_nothing(size: int) -> None:
    picture = os.urandom(size)
    with both_sides() as (ours, theirs, _):
        ours.put(picture)
        assert theirs.take(size) == picture
        assert theirs.take(size) == bytes(size)


def test_a_shorter_picture_after_a_longer_one_is_whole() -> None:
    with both_sides() as (ours, theirs, _):
        ours.put(b"a longer picture")
        theirs.take(16)
        ours.put(b"short")
        assert theirs.take(16) == b"short".ljust(16, b"\0")


@pytest.mark.parametrize("size", [0, 1, MAX_PICTURE_BYTES - 1, MAX_PICTURE_BYTES + 1])
def test_nobody_can_cut_the_memory_off_below_the_key_holder(size: int) -> None:
    with both_sides() as (ours, theirs, descriptor):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
        ours.put(bytes([1]) * MAX_PICTURE_BYTES)
        assert theirs.take(MAX_PICTURE_BYTES) == bytes([1]) * MAX_PICTURE_BYTES


def test_a_picture_that_is_too_large_is_refused_whole() -> None:
    with both_sides() as (ours, theirs, _):
        with pytest.raises((IndexError, ValueError)):
            ours.put(bytes([1]) * (MAX_PICTURE_BYTES + 1))
        assert theirs.take(1) == b"\0"
