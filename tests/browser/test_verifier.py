"""Two verifiers that nobody copied from each other: for every document the same verdict and the same code."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enclavectl.attestation import Policy, Release, Revocation, Trust, TrustRoot, aws_nitro_root
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import Claims, parse_claims
from tests.attestation import test_forged_chains, test_forged_documents
from tests.browser.judge import Case, browser_verdicts, differences, python_verdict
from tests.browser.lane import absent
from tests.forge import NONCE, NOW, PCRS, RELEASE, USER_DATA, EnclaveForge, accepting

# Warnings are errors in the tests, and cryptography warns of odd certificates: without, as in a command.
pytestmark = pytest.mark.filterwarnings("ignore")
VECTORS = Path(os.environ.get("ENCLAVECTL_TEST_VECTORS", "/work/shared/vectors")) / "attestation"
MUTANTS = 10_000
OTHER = Release(name="other", pcrs=dict.fromkeys((0, 1, 2), b"\x99" * 48))


@pytest.fixture(scope="module")
def forge() -> EnclaveForge:
    return EnclaveForge()


def forged(
    forge: EnclaveForge, name: str, document: bytes, *, policy: Policy | None = None, now: datetime = NOW
) -> Case:
    return Case(
        name=name,
        document=document,
        root=forge.root,
        policy=policy or accepting(RELEASE),
        nonce=NONCE,
        user_data=USER_DATA,
        now=now.replace(microsecond=now.microsecond // 1000 * 1000),
    )


def forgeries(forge: EnclaveForge) -> Iterator[tuple[Case, str]]:
    """Every forgery of the Python tests, with the code that it must have."""
    for table in (test_forged_documents.FORGERIES, test_forged_chains.FORGERIES):
        for name, (edit, code) in table.items():
            yield forged(forge, name, forge.forged(edit)), str(code)
    for name, (change, code) in test_forged_documents.BYTE_EDITS.items():
        yield forged(forge, name, change(forge.genuine())), str(code)


def test_every_forgery_gets_its_code(forge: EnclaveForge) -> None:
    cases, codes = zip(*forgeries(forge), strict=True)
    assert len(cases) > 130
    found = browser_verdicts(cases)
    wrong = [
        f"{case.name}: expected {code}, browser {theirs}"
        for case, code, theirs in zip(cases, codes, found, strict=True)
        if code != theirs
    ]
    assert wrong == []
    assert browser_verdicts([forged(forge, "genuine", forge.genuine())]) == ["ok simulated 1.0"]


def policies() -> Iterator[tuple[str, Policy]]:
    """Policies that judge the same document differently."""
    hour = timedelta(hours=1)
    at = NOW.replace(microsecond=0)
    model = Release(name="with PCR8", pcrs=PCRS)
    short = Release(name="three", pcrs={index: PCRS[index] for index in (0, 1, 2)})
    yield "the longest match", accepting(short, model)
    yield "nothing that matches", accepting(OTHER)
    yield "the nearest of several", accepting(OTHER, Release(name="near", pcrs=PCRS | {8: b"\x77" * 48}))
    yield "a register that is missing", accepting(Release(name="17", pcrs=PCRS | {17: b"\x17" * 48}))
    yield "over", accepting(Release(name="old", pcrs=PCRS, expires=at))
    yield "not begun", accepting(Release(name="new", pcrs=PCRS, not_before=at + hour))
    yield "one over, one valid", accepting(Release(name="old", pcrs=PCRS, expires=at - hour), short)
    simulated = frozenset({Trust.SIMULATED})
    for name, entry in {
        "by label": {"label": RELEASE.label},
        "by tuple": {"pcrs": {8: PCRS[8]}},
        "by another tuple": {"pcrs": {8: b"\x55" * 48}},
    }.items():
        revocation = Revocation(date=at, reason="a test", **entry)  # type: ignore[arg-type]
        yield f"revoked {name}", Policy(accept=simulated, releases=(OTHER,), revoked=(revocation,))
    yield "another signer", Policy(accept=frozenset({Trust.NITRO}), releases=(RELEASE,))
    yield "debug only", Policy(accept=simulated, releases=(), unsafe_allow_debug=True)
    yield (
        "very strict clocks",
        Policy(accept=simulated, releases=(RELEASE,), clock_skew=timedelta(0), max_age=timedelta(seconds=1)),
    )


def test_every_policy_judges_alike(forge: EnclaveForge) -> None:
    debug = forge.forged(lambda plan: plan.set("pcrs", dict.fromkeys(range(3), bytes(48)) | {4: b"\4" * 48}))
    cases = [
        forged(forge, f"{name}, {what}, {shift}", document, policy=policy, now=NOW + shift)
        for name, policy in policies()
        for what, document in (("genuine", forge.genuine()), ("debug", debug))
        for shift in (timedelta(0), timedelta(seconds=1, milliseconds=1), timedelta(days=-1))
    ]
    assert differences(cases) == []
    assert {python_verdict(case) for case in cases} >= {
        *("ok simulated with PCR8", "ok simulated three", "ok debug -", "release-revoked", "release-expired"),
        *("release-not-yet-valid", "pcr-missing", "pcr-mismatch", "no-release", "trust-not-accepted"),
    }


def real_documents() -> list[tuple[str, bytes]]:
    if not VECTORS.is_dir():
        absent(f"{VECTORS} is not here: documents that AWS signed, which are not ours to copy")
    paths = sorted(VECTORS.glob("*.bin")) + sorted((VECTORS / "invalid").glob("*.bin"))
    return [(path.name, path.read_bytes()) for path in paths]


def claims_of(document: bytes) -> Claims | None:
    try:
        return parse_claims(parse_cose(document).payload)
    except Exception:  # noqa: BLE001 - hostile documents: only whether there are claims matters
        return None


def cases_of(name: str, document: bytes, root: TrustRoot) -> Iterator[Case]:
    """A real document under the policy that it fits, under another, and today."""
    claims = claims_of(document)
    at = NOW if claims is None else claims.timestamp + timedelta(seconds=1)
    pcrs = {} if claims is None else {i: claims.pcrs[i] for i in (0, 1, 2, 8) if any(claims.pcrs.get(i, b""))}
    own = Release(name="own", pcrs=pcrs) if {0, 1, 2} <= pcrs.keys() else OTHER
    nitro = frozenset({Trust.NITRO})
    fitting = Policy(accept=nitro, releases=(own,), unsafe_allow_debug=True)
    nonce = claims.nonce if claims is not None and claims.nonce and len(claims.nonce) >= 16 else NONCE
    user_data = claims.user_data if claims is not None and claims.user_data else USER_DATA
    for what, policy, now in (
        ("at its time", fitting, at),
        ("another release", Policy(accept=nitro, releases=(OTHER,)), at),
        ("today", fitting, datetime(2026, 11, 28, tzinfo=UTC)),
    ):
        yield Case(
            name=f"{name}, {what}",
            document=document,
            root=root,
            policy=policy,
            nonce=nonce,
            user_data=user_data,
            now=now,
        )


def test_every_real_and_every_hostile_document_is_judged_alike() -> None:
    root = aws_nitro_root()
    cases = [case for name, document in real_documents() for case in cases_of(name, document, root)]
    verdicts = [python_verdict(case) for case in cases]
    assert sum(verdict.startswith("ok nitro") for verdict in verdicts) > 10
    assert differences(cases) == []


def mutated(draw: random.Random, document: bytes) -> bytes:
    """One to three small changes, where an attacker would make them or anywhere."""
    changed = bytearray(document)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(changed))
        match draw.randrange(8):
            case 0:
                del changed[at : at + draw.randint(1, 4)]
            case 1:
                changed[at:at] = draw.randbytes(draw.randint(1, 4))
            case 2:
                changed[at] = draw.choice(
                    (0, 1, 0x1F, 0x30, 0x40, 0x5F, 0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xF6, 0xFF)
                )
            case 3:
                changed[at] = (changed[at] + draw.choice((1, 255))) % 256
            case _:
                changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.mark.timeout(600)  # a minute alone; beside others on two cores several
def test_ten_thousand_mutants_are_judged_alike(forge: EnclaveForge) -> None:
    """Of documents of AWS where they are, and of the forge's."""
    draw = random.Random(20261128)
    seeds = [forged(forge, "forge", forge.genuine()), forged(forge, "forge", forge.blueprint().build())]
    if VECTORS.is_dir():
        root = aws_nitro_root()
        seeds += [next(cases_of(name, document, root)) for name, document in real_documents()[::6]]
    cases = []
    for number in range(MUTANTS):
        seed = draw.choice(seeds)
        document = mutated(draw, seed.document)
        members = {name: getattr(seed, name) for name in ("root", "policy", "nonce", "user_data", "now")}
        cases.append(Case(name=f"{number} of {seed.name}: {document.hex()}", document=document, **members))
    different = differences(cases)
    assert [line[:60] + line[line.index(": Python") :] for line in different] == []


def test_the_case_that_the_judge_reads_is_json(forge: EnclaveForge) -> None:
    case = forged(forge, "genuine", forge.genuine())
    assert json.loads(case.to_line())["policy"]["releases"][0]["name"] == "1.0"
