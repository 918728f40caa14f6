"""Commands and options of docker, kubectl, systemctl and nitro-cli, and their names here."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

# By group: the foreign words, and the equivalent command lines below that group.
_MEANT: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {
    (): {
        "ps": ("list",),
        "ls": ("list",),
        "enclaves": ("list",),
        "describe-enclaves": ("list", "describe NAME"),
        "status": ("list", "describe NAME"),
        "info": ("describe NAME", "doctor"),
        "inspect": ("describe NAME",),
        "show": ("describe NAME", "eif show FILE"),
        "stop": ("terminate NAME",),
        "rm": ("terminate NAME",),
        "kill": ("terminate NAME",),
        "delete": ("terminate NAME",),
        "terminate-enclave": ("terminate NAME",),
        "start": ("run",),
        "launch": ("run",),
        "create": ("run", "build"),
        "run-enclave": ("run",),
        "attach": ("console --follow NAME",),
        "log": ("logs NAME", "console NAME"),
        "build-enclave": ("build",),
        "image": ("eif", "build"),
        "images": ("eif", "build"),
        "describe-eif": ("eif show FILE",),
        "pcr": ("eif pcrs FILE",),
        "policies": ("policy show FILE",),
        "revoke": ("policy revoke FILE RELEASE --reason WHY",),
        "pcrs": ("eif pcrs FILE",),
        "sign": ("eif sign FILE", "build --sign KEY"),
        "sign-eif": ("eif sign FILE",),
        "diff": ("eif diff OLD NEW",),
        "extract": ("eif extract FILE",),
        "models": ("model show",),
        "kms": ("policy kms", "policy kms-lint FILE"),
        "key-policy": ("policy kms", "policy kms-lint FILE"),
        "classify": ("diagnose PICTURE",),
        "predict": ("diagnose PICTURE",),
        "infer": ("diagnose PICTURE",),
        "submit": ("send PICTURE",),
        "receive": ("listen",),
        "init": ("config init", "setup"),
        "install": ("setup",),
        "check": ("doctor", "lock check"),
        "allocate": ("setup", "plan"),
        "systemd": ("units",),
        "service": ("units",),
        "help": ("--help",),
        "version": ("--version",),
    },
    ("eif",): {
        "describe": ("show FILE",),
        "inspect": ("show FILE",),
        "info": ("show FILE",),
        "measure": ("pcrs FILE",),
        "check": ("verify FILE",),
        "compare": ("diff OLD NEW",),
        "unpack": ("extract FILE",),
    },
    ("lock",): {"verify": ("check",)},
    ("model",): {
        "list": ("show",),
        "ls": ("show",),
        "info": ("show",),
        "describe": ("show",),
        "download": ("fetch NAME",),
        "pull": ("fetch NAME",),
    },
    ("policy",): {
        "create": ("new --from-lock LOCK --to FILE",),
        "init": ("new --from-lock LOCK --to FILE",),
        "list": ("show FILE",),
        "validate": ("check FILE",),
        "verify": ("check FILE", "explain FILE DOCUMENT"),
        "expire": ("retire FILE RELEASE",),
        "remove": ("retire FILE RELEASE", "revoke FILE RELEASE --reason WHY"),
        "why": ("explain FILE DOCUMENT",),
        "compare": ("diff OLD NEW",),
    },
    ("config",): {
        "get": ("show",),
        "list": ("show",),
        "create": ("init",),
        "where": ("path",),
        "set": ("path",),
        "edit": ("path",),
    },
}
# By command: the foreign options, and ours in their place.
_MEANT_OPTIONS: dict[tuple[str, ...], dict[str, str]] = {
    (): {"-v": "--version", "-V": "--version"},
    ("run",): {
        "--cpu-count": "--cpus COUNT",
        "--cpu-ids": "--cpus COUNT",
        "--eif-path": "the image as an argument: enclavectl run FILE.eif",
        "--image": "the image as an argument: enclavectl run FILE.eif",
        "--enclave-cid": "--cid CID",
        "--enclave-name": "--name NAME",
        "--debug-mode": "--debug",
        "--attach-console": "--attach",
        "-d": "nothing: the enclave stays by itself",
        "--detach": "nothing: the enclave stays by itself",
        "-m": "--memory MIB",
    },
    ("build",): {
        "--docker-uri": "--image IMAGE",
        "--docker-dir": "--dockerfile FOLDER",
        "--output-file": "--to FILE.eif",
        "--private-key": "--sign KEY",
        "--signing-certificate": "--cert FILE",
        "-f": "--dockerfile FILE",
        "--file": "--dockerfile FILE",
        "-t": "--to FILE.eif",
        "--tag": "--to FILE.eif",
    },
    ("eif", "sign"): {"--private-key": "--key FILE", "--signing-certificate": "--cert FILE"},
    ("terminate",): {"-a": "--all"},
    ("list",): {"-a": "nothing: all are listed", "--all": "nothing: all are listed"},
    ("logs",): {"-f": "enclavectl console --follow NAME, for one that runs"},
    ("history",): {"-n": "--limit COUNT", "--all": "--limit COUNT"},
    ("console",): {"-n": "the last lines of one that has ended: enclavectl logs NAME", "--tail": "--follow"},
}
# By command that takes no argument: what somebody who gives it one probably wants.
_MEANT_ARGUMENT = {
    ("list",): "enclavectl describe NAME shows one enclave",
    ("history",): "enclavectl logs NAME shows one enclave that has ended",
    ("lock", "show"): "name a lock by its option: enclavectl lock show --lock FILE",
    ("lock", "check"): "one image, and its lock by an option: enclavectl lock check IMAGE --lock FILE",
}
# By command that takes a name: what shows the names, where somebody gave none.
_NAMES_FROM: dict[tuple[str, ...], str] = {
    ("describe",): "enclavectl list",
    ("console",): "enclavectl list",
    ("logs",): "enclavectl history",
}
# Of any command that lacks them.
_ANYWHERE = {
    "--enclave-id": "the enclave's name or id as an argument",
    "--enclave-name": "the enclave's name or id as an argument",
    "--eif-path": "the image file as an argument",
    "--json": "--output json",
    "--format": "--output json",
    "--quiet": "nothing: without a terminal there is no progress",
    "-q": "nothing: without a terminal there is no progress",
    "-y": "--yes, where a command asks",
}
_MAX_COMPARED = 64  # characters; comparing is quadratic in the length, and our commands are shorter


def option_meant_by(option: str, command: Sequence[str]) -> str | None:
    """Return what to write in place of another tool's option; None if it is none that people bring."""
    name = option.partition("=")[0]
    return _MEANT_OPTIONS.get(tuple(command), {}).get(name) or _ANYWHERE.get(name)


def argument_meant(command: Sequence[str]) -> str | None:
    """Return what to write in place of an argument that ``command`` does not take, if that is known."""
    return _MEANT_ARGUMENT.get(tuple(command))


def names_from(command: Sequence[str]) -> str | None:
    """Return the command that shows the names which ``command`` takes; None if it takes something else."""
    return _NAMES_FROM.get(tuple(command))


def meant_by(word: str, group: Sequence[str], known: Sequence[str]) -> str:
    """Make the end of a message: the commands of ``group`` that ``word`` probably means, or nothing.

    ``known`` has the names of the group's commands.
    """
    lower = word[:_MAX_COMPARED].lower()
    lines = _MEANT.get(tuple(group), {}).get(lower) or get_close_matches(lower, known, n=3, cutoff=0.6)
    if not lines:
        return ""
    paths = [" ".join(["enclavectl", *group, line]) for line in lines]
    return f"; did you mean: {', or: '.join(paths)}?"
