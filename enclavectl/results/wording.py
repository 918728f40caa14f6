"""A report's statements on trust: for each kind, what the evidence proves and what it does not prove.

The words are separate from the page's form, so that they can be reviewed as claims. A change in verification
needs a change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# By a document's ``model_pinned``, after the words "model pinned".
MODEL_PINNED = {True: "yes, by PCR16", False: "no: PCR16 is not part of the release"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustWords:
    """``sentence`` stands in the banner; a banner that is not ``calm`` is a warning."""

    badge: str
    sentence: str
    calm: bool
    proves: tuple[str, ...]
    does_not_prove: tuple[str, ...]


_ON_NITRO = (
    "The enclave ran on AWS Nitro hardware: a certificate chain from the AWS Nitro root signs the evidence."
)
_FRESH = "The evidence is no recording: it carries the nonce on this page, which the client drew anew."
_SEALED = (
    "Each picture was encrypted, before it left the client, to a key that the evidence binds. Whatever "
    "carried it, the host included, saw only ciphertext."
)
_NO_HARDWARE = "That any enclave hardware was involved. There was none."
_NOT_ABOUT_MEDICINE = "That an answer is right. Evidence is about which program ran, not about medicine."
_PAGES_CAN_BE_EDITED = (
    "Anything to somebody who was sent this page, for a page can be edited. Whoever needs proof has their "
    "own client verify the enclave, with a policy that pins the PCRs."
)
_NEVER_PROVEN = (_NOT_ABOUT_MEDICINE, _PAGES_CAN_BE_EDITED)

_NITRO = TrustWords(
    badge="Verified AWS Nitro Enclave",
    sentence=(
        "The evidence is signed under the AWS Nitro root and satisfied the client's policy before any "
        "picture was sent."
    ),
    calm=True,
    proves=(
        _ON_NITRO,
        "It ran the code that the PCRs on this page measure, and not in debug mode.",
        _FRESH,
        _SEALED,
    ),
    does_not_prove=(
        (
            "That the measured code is good. The PCRs say which code it is; reading and building that code "
            "says what it does."
        ),
        "That the client's own computer is sound. It saw the pictures and the answers.",
        *_NEVER_PROVEN,
    ),
)

_DEBUG = TrustWords(
    badge="Debug mode: not confidential",
    sentence=(
        "A real Nitro Enclave, but started in debug mode: PCR0, PCR1 and PCR2 are zero, so nothing says "
        "which code ran, and the host can read its console."
    ),
    calm=False,
    proves=(_ON_NITRO, _FRESH),
    does_not_prove=(
        "Which code saw the pictures. In debug mode PCR0, PCR1 and PCR2 are zero.",
        "Which model answered. PCR16 proves nothing without PCR0, PCR1 and PCR2.",
        "That the pictures stayed private. The code, being unknown, may have passed them on.",
        *_NEVER_PROVEN,
    ),
)

# From here on without _FRESH and _SEALED: the operator of such a machine can forge evidence, so neither
# statement holds against the operator, the party that this project protects from.
_EMULATED = TrustWords(
    badge="Emulated: not confidential",
    sentence=(
        "QEMU ran the enclave image on an ordinary machine. The measurements are real but nobody signed "
        "them, and whoever runs that machine could read its memory."
    ),
    calm=False,
    proves=("The image boots, and has the PCRs on this page as far as that machine can be believed.",),
    does_not_prove=(
        _NO_HARDWARE,
        "That the pictures stayed private. That machine's administrator could see them, and forge evidence.",
        *_NEVER_PROVEN,
    ),
)

_SIMULATED = TrustWords(
    badge="Simulated: not confidential",
    sentence=(
        "A process or a virtual machine of an ordinary computer played the enclave, and a development key "
        "signed the evidence. Whoever runs that computer could see the pictures."
    ),
    calm=False,
    proves=(
        "The program works: evidence, verification and encryption took the steps of a real enclave.",
        "The PCRs on this page were measured by that computer itself.",
    ),
    does_not_prove=(
        _NO_HARDWARE,
        "That the pictures stayed private from this machine's user or administrator.",
        *_NEVER_PROVEN,
    ),
)

TRUST_WORDS: Mapping[str, TrustWords] = MappingProxyType(
    {"nitro": _NITRO, "debug": _DEBUG, "emulated": _EMULATED, "simulated": _SIMULATED}
)

# For evidence that was not verified, and for a kind of trust that this version does not know.
UNVERIFIED = TrustWords(
    badge="Not verified",
    sentence="Nothing was proven about where these pictures went or which program answered.",
    calm=False,
    proves=("Nothing.",),
    does_not_prove=("That the pictures stayed private, or that any enclave was involved.", *_NEVER_PROVEN),
)
