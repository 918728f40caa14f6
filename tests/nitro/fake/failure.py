"""``NitroCliFailure``: the error that becomes ``[ Exx ]``, a backtrace, a log file and the exit status."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.nitro.fake.place import Place

_MESSAGES = Path(__file__).with_name("messages.json")
_LINK = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#"


class Failure(Exception):
    """An error on its way up: ``root`` is what went wrong, ``sub`` adds what was being done."""

    def __init__(self, code: str, root: str, at: str, *, info: Sequence[str] = ()) -> None:
        """``at`` is the place in the real one's sources, as ``src/file.rs:123``."""
        super().__init__(root)
        self.code = code
        self.info = tuple(info)
        self.action = ""
        self.subactions = [root]
        self.file, _, self.line = at.partition(":")

    def sub(self, *texts: str) -> Self:
        """The same failure, one or more callers further up."""
        self.subactions += texts
        return self

    def during(self, action: str) -> Self:
        """The same failure, with the command that it happened to."""
        self.action = action
        return self

    @property
    def status(self) -> int:
        """The exit status."""
        return int(self.code[1:])


def os_error(exc: OSError) -> str:
    """An OSError as Rust's Debug prints it."""
    kinds = {2: "NotFound", 13: "PermissionDenied", 111: "ConnectionRefused", 17: "AlreadyExists"}
    kind = kinds.get(exc.errno or 0, "Uncategorized")
    return f'Os {{ code: {exc.errno}, kind: {kind}, message: "{exc.strerror}" }}'


def render(failure: Failure, place: Place, environ: Mapping[str, str]) -> str:
    """The text for standard error. The backtrace is in a new err log, and here where BACKTRACE=1 asks."""
    backtrace = _backtrace(failure, place.settings.version)
    log = _log(backtrace, place)
    parts = [_detail(failure), f"For more details, please visit {_LINK}{failure.code}"]
    if environ.get("BACKTRACE") == "1":
        parts.append(f"Backtrace:\n{backtrace}")
    if log is not None:
        parts.append(f'If you open a support ticket, please provide the error log found at "{log}"')
    return "\n\n".join(parts)


def _detail(failure: Failure) -> str:
    templates: list[str] = json.loads(_MESSAGES.read_bytes())["detail"][failure.code]
    info = [*failure.info, "MISSING_INFO", "MISSING_INFO"]
    match failure.code:
        case "E19":
            text = templates[0] + (templates[1] if len(failure.info) >= 2 else "")
        case "E26":
            text = templates[0 if len(failure.info) >= 3 else 1]
        case _:
            text = templates[0]
    for value in info[: text.count("{}")]:
        text = text.replace("{}", value, 1)
    return f"[ {failure.code} ] {text}"


def _backtrace(failure: Failure, version: str) -> str:
    subactions = "".join(f"\n    {text}" for text in reversed(failure.subactions))
    return (
        f"  Action: {failure.action}\n  Subactions:{subactions}\n  Root error file: {failure.file}\n"
        f"  Root error line: {failure.line}\n  Version: {version}"
    )


def _log(backtrace: str, place: Place) -> str | None:
    now = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    path = place.logs / f"err{stamp}.{now % 10**9:09}+00:00.log"
    try:
        place.logs.mkdir(parents=True, exist_ok=True)
        path.write_text(backtrace)
    except OSError:
        return None
    return str(path)


def explanation(code: str) -> str:
    """What ``explain`` says; three codes were forgotten."""
    texts: dict[str, list[str]] = json.loads(_MESSAGES.read_bytes())["explain"]
    return texts[code][0] if code in texts else f"No such error code {code}"
