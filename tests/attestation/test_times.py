"""Times that people name: one meaning each, or they are refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from enclavectl.attestation.times import parse_moment, parse_time

MOMENT = datetime(2026, 11, 29, 14, 46, 40, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-29T14:46:40Z", "2026-11-29t14:46:40z", "2026-11-29T14:46:40z"])
def test_a_time_of_a_policy_is_a_time_of_judgement_as_well(text: str) -> None:
    assert parse_moment(text) == parse_time(text) == MOMENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-29", datetime(2026, 11, 29, tzinfo=UTC)),
        ("2026-11-29T16:46:40+02:00", MOMENT),
        ("2026-11-29T16:46:40+0200", MOMENT),
        ("2026-11-29 12:46:40-02", MOMENT),
        ("2026-11-29 14:46:40.25Z", MOMENT.replace(microsecond=250_000)),
        ("2026-11-29t14:46:40.123456789z", MOMENT.replace(microsecond=123_456)),
        ("2026-11-29T14:46Z", MOMENT.replace(second=0)),
    ],
)
def test_a_time_of_judgement_names_its_zone(text: str, expected: datetime) -> None:
    assert parse_moment(text) == expected
    assert parse_moment(text).utcoffset() == UTC.utcoffset(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-W48-7T14:46:40Z",
        "2026-W48-7",
        "2026-11-29x14:46:40Z",
        "2026-11-29T14:46:40+00:00:30",
        "2026-11-29T14:46:40",
        "2026-11-29T14Z",
        "20261129T144640Z",
        "2026-11-29T14:46:40,5Z",
        "2026-11-29T14:46:40Z\n",
        "2026-13-01",
        "2026-11-31T14:46:40Z",
        "2026-11-29T25:46:40Z",
        "2026-11-29T14:46:40+25:00",
        "\u0662026-11-29",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_has_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as info:
        parse_moment(text)
    assert type(info.value) is ValueError
