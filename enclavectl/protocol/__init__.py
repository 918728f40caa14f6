"""The client's half of the protocol: what only a client reads and writes (docs/protocol.md).

What both halves share (names, sizes, dataclasses) is defined in the payload; clients take it from here.
The enclave's half is ``enclave_payload.messages``, ``contents`` and ``seal``. These modules import the
standard library and that half only, and no file of theirs is in an enclave's image: the image that is being
built runs them once, against the payload, and leaves them out (``enclavectl.image.warmup``).
"""
