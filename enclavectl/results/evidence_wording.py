"""What kept evidence proves, and what it does not, as claims for people.

The words are separate from the pages' form, so that they can be reviewed as claims. docs/evidence.md explains
them.
"""

from __future__ import annotations

from enclavectl.attestation.chain import TIME
from enclavectl.evidence.verification import Verification
from enclavectl.trust import Trust

_NOT_VERIFIED = "Anything: the evidence was not verified."
_FORM_ONLY = (
    "Anything about hardware or privacy: a development key signed, and its holder can sign whatever it likes."
)
_UNSIGNED = "Anything about code, hardware or privacy: nobody signed, so anybody could have written it."
_DEBUG = "Which code ran, or that nobody watched: the enclave was in debug mode."
_ANY_CODE = "Which code is meant: no policy was met, so this may be anybody's enclave."
_PROVERS_POLICY = (
    "That this is the code that you mean: the policy came with the evidence, and its maker chose it."
)
_UNTOLD = "What was answered: the evidence was kept without the answer of {count}, so none of that is shown."
_RECORDING = (
    "That the enclave still runs, or that nobody replays this: only an answer to your own nonce shows that."
)
_OLD_KEY = (
    "That nobody signed later for that time: whoever holds the key of an expired certificate can do so."
)
_GOOD_CODE = "That the measured code is good. Reading and building it says what it does."
_ONLY_RECEIPT = "That it is the only receipt for this picture, who asked, or that nothing else was kept."
_NOT_MEDICINE = "That an answer is right. Evidence is about which program ran, not about medicine."


def claims_of(verification: Verification) -> tuple[list[str], list[str]]:
    """Return what this evidence proves, and what it does not, as sentences."""
    if not verification.verified or verification.facts is None:
        return [], [_NOT_VERIFIED]
    return _proven(verification), _not_proven(verification)


def _proven(verification: Verification) -> list[str]:
    facts = verification.require()
    when = f"{facts.timestamp:{TIME}}"
    if facts.trust is Trust.SIMULATED:
        return [f"The form is right: the holder of the root {facts.root} signed this document for {when}."]
    if facts.trust is Trust.EMULATED:
        return [f"The form is right: it is what QEMU writes, with {when} for its time. Nobody signed it."]
    proven = [f"The AWS Nitro root {facts.root} signed for a Nitro Enclave that ran at {when}."]
    release = verification.release
    if release is not None:
        whose = "the prover's policy" if verification.is_provers_policy else "the policy"
        proven.append(
            f"It ran the code of the release {release.name}: every register that {whose} pins is the same."
        )
    if verification.is_model_pinned:
        proven.append("It ran the model of that release: PCR16 measures the model's card.")
    meant = verification.receipts_of_picture
    for one in meant:
        about = "a picture" if one.asked is None else f"the picture {one.asked.picture_sha256.hex()[:16]}..."
        answer = "an answer, which is not shown," if one.outcome is None else "the answer above"
        proven.append(
            f"A key of that enclave signed that {one.receipt.model_id} gave {answer} for {about} at "
            f"{one.receipt.issued_at:{TIME}} by its clock."
        )
    if others := len(verification.receipts) - len(meant):
        what = "another answer, which is" if others == 1 else f"{others} other answers, which are"
        proven.append(f"A key of that enclave signed {what} not known to be about your picture.")
    if verification.is_fresh:
        proven.append("It is no recording: the document answers the nonce that you drew.")
    return proven


def _not_proven(verification: Verification) -> list[str]:
    facts = verification.require()
    missing = []
    if facts.trust is Trust.SIMULATED:
        missing.append(_FORM_ONLY)
    if facts.trust is Trust.EMULATED:
        missing.append(_UNSIGNED)
    if facts.trust is Trust.DEBUG:
        missing.append(_DEBUG)
    if verification.release is None and facts.trust is not Trust.DEBUG:
        missing.append(_ANY_CODE)
    if verification.is_provers_policy:
        missing.append(_PROVERS_POLICY)
    if not verification.is_fresh:
        missing += [_RECORDING, _OLD_KEY]
    untold = sum(one.outcome is None for one in verification.receipts)
    if untold:
        missing.append(_UNTOLD.format(count="a receipt" if untold == 1 else f"{untold} receipts"))
    if verification.receipts:
        missing.append(_ONLY_RECEIPT)
    return [*missing, _GOOD_CODE, _NOT_MEDICINE]
