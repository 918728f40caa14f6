"""Groups: what /etc/group says against what this process has, which was decided at the login."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from enclavectl.host.host import User


class Membership(Enum):
    """How a user stands to a group."""

    CURRENT = "member"
    OLD_LOGIN = "member, but this login is older"
    OUTSIDE = "not a member"
    NO_GROUP = "no such group"


def membership(groups: Mapping[str, tuple[int, frozenset[str]]], user: User, group: str) -> Membership:
    """Return how this user, as logged in, stands to a group; ``groups`` has each one's number and members.

    A member whom /etc/group does not name, such as one of a directory service, is seen by the login alone.
    """
    if group not in groups:
        return Membership.NO_GROUP
    number, members = groups[group]
    if number in user.gids:
        return Membership.CURRENT
    return Membership.OLD_LOGIN if user.name in members else Membership.OUTSIDE
