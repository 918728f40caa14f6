"""Edits of policy files: what they say afterwards, and that people's comments stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclavectl.attestation import Policy, Release, Revocation, parse_policy, render_policy
from enclavectl.attestation.policy_edit import EditedPolicy, add_release, end_release, find_release, revoke
from enclavectl.errors import UsageError
from tests.attestation.policies import policies_of
from tests.forge import PCRS

NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NEXT = Release(name="it's 2.0", pcrs={**PCRS, 0: b"\x20" * 48}, notes="one\ntwo")
TEXT = """\
# The hospital's policy.
schema: enclavectl.policy/2  # the form
accept: [nitro]  # nobody else
releases:  # ours
  # the first
  - name: "1.0"  # as tagged
    # whoever reads this: PCR2 is the application
    pcrs:
      PCR0: REGISTER
      PCR1: REGISTER
      PCR2: REGISTER  # the application
      # end of the registers
    # end of 1.0

# How old.
max_age_s: 60
# The end.
""".replace("REGISTER", "ab" * 48)


def comments(text: str) -> list[str]:
    return ["#" + line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]


def kept(edited: EditedPolicy, before: str = TEXT) -> Policy:
    """The policy, of a file that was edited in place."""
    assert not edited.is_rewritten
    assert comments(edited.text) == comments(before)
    assert parse_policy(edited.text, source="p.yaml") == edited.policy
    return edited.policy


def label_of(text: str) -> str:
    return parse_policy(text, source="p.yaml").releases[0].label


def revocation(text: str = TEXT) -> Revocation:
    return Revocation(name="1.0", date=NOON, reason="a leak", label=label_of(text))


def test_a_release_is_added_at_the_end_of_the_list() -> None:
    edited = add_release(TEXT, NEXT, source="p.yaml")
    assert [one.name for one in kept(edited).releases] == ["1.0", "it's 2.0"]
    lines = edited.text.splitlines()
    at = lines.index("    # end of 1.0")
    assert lines[at + 1] == "  - name: 'it''s 2.0'"
    assert lines[at + 8 :] == ["", "# How old.", "max_age_s: 60", "# The end."]


def test_a_release_ends_below_its_name() -> None:
    edited = end_release(TEXT, "1.0", NOON, source="p.yaml")
    assert kept(edited).releases[0].expires == NOON
    lines = edited.text.splitlines()
    assert lines[lines.index('  - name: "1.0"  # as tagged') + 1] == "    expires: '2027-01-31T12:00:00Z'"


def test_an_end_is_replaced_where_it_stands() -> None:
    text = TEXT.replace(
        "    pcrs:", "    not_before: 2026-01-01\n    expires: 2028-01-01  # two years\n    pcrs:"
    )
    edited = end_release(text, "1.0", NOON, source="p.yaml")
    assert kept(edited, text).releases[0].expires == NOON
    assert "    expires: '2027-01-31T12:00:00Z'  # two years\n" in edited.text


def test_a_release_is_found_by_its_label_as_well() -> None:
    assert kept(end_release(TEXT, label_of(TEXT), NOON, source="p.yaml")).releases[0].expires == NOON


def test_a_revocation_ends_the_release_and_stands_before_the_list() -> None:
    edited = revoke(TEXT, revocation(), source="p.yaml")
    policy = kept(edited)
    assert (policy.releases[0].expires, policy.revoked) == (NOON, (revocation(),))
    assert edited.text.index("revoked:") < edited.text.index("releases:")
    again = Revocation(date=NOON, reason="weights", pcrs={16: b"\1" * 48})
    more = revoke(edited.text, again, source="p.yaml")
    assert kept(more).revoked == (revocation(), again)


def test_a_revocation_shortens_a_life_and_never_lengthens_one() -> None:
    for end, expected in ((NOON - DAY, NOON - DAY), (NOON + DAY, NOON)):
        text = end_release(TEXT, "1.0", end, source="p.yaml").text
        assert kept(revoke(text, revocation(), source="p.yaml")).releases[0].expires == expected


def test_a_release_that_is_revoked_before_it_begins_never_begins() -> None:
    begin = NOON + DAY
    text = TEXT.replace("    pcrs:", f"    not_before: {begin:%Y-%m-%dT%H:%M:%SZ}\n    pcrs:")
    policy = kept(revoke(text, revocation(), source="p.yaml"), text)
    assert (policy.releases[0].not_before, policy.releases[0].expires) == (begin, begin)


def test_a_revocation_ends_every_release_that_it_names() -> None:
    text = add_release(TEXT, NEXT, source="p.yaml").text
    shared = Revocation(date=NOON, reason="kernel", pcrs={1: b"\xab" * 48})
    text = text.replace("11" * 48, "ab" * 48)
    assert [one.expires for one in kept(revoke(text, shared, source="p.yaml")).releases] == [NOON, NOON]


def test_windows_line_ends_stay() -> None:
    text = TEXT.replace("\n", "\r\n")
    edited = add_release(text, NEXT, source="p.yaml")
    assert kept(edited, text)
    assert edited.text.count("\n") == edited.text.count("\r\n")


def test_the_last_line_may_lack_its_end() -> None:
    text = TEXT.removesuffix("\n# The end.\n").replace("max_age_s: 60", "")
    text = text.rstrip().removesuffix("# How old.").rstrip()
    assert not text.endswith("\n")
    assert len(kept(add_release(text, NEXT, source="p.yaml"), text).releases) == 2


EMPTY = "schema: enclavectl.policy/2\nunsafe_allow_debug: true  # for a test\naccept: [simulated]\n"


@pytest.mark.parametrize(
    "tail", ["", "releases: []  # none yet\n", "releases: []\nmax_age_s: 60 # a minute\n"]
)
def test_the_first_release_is_added_where_there_is_no_list_or_an_empty_one(tail: str) -> None:
    assert kept(add_release(EMPTY + tail, NEXT, source="p.yaml"), EMPTY + tail).releases == (NEXT,)


def test_a_release_in_braces_is_ended_in_place() -> None:
    pcrs = ", ".join(f"PCR{index}: {value.hex()}" for index, value in PCRS.items())
    text = f"schema: enclavectl.policy/2\naccept: [nitro]\nreleases: [{{name: one, pcrs: {{{pcrs}}}}}] # it\n"
    assert kept(end_release(text, "one", NOON, source="p.yaml"), text).releases[0].expires == NOON


def test_a_list_in_brackets_is_written_anew_and_keeps_the_notes() -> None:
    pcrs = ", ".join(f"PCR{index}: {value.hex()}" for index, value in PCRS.items())
    text = (
        "# lost\nschema: enclavectl.policy/2\naccept: [nitro]\n"
        f"releases: [{{name: one, notes: by Ada, pcrs: {{{pcrs}}}}}]\n"
    )
    edited = add_release(text, NEXT, source="p.yaml")
    assert edited.is_rewritten
    assert edited.text == render_policy(edited.policy)
    assert [one.notes for one in edited.policy.releases] == ["by Ada", "one\ntwo"]


def test_a_name_that_is_taken_is_refused() -> None:
    text = add_release(TEXT, NEXT, source="p.yaml").text
    with pytest.raises(UsageError, match=r"^p\.yaml: expected a new name, found a release named") as caught:
        add_release(text, NEXT, source="p.yaml")
    assert caught.value.code == "name-taken"
    assert "--name" in (caught.value.hint or "")


def test_registers_that_a_release_has_already_are_refused() -> None:
    """Neither of two such releases could be retired: their lives would have to be the same."""
    text = add_release(TEXT, NEXT, source="p.yaml").text
    again = replace(NEXT, name="again")
    with pytest.raises(
        UsageError, match=rf"^p\.yaml: expected registers .* of release {NEXT.name}$"
    ) as caught:
        add_release(text, again, source="p.yaml")
    assert caught.value.code == "registers-taken"
    assert f"of {NEXT.name} there" in (caught.value.hint or "")
    revoked = revoke(text, replace(revocation(), label=NEXT.label), source="p.yaml").text
    with pytest.raises(UsageError, match="of release ") as caught:
        add_release(revoked, again, source="p.yaml")
    assert "it is revoked" in (caught.value.hint or "")


def test_what_contradicts_the_policy_is_refused() -> None:
    text = revoke(TEXT, revocation(), source="p.yaml").text
    back = Release(name="again", pcrs=dict.fromkeys((0, 1, 2, 8), b"\xab" * 48), expires=NOON + DAY)
    with pytest.raises(UsageError) as caught:
        add_release(text, back, source="p.yaml")
    assert caught.value.code == "policy-contradiction"
    begins = TEXT.replace("    pcrs:", "    not_before: 2028-01-01\n    pcrs:")
    with pytest.raises(UsageError, match=r"^p\.yaml: release 1\.0: not_before .* is after expires") as caught:
        end_release(begins, "1.0", NOON, source="p.yaml")
    assert caught.value.code == "policy-contradiction"


def test_retiring_never_lengthens_a_life() -> None:
    text = end_release(TEXT, "1.0", NOON, source="p.yaml").text
    with pytest.raises(UsageError, match="already expires at 2027-01-31T12:00:00Z") as caught:
        end_release(text, "1.0", NOON + DAY, source="p.yaml")
    assert caught.value.code == "longer-life"
    assert end_release(text, "1.0", NOON, source="p.yaml").text == text


def test_a_release_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"found '3\.0'; it has: 1\.0$") as caught:
        end_release(TEXT, "3.0", NOON, source="p.yaml")
    assert caught.value.code == "no-such-release"
    policy = parse_policy(TEXT, source="p.yaml")
    twice = Policy(
        accept=policy.accept,
        releases=(*policy.releases, Release(name="b", pcrs={**policy.releases[0].pcrs, 8: b"\1" * 48})),
    )
    with pytest.raises(UsageError, match="several have this label"):
        find_release(twice, policy.releases[0].label, source="p.yaml")


@settings(max_examples=30)
@given(policies_of(at_least=1), st.data())
def test_any_rendered_policy_is_edited_in_place_with_its_comments(
    policy: Policy, data: st.DataObject
) -> None:
    """Comments may stand between any two lines, at any depth."""
    lines = []
    for number, line in enumerate(render_policy(policy).splitlines()):
        if data.draw(st.booleans()):
            lines.append(f"{' ' * data.draw(st.integers(0, 8))}# comment {number}")
        lines.append(line)
    text = "\n".join([*lines, "# the end", ""])
    name = policy.releases[0].name
    entry = Revocation(date=NOON, reason="a leak", label=policy.releases[0].label)
    for edited in (
        add_release(text, Release(name="added to it", pcrs={**PCRS, 31: b"\x31" * 48}), source="p"),
        revoke(text, entry, source="p"),
    ):
        assert not edited.is_rewritten
        ours = [line.strip() for line in text.splitlines() if line.lstrip().startswith("#")]
        assert [line.strip() for line in edited.text.splitlines() if line.lstrip().startswith("#")] == ours
        assert parse_policy(edited.text, source="p") == edited.policy
    assert find_release(edited.policy, name, source="p").expires is not None


def test_a_name_in_the_form_of_a_label_stands_for_no_other_release() -> None:
    """Else ``policy revoke LABEL`` would end the release of that name, and the one of that label go on."""
    label = label_of(TEXT)
    decoy = kept(add_release(TEXT, replace(NEXT, name=label), source="p.yaml"))
    with pytest.raises(UsageError, match="in the form of a label") as caught:
        find_release(decoy, label, source="p.yaml")
    assert caught.value.code == "no-such-release"
    own = kept(add_release(TEXT, replace(NEXT, name=NEXT.label), source="p.yaml"))
    assert find_release(own, NEXT.label, source="p.yaml").pcrs == NEXT.pcrs
