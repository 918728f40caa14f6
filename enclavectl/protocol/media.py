"""Which pictures an enclave takes, for those who ask before there is an enclave."""

from enclave_payload.media import MAX_PICTURE_BYTES, MediaType

__all__ = ["MAX_PICTURE_BYTES", "MediaType"]
