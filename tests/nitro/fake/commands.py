"""The subcommands, as src/main.rs and src/lib.rs have them."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from tests.nitro.fake import client
from tests.nitro.fake.arguments import Matches
from tests.nitro.fake.failure import Failure, explanation, os_error
from tests.nitro.fake.place import Place
from tests.nitro.fake.requests import console_timeout, run_arguments

_REPLIES = "Failed to handle all enclave process replies"


def run_enclave(place: Place, matches: Matches) -> None:
    """Boot an enclave in a process of its own, and say what it got."""
    arguments = run_arguments(matches, place.settings.release)
    from tests.nitro.fake.process import become_daemon

    connection = become_daemon(place, os.environ)
    try:
        taken = client.names(place)
    except Failure as failure:
        raise failure.sub(_REPLIES).during("Get Enclaves Name") from None
    name = arguments["enclave_name"] or re.sub(r"(\.eif)+$", "", arguments["eif_path"].rpartition("/")[2])
    number, unique = 0, name
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    arguments["enclave_name"] = unique
    connection.send_command("run", place.settings.user, arguments)
    try:
        [info] = client.print_replies([connection], 0, as_array=False)
    except Failure as failure:
        raise failure.sub(_REPLIES) from None
    if arguments["attach_console"]:
        try:
            client.read_console(place, info["EnclaveCID"], None)
        except Failure as failure:
            raise failure.sub("Failed to connect to enclave console").during("Enclave Console") from None


def describe_enclaves(place: Place, matches: Matches) -> None:
    """An array of all enclaves; those that do not answer are counted on stderr, and cost an E39."""
    try:
        connections, failed = client.send_to_all(place, "describe", matches.flag("metadata"))
    except Failure as failure:
        raise failure.sub("Failed to send DescribeEnclave command to all enclave processes") from None
    try:
        client.print_replies(connections, failed, as_array=True)
    except Failure as failure:
        raise failure.sub(_REPLIES) from None


def terminate_enclave(place: Place, matches: Matches) -> None:
    """One enclave is gone, or all that are this user's."""
    if matches.flag("all"):
        try:
            _terminate_all(place)
        except Failure as failure:
            doing = "Failed to terminate all running enclaves"
            raise failure.sub(doing).during("Terminate All Enclaves") from None
        return
    enclave_id = _enclave_id(place, matches, "Failed to construct TerminateEnclave arguments")
    try:
        connection = client.connect_to_one(place, enclave_id)
    except Failure as failure:
        raise failure.sub("Failed to connect to enclave process") from None
    connection.send_command("terminate", place.settings.user)
    try:
        client.print_replies([connection], 0, as_array=False)
    except Failure as failure:
        raise failure.sub(_REPLIES) from None


def _terminate_all(place: Place) -> None:
    try:
        list(place.sockets.iterdir())
    except OSError as exc:
        reason = f"Error while accessing sockets directory: {os_error(exc)}"
        raise Failure("E19", reason, "src/lib.rs:441", info=(str(place.sockets), "Read")) from exc
    connections = client.connect_to_all(place)
    for connection in connections:
        connection.send_command("terminate", place.settings.user)
    try:
        # Before 1.4.3 the objects came one after the other, and nothing when there were none.
        as_array = place.settings.release >= (1, 4, 3)
        client.print_replies(connections, 0, as_array=as_array, allowed=(0, 13))
    except Failure as failure:
        raise failure.sub("Failed to handle all enclave processes replies") from None


def console(place: Place, matches: Matches) -> None:
    """The console of a debug-mode enclave, until it ends."""
    enclave_id = _enclave_id(place, matches, "Failed to construct Console arguments")
    timeout_s = console_timeout(matches)
    cid = client.ask(place, enclave_id, "cid", "Failed to retrieve enclave CID")
    flags = client.ask(place, enclave_id, "flags", "Failed to retrieve enclave flags")
    if not flags:
        raise Failure(
            "E44",
            "The enclave was not started with the debug flag set, include '--debug-mode' in the run-enclave "
            "command",
            "src/main.rs:263",
        ).sub("Failed to connect to enclave console")
    try:
        client.read_console(place, cid, timeout_s)
    except Failure as failure:
        raise failure.sub("Failed to connect to enclave console") from None


def _enclave_id(place: Place, matches: Matches, doing: str) -> str:
    name = matches.one("enclave-name")
    if name is None:
        return str(matches.one("enclave-id"))
    try:
        return client.id_by_name(place, name)
    except Failure as failure:
        raise failure.sub("Get ID by Name", doing) from None


def describe_eif(place: Place, matches: Matches) -> None:
    """What is in an image. A wrong CRC or signature is a field, not an error."""
    from tests.nitro.fake.measure import describe_eif as describe

    try:
        value = describe(str(matches.one("eif-path")), place)
    except Failure as failure:
        raise failure.sub("Failed to describe EIF") from failure.__cause__
    _print(value)


def pcr(place: Place, matches: Matches) -> None:
    """The PCR of a file's bytes, or PCR8 of a certificate."""
    from hashlib import sha384

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from enclavectl.eif.measure import extend_once

    doing = "Failed to get the PCR hash of the file contents"
    certificate = matches.one("signing-certificate")
    try:
        data = Path(str(certificate or matches.one("input"))).read_bytes()
    except OSError as exc:
        reason = f"Failed to open file: {os_error(exc)}"
        raise Failure("E19", reason, "src/lib.rs:574").sub(doing) from exc
    if certificate is not None:
        try:
            data = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
        except ValueError as exc:
            reason = f"Failed to deserialize .pem: {exc}"
            raise Failure("E57", reason, "src/lib.rs:592").sub(doing) from exc
    _print({"PCR8" if certificate is not None else "PCR": extend_once(sha384(data).digest())})


def explain(_place: Place, matches: Matches) -> None:
    """What a code means: on stderr, and never an error."""
    print(explanation(str(matches.one("error-code"))), file=sys.stderr)


def sign_eif(place: Place, matches: Matches) -> None:
    """The image has a signature, in place."""
    from tests.nitro.fake.signing import sign

    path = matches.one("eif-path")
    if path is None:
        doing = ("Parse EIF path", "Failed to construct SignEIF arguments")
        at = "src/common/commands_parser.rs:445"
        raise Failure("E01", "`eif-path` argument not found", at).sub(*doing)
    try:
        measurements = sign(path, matches.one("private-key"), matches.one("signing-certificate"), place)
    except Failure as failure:
        raise failure.sub("Failed to sign EIF") from failure.__cause__
    print("Enclave Image successfully signed.", file=sys.stderr)
    _print({"Measurements": measurements})


def build_enclave(_place: Place, _matches: Matches) -> None:
    """Nothing is built here; the failure is the one without the -devel package."""
    print("Start building the Enclave Image...", file=sys.stderr)
    path = os.environ.get("NITRO_CLI_BLOBS", "/usr/share/nitro_enclaves/blobs/") + "/cmdline"
    missing = os_error(FileNotFoundError(2, "No such file or directory"))
    reason = f"Could not open kernel command line file: {missing}"
    raise Failure("E19", reason, "src/lib.rs:86", info=(path, "Open")).sub(
        "Failed to build EIF from docker", "Failed to build enclave"
    )


def _print(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
