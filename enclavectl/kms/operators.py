"""IAM's condition operators, as the policy engine of AWS evaluates them.

A key of the call has a list of values; an absent key has none. Rules:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html and, for
absent keys and set operators,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from ipaddress import ip_address, ip_network

from enclavectl.kms.actions import like

VARIABLE = "${"  # begins a variable such as ${aws:username}
FOR_ALL = "ForAllValues:"
FOR_ANY = "ForAnyValue:"
_IF_EXISTS = "IfExists"
_NULL = "Null"
Compare = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator taken apart: ``ForAllValues:StringNotEqualsIfExists`` has every part."""

    base: str
    """Without prefix, without IfExists, and without Not: ``StringEquals``."""
    negated: bool
    if_exists: bool
    for_all: bool
    for_any: bool

    @property
    def is_null(self) -> bool:
        """True for ``Null``, which tests whether a key is present."""
        return self.base == _NULL

    @property
    def is_exact(self) -> bool:
        """True for an operator that is true only of a present key with an equal value."""
        return self.base in _EXACT and not (self.negated or self.if_exists or self.for_all)


@lru_cache(maxsize=1024)
def parse_operator(text: str) -> Operator:
    """Take an operator apart.

    Raises:
        ValueError: there is no such operator.
    """
    prefix, colon, rest = text.rpartition(":")
    name = rest.removesuffix(_IF_EXISTS)
    base = _BASES.get(name)
    if base is None or prefix + colon not in {"", FOR_ALL, FOR_ANY} or (base[0] == _NULL and text != _NULL):
        raise ValueError(f"{text!r:.60} is no operator")
    return Operator(
        base=base[0],
        negated=base[1],
        if_exists=name != rest,
        for_all=prefix + colon == FOR_ALL,
        for_any=prefix + colon == FOR_ANY,
    )


def is_operator(text: str) -> bool:
    """Return whether there is such an operator."""
    try:
        parse_operator(text)
    except ValueError:
        return False
    return True


def operator_names() -> list[str]:
    """Return the operators without prefix and without IfExists."""
    return sorted(_BASES)


def fits(operator: Operator, value: str) -> bool:
    """Return whether a policy's value has the operator's type. AWS does not say what others would mean.

    Variables stand for text and ARNs only.
    """
    is_variable = VARIABLE in value and operator.base.startswith("Arn")
    return is_variable or _has_type(operator, value)


def _has_type(operator: Operator, value: str) -> bool:
    kind = next((one for one in _TYPES if operator.base.startswith(one)), None)
    return kind is None or _TYPES[kind](value)


def holds(operator: Operator, expected: Sequence[str], found: Sequence[str] | None) -> bool:
    """Return whether the condition is true of the values ``found``; None is an absent key."""
    if operator.is_null:
        return any((value.lower() == "true") is (found is None) for value in expected)
    if found is None:
        # IfExists changes nothing for ForAnyValue: it looks at each value, and there is none.
        return not operator.for_any and (operator.for_all or operator.if_exists or operator.negated)
    compare = _COMPARISONS[operator.base]

    def matches(value: str) -> bool:
        found_equal = any(compare(one, value) for one in expected)
        return _has_type(operator, value) and found_equal is not operator.negated

    if operator.for_all:
        return all(matches(value) for value in found)
    # A single-valued key has one value; for several without a set operator AWS promises nothing.
    return any(matches(value) for value in found)


def to_time(text: str) -> datetime | None:
    """Read a date of a condition: ISO 8601, as a day or with a time, or seconds since 1970."""
    try:
        if re.fullmatch(r"[0-9]{1,11}", text):
            return datetime.fromtimestamp(int(text), UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    try:
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except OverflowError:  # the first and the last day of the calendar, in another zone
        return None


def _arn_like(expected: str, found: str) -> bool:
    """Compare ARNs part by part: a star does not reach over the first five colons."""
    left, right = expected.split(":", 5), found.split(":", 5)
    return len(left) == len(right) == 6 and all(map(like, left, right))


def _ip(expected: str, found: str) -> bool:
    try:
        return ip_address(found) in ip_network(expected, strict=False)
    except ValueError:
        return False


def _numbers(compare: Callable[[Decimal, Decimal], bool]) -> Compare:
    def compared(expected: str, found: str) -> bool:
        try:
            return compare(Decimal(found), Decimal(expected))
        except InvalidOperation:  # not a number, or NaN
            return False

    return compared


def _dates(compare: Callable[[datetime, datetime], bool]) -> Compare:
    def compared(expected: str, found: str) -> bool:
        left, right = to_time(found), to_time(expected)
        return left is not None and right is not None and compare(left, right)

    return compared


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_truth(text: str) -> bool:
    return text.lower() in {"true", "false"}


# The types of operators by the beginnings of their names; all other operators compare any text.
_TYPES: dict[str, Callable[[str], bool]] = {
    _NULL: _is_truth,
    "Bool": _is_truth,
    "Numeric": _is_number,
    "Date": lambda text: to_time(text) is not None,
    "Ip": _is_network,
    "Arn": lambda text: text.startswith("arn:") and text.count(":") >= 5,
}
_COMPARISONS: dict[str, Compare] = {
    "StringEquals": lambda expected, found: expected == found,
    "StringEqualsIgnoreCase": lambda expected, found: expected.lower() == found.lower(),
    "StringLike": like,
    "ArnEquals": _arn_like,  # AWS documents both ARN operators as the same
    "ArnLike": _arn_like,
    "Bool": lambda expected, found: expected.lower() == found.lower(),
    "BinaryEquals": lambda expected, found: expected == found,
    "IpAddress": _ip,
    "NumericEquals": _numbers(lambda left, right: left == right),
    "NumericLessThan": _numbers(lambda left, right: left < right),
    "NumericLessThanEquals": _numbers(lambda left, right: left <= right),
    "NumericGreaterThan": _numbers(lambda left, right: left > right),
    "NumericGreaterThanEquals": _numbers(lambda left, right: left >= right),
    "DateEquals": _dates(lambda left, right: left == right),
    "DateLessThan": _dates(lambda left, right: left < right),
    "DateLessThanEquals": _dates(lambda left, right: left <= right),
    "DateGreaterThan": _dates(lambda left, right: left > right),
    "DateGreaterThanEquals": _dates(lambda left, right: left >= right),
}
_EXACT = frozenset({"StringEquals", "StringEqualsIgnoreCase"})
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}
# Each operator's base and whether it is negated.
_BASES: dict[str, tuple[str, bool]] = {
    **{name: (name, False) for name in (*_COMPARISONS, _NULL)},
    **{name: (base, True) for name, base in _NEGATED.items()},
}
