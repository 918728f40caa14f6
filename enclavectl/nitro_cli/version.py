"""Which nitro-cli is installed, and what that release can do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Self

from enclavectl.nitro_cli.stream import AnswerError


@dataclass(frozen=True, slots=True, order=True)
class NitroVersion:
    """A release of nitro-cli; they compare by age."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The release in the line of ``nitro-cli --version``: ``Nitro CLI 1.5.0``.

        Raises:
            AnswerError: the text has no version.
        """
        match = re.search(r"(?:^|\s)([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})", text[:200])
        if match is None:
            raise AnswerError(f"expected a line such as Nitro CLI 1.5.0, found {text[:60]!r}")
        return cls(*map(int, match.groups()))

    def can(self, feature: Feature) -> bool:
        """Whether this release has it."""
        return self >= feature.value


class Feature(Enum):
    """What came with which release: read from the tags of the repository."""

    DESCRIBE_PCRS = NitroVersion(1, 1, 0)
    """Names, PCRs in describe-enclaves, describe-eif, pcr, the 4x rule."""
    DESCRIBE_METADATA = NitroVersion(1, 2, 0)
    """describe-enclaves --metadata, --attach-console."""
    SIGN_EIF = NitroVersion(1, 4, 0)
    """sign-eif, and KMS keys for it and for build-enclave."""
    TERMINATE_ALL_ARRAY = NitroVersion(1, 4, 3)
    """terminate-enclave --all prints an array."""
    SIGNING_FAILS_HARD = NitroVersion(1, 5, 0)
    """An unreadable key fails the build; before, the image stayed unsigned without a word."""


# Names of enclaves, which all our commands give, came with it.
OLDEST = NitroVersion(1, 1, 0)
