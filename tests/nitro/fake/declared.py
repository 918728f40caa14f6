"""What nitro-cli takes on its command line, by version (src/lib.rs, create_app!)."""

from __future__ import annotations

from dataclasses import replace

from tests.nitro.fake.arguments import Command

_SIGNING = frozenset({"private-key", "signing-certificate"})
_COMMANDS = {
    "run-enclave": Command(
        flags=frozenset({"debug-mode", "attach-console"}),
        values=frozenset({"cpu-count", "memory", "eif-path", "enclave-cid", "enclave-name", "config"}),
        many=frozenset({"cpu-ids"}),
        one_of=(
            frozenset({"cpu-ids", "cpu-count", "config"}),
            frozenset({"memory", "config"}),
            frozenset({"eif-path", "config"}),
        ),
    ),
    "terminate-enclave": Command(
        flags=frozenset({"all"}),
        values=frozenset({"enclave-id", "enclave-name"}),
        one_of=(frozenset({"all", "enclave-id", "enclave-name"}),),
    ),
    "build-enclave": Command(
        values=frozenset({"docker-uri", "docker-dir", "output-file", "name", "version", "metadata"})
        | _SIGNING,
        one_of=(frozenset({"docker-uri"}), frozenset({"output-file"})),
        together=(_SIGNING,),
    ),
    "describe-eif": Command(values=frozenset({"eif-path"}), one_of=(frozenset({"eif-path"}),)),
    "describe-enclaves": Command(flags=frozenset({"metadata"})),
    "console": Command(
        values=frozenset({"enclave-id", "enclave-name", "disconnect-timeout"}),
        one_of=(frozenset({"enclave-id", "enclave-name"}),),
    ),
    "pcr": Command(
        values=frozenset({"input", "signing-certificate"}),
        one_of=(frozenset({"input", "signing-certificate"}),),
    ),
    "explain": Command(values=frozenset({"error-code"}), one_of=(frozenset({"error-code"}),)),
    "sign-eif": Command(values=frozenset({"eif-path"}) | _SIGNING, together=(_SIGNING,)),
}
# Some options of 1.2.0 that older releases do not know.
_SINCE_1_2_0 = frozenset({"attach-console", "metadata"})


def commands_of(version: str) -> dict[str, Command]:
    """The subcommands of that version: what came later is unknown to it."""
    release = tuple(int(part) for part in version.split("."))
    found = {name: one for name, one in _COMMANDS.items() if name != "sign-eif" or release >= (1, 4, 0)}
    if release >= (1, 2, 0):
        return found
    return {
        name: replace(one, flags=one.flags - _SINCE_1_2_0, values=one.values - _SINCE_1_2_0)
        for name, one in found.items()
    }
