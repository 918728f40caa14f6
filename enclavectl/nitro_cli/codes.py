"""The causes of nitro-cli's error codes in plain words, and their fixes.

The codes and their triggers: https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.5.0/src/common/mod.rs and
https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html, which has an anchor for each.
"""

from __future__ import annotations

from dataclasses import dataclass

_DOCS = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html"
_DOCTOR = "enclavectl doctor"
_PLAN = "enclavectl plan says what fits and which allocator values to set"
_LOGS = "look into /var/log/nitro_enclaves/nitro_enclaves.log, then try again"
_BUG = "report it with the log that it names: the command line that we gave is not to blame"
_RERUN = "run the command again; if it stays, restart the instance"


@dataclass(frozen=True, slots=True)
class Meaning:
    """The cause and the fix of a code, in plain words."""

    cause: str
    fix: str


def documentation(code: str) -> str:
    """Return the address of AWS's page for a code such as E19."""
    return f"{_DOCS}#{code}"


MEANINGS = {
    "E00": Meaning("nitro-cli failed and does not say why", _LOGS),
    "E01": Meaning("an argument is missing", _BUG),
    "E02": Meaning("two arguments contradict each other", _BUG),
    "E03": Meaning(
        "a number, a memory size or a CID is none that nitro-cli takes",
        "give whole numbers; CIDs are 4 to 4294967294",
    ),
    "E04": Meaning(
        "no pair of sockets could be made", "are there descriptors left? ulimit -n, then run it again"
    ),
    "E05": Meaning("no process could be started", "are there processes and memory left? ulimit -u; free -m"),
    "E06": Meaning("the process that keeps the enclave could not go into the background", _RERUN),
    "E07": Meaning(
        "the folder of the enclaves' sockets is missing or closed to this user",
        "enclavectl setup, or: sudo systemd-tmpfiles --create; then log in anew if you were just added to ne",
    ),
    "E08": Meaning("a message came from where none can come", _BUG),
    "E09": Meaning("a connection to an enclave's process could not be closed", _RERUN),
    "E10": Meaning("the console's time limit could not be set", _RERUN),
    "E11": Meaning("there is no such enclave, or it has just ended", "enclavectl list shows what runs"),
    "E12": Meaning("waiting for an enclave's events failed", _LOGS),
    "E13": Meaning(
        "the enclave's socket file cannot be watched",
        "raise fs.inotify.max_user_watches (sysctl), then run it again",
    ),
    "E14": Meaning(
        "a command could not be sent to an enclave's process",
        "was nitro-cli upgraded while the enclave ran? Terminate it and start it again",
    ),
    "E15": Meaning("another part of the enclave's process failed before", _LOGS),
    "E16": Meaning("a part of the enclave's process failed", _LOGS),
    "E17": Meaning(
        "a message or the image's custom metadata is not what nitro-cli reads",
        "enclavectl eif verify FILE says whether the metadata is an object, as it must be",
    ),
    "E18": Meaning(
        "nitro-cli's log belongs to another user",
        "sudo chown root:ne /var/log/nitro_enclaves/nitro_enclaves.log; sudo chmod 0664 (the same file)",
    ),
    "E19": Meaning("a file cannot be opened, read or written", f"{_DOCTOR} checks them all"),
    "E20": Meaning("a CPU is named twice", "name each CPU once"),
    "E21": Meaning("a CPU is not in the pool of the enclaves", _PLAN),
    "E22": Meaning("more CPUs were asked for than the whole pool has", _PLAN),
    "E23": Meaning(
        "the list of CPUs in the pool cannot be read", f"{_DOCTOR} shows the pool as the driver sees it"
    ),
    "E24": Meaning("a range of CPUs cannot be read", f"{_DOCTOR} shows the pool as the driver sees it"),
    "E25": Meaning("a size of huge pages is not one that nitro-cli knows", _BUG),
    "E26": Meaning("less memory was asked for than four times the image", _PLAN),
    "E27": Meaning("fewer huge pages are free than were asked for", _PLAN),
    "E28": Meaning("the driver gave no enclave", _DOCTOR),
    "E29": Meaning("the driver refused", f"{_DOCTOR} checks what it asks for"),
    "E30": Meaning("the driver did not say where the image belongs", _DOCTOR),
    "E31": Meaning("the driver refused the memory", _PLAN),
    "E32": Meaning("the driver refused a CPU", _PLAN),
    "E33": Meaning("the driver refused to start the enclave", _DOCTOR),
    "E34": Meaning("the image does not fit into the enclave's memory", _PLAN),
    "E35": Meaning(
        "the image cannot be read, or its memory is not there after all (too few huge pages)",
        "enclavectl eif verify FILE checks the image, enclavectl doctor the huge pages",
    ),
    "E36": Meaning(
        "the enclave gave no sign of life in time, or something else listens on vsock port 9000",
        "enclavectl run --debug shows the boot text; enclavectl doctor says who has port 9000",
    ),
    "E37": Meaning("waiting for the enclave's events failed", _LOGS),
    "E38": Meaning("an enclave's process answered, but not with success", _LOGS),
    "E39": Meaning(
        "an enclave's process did not answer: it is busy, another user's, or just ended",
        "enclavectl list shows what runs; sudo -u USER for another user's enclave",
    ),
    "E40": Meaning("no socket belongs to such an id", "enclavectl list shows the ids"),
    "E41": Meaning("an enclave's process could not answer", "enclavectl list shows whether it still runs"),
    "E42": Meaning("huge pages could not be taken", _PLAN),
    "E43": Meaning(
        "huge pages could not be given back", "restart nitro-enclaves-allocator once nothing runs"
    ),
    "E44": Meaning(
        "the console refused: the enclave is not in debug mode, or somebody else reads it",
        "only enclaves that were started with --debug have a console",
    ),
    "E45": Meaning(
        "the console broke off, as it does when the enclave ends", "enclavectl history says how it ended"
    ),
    "E46": Meaning("what the console said could not be written", "is the disk full?"),
    "E47": Meaning("the enclave's CID is not one that has a console", _BUG),
    "E48": Meaning(
        "the image could not be built",
        "enclavectl build --builder native needs no blobs and no linuxkit; doctor checks the blobs",
    ),
    "E49": Meaning("Docker could not build its image", "docker build shows what it dislikes"),
    "E50": Meaning(
        "Docker could not pull its image", "docker pull IMAGE first: nitro-cli knows no credential helpers"
    ),
    "E51": Meaning("there is no folder for the build's parts", "set HOME, which services and cron leave out"),
    "E52": Meaning(
        "there is no folder with the boot files", "enclavectl setup installs them (the -devel package)"
    ),
    "E53": Meaning("the clock went backwards while the console was read", "enclavectl console again"),
    "E54": Meaning("signals could not be blocked", _RERUN),
    "E55": Meaning("signals could not be let through again", _RERUN),
    "E56": Meaning(
        "nitro-cli's log cannot be used",
        "is the disk full? Is /var/log/nitro_enclaves there? enclavectl doctor checks it",
    ),
    "E57": Meaning(
        "a certificate or a file could not be hashed", "is it one PEM certificate? openssl x509 -in FILE"
    ),
    "E58": Meaning("no enclave has this name, or several have", "enclavectl list shows names and ids"),
    "E59": Meaning(
        "the image's signature or certificate does not hold (expired, not yet valid, or wrong)",
        "enclavectl eif verify FILE says which; enclavectl eif sign signs it again",
    ),
    "E60": Meaning(
        "the image could not be signed",
        "are key and certificate readable and a pair? For KMS keys: are the AWS credentials fresh?",
    ),
}
