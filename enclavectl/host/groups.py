"""Group memberships: those in /etc/group, compared with this process's, which date from the login."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from enclavectl.host.host import User


class Membership(Enum):
    """The state of a user's membership in a group."""

    CURRENT = "member"
    OLD_LOGIN = "member, but this login is older"
    OUTSIDE = "not a member"
    NO_GROUP = "no such group"


def membership(groups: Mapping[str, tuple[int, frozenset[str]]], user: User, group: str) -> Membership:
    """Determine this user's membership in a group; ``groups`` has each group's number and members.

    A member from a directory service is not in /etc/group and is known only by the login.
    """
    if group not in groups:
        return Membership.NO_GROUP
    number, members = groups[group]
    if number in user.gids:
        return Membership.CURRENT
    return Membership.OLD_LOGIN if user.name in members else Membership.OUTSIDE
