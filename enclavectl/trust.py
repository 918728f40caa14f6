"""The trust in evidence as one word, in a small module for callers that verify nothing."""

from __future__ import annotations

from enum import StrEnum


class Trust(StrEnum):
    """The authority behind a document, strongest first."""

    NITRO = "nitro"
    """The AWS Nitro PKI signed for an enclave whose code is measured and that nobody can look into."""
    DEBUG = "debug"
    """A debug-mode enclave: signed, but its code is not measured and its console can be read."""
    EMULATED = "emulated"
    """QEMU measured the image; nobody signed."""
    SIMULATED = "simulated"
    """A development root made on some machine signed. It protects nothing."""
