"""The pictures that an enclave accepts, for checks before there is an enclave."""

from enclave_payload.media import MAX_PICTURE_BYTES, MediaType

__all__ = ["MAX_PICTURE_BYTES", "MediaType"]
