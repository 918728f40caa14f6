"""What nitro-cli says when a command fails."""

from __future__ import annotations

import re

from tests.cli.command import Done

CAUSE = re.compile(r"\[ (E\d{2}) \]")
LOG = re.compile(r'please provide the error log found at "(.*)"\n$')


def failed(ran: Done, *codes: str) -> str:
    """Standard error of a command that failed with these codes, the last of them its exit status."""
    assert CAUSE.findall(ran.err) == list(codes)
    assert ran.status == int(codes[-1][1:])
    assert ran.out == ""
    for code in codes:
        link = f"https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#{code}\n"
        assert f"\nFor more details, please visit {link}" in ran.err
    return ran.err


def subactions(text: str) -> list[str]:
    """What the first backtrace says was being done, the cause last."""
    block = text.split("  Subactions:\n", 1)[1].split("\n  Root error file:", 1)[0]
    return [line.strip() for line in block.splitlines()]
