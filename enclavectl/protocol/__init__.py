"""The client's half of the protocol: the messages that only a client reads and writes (docs/protocol.md).

The payload defines what both halves share (names, sizes, dataclasses); clients import it from here. The
enclave's half is ``enclave_payload.messages``, ``contents`` and ``seal``. These modules import only the
standard library and the enclave's half. No file of theirs is in an enclave's image: the build runs them once
against the payload and leaves them out (``enclavectl.image.warmup``).
"""
