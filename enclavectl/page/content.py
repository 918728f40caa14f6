"""What a page holds besides its code: the policy, the root and the gateway, as JSON."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from enclavectl import __version__
from enclavectl.attestation import LifeState, Policy, Trust, TrustRoot
from enclavectl.attestation.policy_json import release_json, revocation_json
from enclavectl.errors import UsageError
from enclavectl.net.address import Address, WebSocketAddress

CONFIG_SCHEMA = "enclavectl.page-config/1"
# The title and the contact are a line each; the notice is a text.
MAX_LINE_CHARACTERS = 100
MAX_NOTICE_CHARACTERS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """What a page is made of. ``policy_text`` is the file that ``policy`` was read from.

    ``title``, ``contact`` and ``notice`` may be empty; the page has a heading of its own in each language.

    Raises:
        UsageError: no enclave could ever satisfy the page, or a text cannot be shown.
    """

    policy: Policy
    policy_text: str
    root: TrustRoot
    address: WebSocketAddress
    title: str = ""
    contact: str = ""
    notice: str = ""
    asks_token: bool = False

    def __post_init__(self) -> None:
        """Check the rule above."""
        if Trust.EMULATED in self.policy.accept:
            raise UsageError(
                "--policy: expected one whose enclaves have signed documents, found that it accepts emulated",
                hint="a page judges enclaves of the backends nitro and local; enclavectl diagnose, qemu's",
            )
        if self.root.trust not in self.policy.accept:
            raise UsageError(
                f"--root: the policy accepts {', '.join(sorted(self.policy.accept))}, "
                f"and {self.root.name} is a root of trust {self.root.trust}",
                hint="a policy of the backend local needs --root with the development root: "
                "local/root/certificate.pem in the state folder",
            )
        if self.root.trust not in {Trust.NITRO, Trust.SIMULATED}:
            raise UsageError(
                f"--root: expected one that signs documents, found one of trust {self.root.trust}"
            )
        now = datetime.now(UTC)
        states = [self.policy.state_of(one, now) for one in self.policy.releases]
        if states and all(state in {LifeState.EXPIRED, LifeState.REVOKED} for state in states):
            raise UsageError(
                "--policy: expected a release that is valid now or later, found that all are over",
                hint="enclavectl policy add FILE --from-lock LOCK adds a release",
            )
        _check_text("--title", self.title, MAX_LINE_CHARACTERS, "on one line")
        _check_text("--contact", self.contact, MAX_LINE_CHARACTERS, "on one line")
        _check_text("--notice", self.notice.replace("\n", " "), MAX_NOTICE_CHARACTERS, "and line ends")

    def config(self) -> dict[str, object]:
        """Return the page's configuration as browser/src/page/config.ts reads it."""
        return {
            "schema": CONFIG_SCHEMA,
            "title": self.title or None,
            "contact": self.contact or None,
            "address": str(self.address),
            "needs_token": self.asks_token,
            "root": {
                "certificate": base64.b64encode(self.root.certificate_der).decode("ascii"),
                "trust": str(self.root.trust),
                # Without its folder: who gets the page need not know where its maker keeps certificates.
                "name": self.root.name.rpartition("/")[2],
            },
            "policy": policy_members(self.policy),
            "policy_text": self.policy_text,
            "tool": f"enclavectl page {__version__}",
        }


def _check_text(option: str, text: str, limit: int, form: str) -> None:
    """Check a text of the page's maker.

    Raises:
        UsageError: it is too long, or has a character that nobody sees, which the message names.
    """
    unseen = next((one for one in text if not one.isprintable()), None)
    if len(text) > limit or unseen is not None:
        found = f"{len(text)}" if unseen is None else f"the character U+{ord(unseen):04X}"
        raise UsageError(f"{option}: expected at most {limit} printable characters {form}, found {found}")


def require_browser_address(address: Address) -> WebSocketAddress:
    """Return the address if a page can connect to it.

    Raises:
        UsageError: it is none of a WebSocket, or a number in brackets, which a content security policy
            cannot name (https://www.w3.org/TR/CSP3/#grammardef-host-part).
    """
    if not isinstance(address, WebSocketAddress):
        raise UsageError(
            f"--remote {address}: expected wss://HOST[:PORT][/PATH]: browsers speak nothing else",
            hint="the gateway takes both on one port",
        )
    if ":" in address.host:
        raise UsageError(f"--remote {address}: expected a name or an IPv4 address, found an IPv6 address")
    return address


def policy_members(policy: Policy) -> dict[str, object]:
    """Return a policy as browser/src/policy.ts reads it."""
    return {
        "accept": sorted(str(one) for one in policy.accept),
        "max_age_s": policy.max_age // timedelta(seconds=1),
        "clock_skew_s": policy.clock_skew // timedelta(seconds=1),
        "unsafe_allow_debug": policy.unsafe_allow_debug,
        "releases": [release_json(one) for one in policy.releases],
        "revoked": [revocation_json(one) for one in policy.revoked],
    }
