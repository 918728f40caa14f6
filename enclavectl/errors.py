"""Every error that enclavectl raises on purpose.

::

    EnclavectlError             an abstract root; never raised itself
    +-- Bug                1    any other exception, as the CLI reports it; never raised
    +-- UsageError         2    wrong arguments, configuration, policy or model card
    |   +-- EifError            an enclave image file, ramdisk or layer that breaks its format (eif/errors.py)
    +-- HostError          3    the host or a tool on it is missing something or failed
    |   +-- OutputFull          the disk below standard output is full, and the rest went nowhere
    |   +-- NetworkError        a proxy, a certificate or another server is in the way to the enclave
    +-- AttestationError   4    the enclave could not be verified; nothing secret was sent
    |   +-- ReceiptError        a signed receipt does not fit its answer or its document (evidence/codes.py)
    +-- EnclaveError       5    the enclave or the model in it failed
    |   +-- EnclaveLost         the connection ended before the answer
    |   +-- EnclaveBusy         the enclave refused because a bound was reached
    |   +-- PeerProtocolError   the peer broke docs/protocol.md
    |   +-- PictureRefused      the enclave (or we, before sending) would not take this picture
    +-- StateError         6    the named thing does not exist or is in the wrong state
    +-- Interrupted      130    Ctrl-C or SIGTERM, as the CLI reports them
    +-- OutputClosed     141    who read standard output has closed it, and the rest went nowhere

Only ``enclavectl.cli`` turns these into text and exit codes.
"""

from __future__ import annotations

from typing import ClassVar


def visible(text: str) -> str:
    r"""Replace every character that does not print by an escape, such as ``\x1b`` for the escape character.

    Text from elsewhere goes through this before a person sees it: control characters command a terminal, and
    marks that reverse a text's direction make one name look like another.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class EnclavectlError(Exception):
    """The root. ``message`` says what was expected and found; ``hint`` names the next command to try.

    ``after_answer`` says that the command has printed its one JSON object before it failed.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, after_answer: bool = False
    ) -> None:
        """``code`` is the stable machine-readable name; it defaults to the class's ``kind``."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.kind
        self.after_answer = after_answer


class Bug(EnclavectlError):
    """An unexpected exception: a defect of enclavectl."""

    kind = "bug"


class Interrupted(EnclavectlError):
    """Ctrl-C or SIGTERM: a person or a supervisor ended the command."""

    exit_code = 130
    kind = "interrupted"


class OutputClosed(EnclavectlError):
    """The reader of standard output has closed it, as `head` does, before everything was written."""

    # What a shell shows of a program that SIGPIPE ended.
    exit_code = 141
    kind = "output-closed"


class UsageError(EnclavectlError):
    """The arguments, the configuration, a policy or a model card cannot be used."""

    exit_code = 2
    kind = "usage"


class HostError(EnclavectlError):
    """The host lacks something, or a tool on it failed."""

    exit_code = 3
    kind = "host"


class OutputFull(HostError):
    """The disk below standard output is full. ``after_answer`` always: no JSON object can say so there."""

    kind = "output-full"

    def __init__(self, reason: str, rest: str, *, hint: str) -> None:
        """``reason`` is the system's, ``rest`` what became of the command's work."""
        super().__init__(
            f"standard output: cannot be written ({reason}); {rest}", hint=hint, after_answer=True
        )


class NetworkError(HostError):
    """Something between this machine and the enclave is not what it should be; nothing secret was sent."""

    kind = "network"


class AttestationError(EnclavectlError):
    """The evidence was refused. ``code`` names the rule of docs/protocol.md that it broke."""

    exit_code = 4
    kind = "attestation"


class EnclaveError(EnclavectlError):
    """The enclave, or the model in it, failed."""

    exit_code = 5
    kind = "enclave"


class EnclaveLost(EnclaveError):
    """The connection ended, or the deadline passed, before the answer came."""

    kind = "enclave-lost"


class EnclaveBusy(EnclaveError):
    """The enclave refused because one of its bounds was reached; the client may try again later."""

    kind = "enclave-busy"


class PeerProtocolError(EnclaveError):
    """The peer sent bytes that docs/protocol.md does not allow; the session is dead."""

    kind = "peer-protocol"


class PictureRefused(EnclaveError):
    """One picture was refused; other pictures of the same batch are not affected."""

    kind = "picture-refused"


class StateError(EnclavectlError):
    """The named thing does not exist, or is not in a state that allows the command."""

    exit_code = 6
    kind = "state"
