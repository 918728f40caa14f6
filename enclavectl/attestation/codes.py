"""The codes of all defects of evidence, and hints for the next step."""

from __future__ import annotations

from enum import StrEnum

from enclavectl.errors import AttestationError, UsageError


class AttestationCode(StrEnum):
    """The stable ``code`` of an AttestationError. Scripts match on these, so none is ever renamed."""

    # The bytes
    SIZE = "size"
    CBOR = "cbor"
    COSE_STRUCTURE = "cose-structure"
    COSE_ALGORITHM = "cose-algorithm"
    NITROTPM = "nitrotpm"
    UNKNOWN_FIELD = "unknown-field"
    FIELD = "field"
    EMULATOR = "emulator"
    # Who signed
    CHAIN_ROOT = "chain-root"
    CHAIN_STRUCTURE = "chain-structure"
    CHAIN_CERTIFICATE = "chain-certificate"
    CHAIN_ALGORITHM = "chain-algorithm"
    CHAIN_NAME = "chain-name"
    CHAIN_SIGNATURE = "chain-signature"
    CHAIN_CONSTRAINT = "chain-constraint"
    CHAIN_NOT_YET_VALID = "chain-not-yet-valid"
    CHAIN_EXPIRED = "chain-expired"
    SIGNATURE = "signature"
    # When
    LEAF_NAME = "leaf-name"
    LEAF_TIME = "leaf-time"
    FROM_THE_FUTURE = "from-the-future"
    TOO_OLD = "too-old"
    # What the policy says
    TRUST_NOT_ACCEPTED = "trust-not-accepted"
    DEBUG_MODE = "debug-mode"
    NO_RELEASE = "no-release"
    PCR_MISSING = "pcr-missing"
    PCR_MISMATCH = "pcr-mismatch"
    RELEASE_NOT_YET_VALID = "release-not-yet-valid"
    RELEASE_EXPIRED = "release-expired"
    RELEASE_REVOKED = "release-revoked"
    # What this session asked for
    NONCE = "nonce"
    USER_DATA = "user-data"


class PolicyCode(StrEnum):
    """The stable ``code`` of a UsageError about a policy, whether from a file or made by a program."""

    FORMAT = "policy-format"
    """Not YAML, an unknown or missing key, or a value that does not fit."""
    VERSION = "policy-version"
    """The file is of another version than this enclavectl reads."""
    EMPTY = "policy-empty"
    """Nothing is pinned, so any image would pass; or nobody's signature counts."""
    ZEROS = "policy-zeros"
    """A register is pinned to zeros, which measure nothing and which debug enclaves have."""
    PCRS = "policy-pcrs"
    """A release lacks PCR0, PCR1 or PCR2."""
    MODEL_ALONE = "policy-model-alone"
    """PCR16 is pinned without PCR0, PCR1 and PCR2: any image can extend it."""
    CONTRADICTION = "policy-contradiction"
    """Two statements of the policy cannot both hold."""


_DAMAGED = (
    "The document was damaged or forged on its way; ask for a new one. "
    "If it happens again, something between you and the enclave changes it."
)
_CHANGED_FORMAT = "AWS may have changed the format: look for a newer enclavectl before anything else."
_FORGED = "Send nothing to this enclave: the document is not what the trusted root vouches for."
_CLOCK = "Check this machine's clock (timedatectl status), then ask for a new document."

_HINTS = {
    AttestationCode.SIZE: _DAMAGED,
    AttestationCode.CBOR: _DAMAGED,
    AttestationCode.COSE_STRUCTURE: _DAMAGED,
    AttestationCode.COSE_ALGORITHM: (
        "A Nitro enclave's document has ES384 and nothing else: this was changed, or it is something else."
    ),
    AttestationCode.NITROTPM: "This host attests its own instance; ask the enclave for its document.",
    AttestationCode.UNKNOWN_FIELD: _CHANGED_FORMAT,
    AttestationCode.FIELD: _CHANGED_FORMAT,
    AttestationCode.EMULATOR: (
        "This policy or backend accepts QEMU's own unsigned documents and nothing else; for a real enclave "
        "name a policy that accepts nitro."
    ),
    AttestationCode.CHAIN_ROOT: (
        "A document of the local backend needs its development root and a policy that accepts simulated; "
        "anything else that does not end at the AWS root is not a Nitro Enclave."
    ),
    AttestationCode.CHAIN_STRUCTURE: _FORGED,
    AttestationCode.CHAIN_CERTIFICATE: _FORGED,
    AttestationCode.CHAIN_ALGORITHM: _FORGED,
    AttestationCode.CHAIN_NAME: _FORGED,
    AttestationCode.CHAIN_SIGNATURE: _FORGED,
    AttestationCode.CHAIN_CONSTRAINT: _FORGED,
    AttestationCode.CHAIN_NOT_YET_VALID: _CLOCK,
    AttestationCode.CHAIN_EXPIRED: _CLOCK,
    AttestationCode.SIGNATURE: _FORGED,
    AttestationCode.LEAF_NAME: _FORGED,
    AttestationCode.LEAF_TIME: _FORGED,
    AttestationCode.FROM_THE_FUTURE: _CLOCK,
    AttestationCode.TOO_OLD: "Ask for a new document; if it is too old again, compare both clocks.",
    AttestationCode.TRUST_NOT_ACCEPTED: (
        "For evidence from another machine, --root names the root. Add a trust to accept: in the policy only "
        "if you mean to rely on it."
    ),
    AttestationCode.DEBUG_MODE: (
        "The operator can read a debug enclave's console and its code is not measured: restart it without "
        "--debug. For a test without secrets, set unsafe_allow_debug: true in the policy."
    ),
    AttestationCode.NO_RELEASE: "Add a release with the registers that enclavectl build prints.",
    AttestationCode.PCR_MISSING: (
        "Pin only registers that are locked. An image locks PCR16 if enclavectl lock show prints it; "
        "PCR17 to PCR31 measure nothing."
    ),
    AttestationCode.PCR_MISMATCH: (
        "Another image is running than the policy names: start the right one, "
        "or review this one and add it to the policy as a release."
    ),
    AttestationCode.RELEASE_NOT_YET_VALID: (
        "Wait, or compare this machine's clock with the release's not_before: enclavectl policy show."
    ),
    AttestationCode.RELEASE_EXPIRED: (
        "Start an enclave of a current release; enclavectl policy show lists them. Ask whoever wrote the "
        "policy for a newer one before you change it."
    ),
    AttestationCode.RELEASE_REVOKED: (
        "Send nothing to this enclave: whoever wrote the policy took this release back. "
        "Start an enclave of another release."
    ),
    AttestationCode.NONCE: "The document answers another challenge, as a replay does: connect again.",
    AttestationCode.USER_DATA: (
        "The key on offer is not the one that the enclave attested: someone may stand in between. "
        "Send nothing; connect again over a path that you trust."
    ),
}

_POLICY_HINTS = {
    PolicyCode.FORMAT: "enclavectl schema policy prints the form; enclavectl policy new writes a file.",
    PolicyCode.VERSION: "enclavectl policy new writes a policy that this enclavectl reads.",
    PolicyCode.EMPTY: "enclavectl policy new --from-lock LOCK --to FILE writes one with a release.",
    PolicyCode.ZEROS: "Zeros are no wildcard, a debug enclave has them: leave out what you do not pin.",
    PolicyCode.PCRS: "enclavectl build prints all three; PCR0 alone does not tell all images apart.",
    PolicyCode.MODEL_ALONE: (
        "Add PCR0, PCR1 and PCR2: the enclave's own code extends PCR16, so any image can hold this value."
    ),
    PolicyCode.CONTRADICTION: "enclavectl policy show lists what the policy says of each release.",
}


def unusable(code: PolicyCode, message: str, *, hint: str | None = None) -> UsageError:
    """Make the error for a policy that cannot be used; ``hint`` replaces that of the code."""
    return UsageError(message, hint=hint or _POLICY_HINTS[code], code=code)


def refused(code: AttestationCode, message: str, *, hint: str | None = None) -> AttestationError:
    """Make the error for ``code``; ``message`` says what was expected and what was found.

    ``hint`` replaces that of the code.
    """
    return AttestationError(message, hint=hint or _HINTS[code], code=code)
