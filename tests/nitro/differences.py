"""Where the fake and the real nitro-cli on a host in software cannot be the same, and why.

A test that is named here runs on the fake alone. docs/testing.md shows this table.
"""

from __future__ import annotations

_VERSIONS = "the fake plays every release from 1.1.0 on; the real one is the release that the lane builds"

ON_THE_FAKE_ONLY = {
    "test_terminate_all_by_version": _VERSIONS,
    "test_what_came_later_is_unknown": _VERSIONS,
    "test_the_hasher_has_another_name_by_version": _VERSIONS,
    "test_every_release_is_served": _VERSIONS,
    "test_the_hint_on_another_users_enclave_has_nothing_of_theirs_to_run": (
        "its program is replaced by one that refuses as for another user's enclave"
    ),
}
