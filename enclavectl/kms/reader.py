"""The reader of key policies: JSON with typed members, or one KeyPolicyError.

It is stricter than PutKeyPolicy where a policy could be read in two ways: a key that stands twice, also in
another case, an unknown member or operator, or a value of another type than its operator's. It takes what
PutKeyPolicy takes and what the lint has to show, such as a statement without Resource.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from enclavectl.json_object import JsonError, JsonObject, JsonValue
from enclavectl.kms.key_policy import (
    MAX_KEY_POLICY_BYTES,
    Condition,
    Effect,
    KeyPolicy,
    KeyPolicyError,
    Principals,
    Statement,
)
from enclavectl.kms.operators import fits, is_operator, operator_names, parse_operator
from enclavectl.suggest import suggestion

# What the API's model allows; above the quota of 32 KiB the lint says what is wrong (K37).
MAX_READABLE_BYTES = 128 * 1024
# More than a policy of 32 KiB has room for, and few enough to compare each with each.
_MAX_STATEMENTS = 512
_VERSIONS = ("2012-10-17", "2008-10-17")
_KINDS = ("Service", "Federated", "CanonicalUser")
_MEMBERS = (
    *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction"),
    *("Resource", "NotResource", "Condition"),
)


def parse_key_policy(data: bytes, *, source: str, limit: int = MAX_KEY_POLICY_BYTES) -> KeyPolicy:
    """Read a key policy of at most ``limit`` bytes; ``source`` is the file's name, for messages.

    Raises:
        KeyPolicyError: ``key-policy-size``, ``key-policy-json`` (not JSON, nested too deep, or a key twice)
            or ``key-policy-form`` (a member is missing, unknown or of another type).
    """
    try:
        return _policy(JsonObject.parse(data, limit=limit), len(data))
    except JsonError as exc:
        codes = {"size": "key-policy-size", "member": "key-policy-form"}
        raise KeyPolicyError(
            f"{source}: expected a key policy: {exc}",
            hint="aws kms get-key-policy --output text --query Policy prints one",
            code=codes.get(exc.rule, "key-policy-json"),
        ) from exc


def _policy(value: JsonObject, size: int) -> KeyPolicy:
    value.require_keys(("Statement",), ("Version", "Id"))
    version = value.optional_string("Version") or _VERSIONS[1]  # the default of the grammar
    if version not in _VERSIONS:
        raise JsonError(f"Version: expected {' or '.join(_VERSIONS)}, found {version!r:.60}")
    found = value.members["Statement"]
    listed = found if isinstance(found, list) else [found]
    if not 1 <= len(listed) <= _MAX_STATEMENTS:
        raise JsonError(f"Statement: expected 1 to {_MAX_STATEMENTS}, found {len(listed)}")
    statements = tuple(
        _statement(JsonObject.of(one, f"Statement[{index}]"), f"Statement[{index}]", index + 1)
        for index, one in enumerate(listed)
    )
    sids = [one.sid for one in statements if one.sid is not None]
    if len(set(sids)) != len(sids):
        raise JsonError("Statement: expected different Sids, found one twice")
    return KeyPolicy(
        statements=statements, version=version, identifier=value.optional_string("Id"), size=size
    )


def _statement(value: JsonObject, where: str, place: int) -> Statement:
    value.require_keys(("Effect",), _MEMBERS)
    for name in ("Principal", "Action", "Resource"):
        if name in value and f"Not{name}" in value:
            raise JsonError(f"{where}: expected {name} or Not{name}, found both")
    if "Principal" not in value and "NotPrincipal" not in value:
        raise JsonError(f"{where}: expected the key Principal: each statement of a key policy needs one")
    effect = value.string("Effect")
    if effect not in set(Effect):
        raise JsonError(f"{where}.Effect: expected Allow or Deny, found {effect!r:.60}")
    actions, not_actions = _texts_or_not(value, where, "Action")
    resources, not_resources = _texts_or_not(value, where, "Resource")
    return Statement(
        place=place,
        sid=value.optional_string("Sid"),
        effect=Effect(effect),
        principals=_principals(value, where),
        actions=actions,
        not_actions=not_actions,
        resources=resources,
        not_resources=not_resources,
        conditions=tuple(_conditions(value, where)),
    )


def _texts_or_not(value: JsonObject, where: str, name: str) -> tuple[tuple[str, ...] | None, bool]:
    """Return the texts of a member and False, of its negation and True, or None."""
    for member in (name, f"Not{name}"):
        if member in value:
            return _texts(value.members[member], f"{where}.{member}"), member != name
    return None, False


def _texts(value: JsonValue, where: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    found = tuple(one for one in listed if isinstance(one, str) and one)
    if not found or len(found) != len(listed):
        raise JsonError(f"{where}: expected a text or a list of texts, none of them empty")
    return found


def _principals(value: JsonObject, where: str) -> Principals:
    negated = "NotPrincipal" in value
    name = "NotPrincipal" if negated else "Principal"
    found, where = value.members[name], f"{where}.{name}"
    if found == "*":
        return Principals(accounts=("*",), negated=negated)
    kinds = JsonObject.of(found, where)
    kinds.require_keys((), ("AWS", *_KINDS))
    if not list(kinds):
        raise JsonError(f"{where}: expected AWS, Service or Federated, found nothing")
    accounts = _texts(kinds.members["AWS"], f"{where}.AWS") if "AWS" in kinds else ()
    others = tuple(
        (kind, one)
        for kind in _KINDS
        if kind in kinds
        for one in _texts(kinds.members[kind], f"{where}.{kind}")
    )
    return Principals(accounts=accounts, others=others, negated=negated)


def _conditions(value: JsonObject, where: str) -> Iterator[Condition]:
    if "Condition" not in value:
        return
    operators = value.object("Condition")
    for operator in operators:
        if not is_operator(operator):
            raise JsonError(
                f"{where}.Condition: {operator!r:.60} is no operator; "
                f"{suggestion(operator[:64], operator_names())}"
            )
        keys = operators.object(operator)
        names = [key.lower() for key in keys]
        if not names or len(set(names)) != len(names):
            raise JsonError(f"{where}.Condition.{operator}: expected at least one key, and none twice")
        for key in keys:
            values = _values(keys.members, key, place := f"{where}.{operator}.{key}")
            wrong = next((one for one in values if not fits(parse_operator(operator), one)), None)
            if wrong is not None:
                raise JsonError(f"{place}: {wrong!r:.60} is not of the operator's type")
            yield Condition(operator=operator, key=key, values=values)


def _values(members: Mapping[str, JsonValue], key: str, where: str) -> tuple[str, ...]:
    """Return the values as texts: IAM compares true and 1 as "true" and "1"."""
    found = members[key]
    listed = found if isinstance(found, list) else [found]
    if not listed:
        raise JsonError(f"{where}: expected at least one value, found none")
    return tuple(_value(one, where) for one in listed)


def _value(value: JsonValue, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise JsonError(f"{where}: expected a text, a whole number, true or false")
