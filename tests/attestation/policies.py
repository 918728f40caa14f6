"""Policies of every form, for properties that hold for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from enclavectl.attestation import Policy, Release, Revocation, Trust

registers = st.binary(min_size=48, max_size=48).filter(any)
# What str.isprintable takes: neither controls nor separators, but the space.
printable = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
names = st.text(printable, min_size=1, max_size=100)
notes = st.text(printable | st.just("\n"), max_size=60)
# Every second that a file can hold, from 1 to 9999.
_LAST_S = (datetime.max.replace(tzinfo=UTC) - datetime.min.replace(tzinfo=UTC)) // timedelta(seconds=1)
times = st.integers(0, _LAST_S).map(lambda s: datetime.min.replace(tzinfo=UTC) + timedelta(seconds=s))
lives = st.lists(st.none() | times, min_size=2, max_size=2).map(
    lambda pair: sorted(pair) if None not in pair else pair  # type: ignore[type-var]  # no None in it
)
releases = st.builds(
    lambda name, first, more, life, text: Release(
        name=name, pcrs=dict(enumerate(first)) | more, not_before=life[0], expires=life[1], notes=text
    ),
    names,
    st.lists(registers, min_size=3, max_size=3),
    st.dictionaries(st.integers(3, 31), registers, max_size=4),
    lives,
    notes,
)
revocations = st.builds(
    lambda name, what, date, reason: Revocation(name=name, date=date, reason=reason, **what),
    st.just("") | names,
    st.one_of(
        st.fixed_dictionaries({"label": st.from_regex(r"[0-9a-f]{16}", fullmatch=True)}),
        st.fixed_dictionaries(
            {"pcrs": st.dictionaries(st.integers(0, 31), registers, min_size=1, max_size=4)}
        ),
    ),
    times,
    names,
)


def _policy(
    accept: frozenset[Trust], chosen: list[Release], revoked: list[Revocation], age: int, skew: int
) -> Policy:
    different = {(one.label, tuple((one.pcrs or {}).items())): one for one in revoked}.values()
    usable = [one for one in different if not any(one.matches(release.pcrs) for release in chosen)]
    return Policy(
        accept=accept,
        releases=tuple(chosen),
        revoked=tuple(usable),
        max_age=timedelta(seconds=age),
        clock_skew=timedelta(seconds=skew),
        unsafe_allow_debug=not chosen,
    )


def policies_of(*, at_least: int) -> st.SearchStrategy[Policy]:
    """Policies with this many releases or more."""
    return st.builds(
        _policy,
        st.sets(st.sampled_from([Trust.NITRO, Trust.SIMULATED]), min_size=1).map(frozenset)
        | st.just(frozenset({Trust.EMULATED})),
        st.lists(
            releases,
            min_size=at_least,
            max_size=3,
            unique_by=(lambda one: one.name, lambda one: tuple(one.pcrs.items())),
        ),
        st.lists(revocations, max_size=3),
        st.integers(1, 3 * 3600),
        st.integers(0, 600),
    )
