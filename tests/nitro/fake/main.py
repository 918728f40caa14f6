"""The program: src/main.rs. Arguments, then the log file, then the command; an error is the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from tests.nitro.fake import commands
from tests.nitro.fake.arguments import Matches, Said, parse
from tests.nitro.fake.declared import commands_of
from tests.nitro.fake.failure import Failure, os_error, render
from tests.nitro.fake.place import Place
from tests.nitro.fake.sysfs import show

_COMMANDS: dict[str, tuple[str, Callable[[Place, Matches], None]]] = {
    "run-enclave": ("Run Enclave", commands.run_enclave),
    "terminate-enclave": ("Terminate Enclave", commands.terminate_enclave),
    "build-enclave": ("Build Enclave", commands.build_enclave),
    "describe-eif": ("Describe EIF", commands.describe_eif),
    "describe-enclaves": ("Describe Enclave", commands.describe_enclaves),
    "console": ("Enclave Console", commands.console),
    "pcr": ("File PCR", commands.pcr),
    "explain": ("Explain Error", commands.explain),
    "sign-eif": ("Sign EIF", commands.sign_eif),
}


def main() -> None:
    """Run the command line, and end."""
    place = Place.of(sys.argv[0], os.environ)
    _remember(place)
    try:
        name, matches = parse(commands_of(place.settings.version), place.settings.version, sys.argv[1:])
    except Said as said:
        print(said.text, end="", file=sys.stderr if said.status else sys.stdout)
        sys.exit(said.status)
    action, command = _COMMANDS[name]
    try:
        _open_log(place)
        show(place)
        place.log("nitro-cli", "INFO", "Start Nitro CLI")
        command(place, matches)
    except Failure as failure:
        if not failure.action:
            failure.during(action)
        sys.stdout.flush()
        print(render(failure, place, os.environ), file=sys.stderr)
        sys.exit(failure.status)
    except BrokenPipeError:
        print("thread 'main' panicked at 'failed printing to stdout: Broken pipe'", file=sys.stderr)
        os._exit(101)


def _remember(place: Place) -> None:
    """The log of command lines, one JSON array a line, for the tests."""
    import json

    with (place.home / "argv.log").open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")


def _open_log(place: Place) -> None:
    path = place.logs / "nitro_enclaves.log"
    try:
        with path.open("a"):
            path.chmod(0o766)
    except OSError as exc:
        raise (
            Failure(
                "E19",
                f"Failed to open log file: {os_error(exc)}",
                "src/common/logger.rs:171",
                info=(str(path), "Open"),
            )
            .sub("Failed to open log file")
            .during("Logger initialization")
        ) from exc
