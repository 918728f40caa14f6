"""Names of enclaves: the rule for valid ones, and generated ones."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from itertools import count

from enclavectl.errors import StateError, UsageError

# Names occur in tables, file names, policies and shell commands. 64 characters is nitro-cli's limit.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# Short, easy to distinguish by ear, and neutral: they may appear beside a patient's picture.
_ADJECTIVES = (
    "amber", "ample", "basic", "brave", "brief", "bright", "brisk", "calm", "clear", "cosmic", "crisp",
    "daring", "dusty", "eager", "early", "even", "exact", "fair", "firm", "fleet", "fresh", "gentle",
    "gold", "grand", "great", "green", "happy", "hardy", "humble", "ideal", "jolly", "keen", "kind",
    "level", "light", "lively", "lucid", "mellow", "mild", "modest", "neat", "noble", "open", "patient",
    "plain", "polite", "prime", "proud", "quick", "quiet", "rapid", "ready", "robust", "round", "sharp",
    "silver", "simple", "smooth", "solid", "steady", "sturdy", "sunny", "swift", "tidy", "vivid", "warm",
    "wise", "young",
)  # fmt: skip
_NOUNS = (
    "acorn", "anchor", "aspen", "badger", "basin", "beacon", "birch", "bison", "bridge", "brook",
    "canyon", "cedar", "cliff", "clover", "comet", "coral", "crane", "delta", "dune", "eagle", "ember",
    "falcon", "fern", "field", "finch", "fjord", "forest", "garden", "glade", "harbor", "hazel", "heron",
    "island", "ivy", "juniper", "kestrel", "lagoon", "lake", "lantern", "larch", "lark", "linden",
    "lotus", "maple", "marsh", "meadow", "meteor", "moss", "oak", "orbit", "osprey", "otter", "pebble",
    "pine", "planet", "plateau", "pond", "prairie", "quartz", "raven", "reef", "ridge", "river", "robin",
    "sparrow", "spruce", "summit", "swan", "thistle", "tide", "tulip", "valley", "walnut", "willow",
    "wren",
)  # fmt: skip
# If one name in twenty is taken, all eight draws are taken once in 25 thousand million times.
_DRAWS = 8


def check_name(name: str) -> None:
    """Check that the name is valid.

    Raises:
        UsageError: it is not.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"name: expected 1 to 64 letters, digits, dots, dashes or underscores, found {name!r:.100}"
        )


def require_free_name(name: str, taken: Collection[str]) -> None:
    """Check that no enclave has the name.

    Raises:
        StateError: an enclave has it.
    """
    if name in taken:
        raise StateError(
            f"{name}: an enclave of this name exists already",
            hint=f"choose another --name, or: enclavectl terminate {name}",
        )


def two_words(taken: Collection[str], random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Generate a name of two words, such as ``quiet-harbor``, that is not in ``taken``."""
    name = ""
    for _ in range(_DRAWS):
        name = _draw(random_bytes)
        if name not in taken:
            return name
    return next(longer for number in count(2) if (longer := f"{name}-{number}") not in taken)


def _draw(random_bytes: Callable[[int], bytes]) -> str:
    # Not the random module: its imports would slow the start of an enclave. The bias of the remainder is
    # harmless.
    number = int.from_bytes(random_bytes(4), "big")
    return f"{_ADJECTIVES[number % len(_ADJECTIVES)]}-{_NOUNS[number // len(_ADJECTIVES) % len(_NOUNS)]}"


def module_id(enclave_id: str) -> str:
    """Return a module id of AWS's form whose instance part no EC2 instance has."""
    return f"i-{0:017x}-{enclave_id}"
