"""The lint of an image before it is measured: its settings, its layers, its files, its size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from enclavectl.eif.file_range import FileRange
from enclavectl.eif.format import MAX_SIGNATURE, Arch
from enclavectl.eif.pem import holds_private_key
from enclavectl.eif.ramdisk.archive import ImageArchive
from enclavectl.eif.ramdisk.cpio import show
from enclavectl.eif.ramdisk.entries import Kind, to_entry
from enclavectl.eif.ramdisk.layers import ImpliedDirectories
from enclavectl.eif.ramdisk.manifest import ImageConfig
from enclavectl.eif.ramdisk.ramdisks import Mode
from enclavectl.eif.ramdisk.stream import read_ramdisk
from enclavectl.eif.ramdisk.tar import read_tar
from enclavectl.errors import UsageError
from enclavectl.image.context import ContextFile
from enclavectl.image.findings import LintFinding, Rule
from enclavectl.image.secrets import secret_arguments, secret_variables, secrets_in, secrets_in_text
from enclavectl.models.probe import OP_VERSION, probe
from enclavectl.models.weights import Model
from enclavectl.nitro_cli.limits import minimum_memory_mib

_SHOWN = 120  # characters of each end of a path: more makes a message unreadable
_CAPABILITY = b"security.capability"
_MEANING = {
    "User": "USER is ignored: the command runs as root",
    "WorkingDir": "WORKDIR is ignored: the command starts in /",
    "Healthcheck": "HEALTHCHECK is ignored: nothing runs it",
    "Volumes": "VOLUME is ignored: there is one file system, in memory",
    "StopSignal": "STOPSIGNAL is ignored: an enclave is ended, not stopped",
    "ExposedPorts": "EXPOSE is ignored: there is no network, only vsock",
}


def lint_context(files: Iterable[ContextFile]) -> Iterator[LintFinding]:
    """Find secrets in the build context."""
    for file in files:
        for rule, what in secrets_in(file.name.encode(errors="surrogateescape"), _content(file)):
            yield LintFinding(rule=rule, where=f"context: {file.name}", message=f"{what}; leave it out")


def _content(file: ContextFile) -> Iterator[bytes]:
    if file.data is not None:
        yield file.data
    elif file.path is not None:
        with file.path.open("rb") as source:
            while chunk := source.read(1 << 20):
                yield chunk


def lint_model(model: Model, *, is_images_runtime: bool) -> Iterator[LintFinding]:
    """Warn of a batch dimension that is not fixed: tflite-runtime then cannot use its fast kernels.

    ``is_images_runtime`` is true if the image has the runtime that the model is tried in here.

    Raises:
        UsageError: the model cannot serve.
    """
    try:
        found = probe(model)
    except UsageError as error:
        if error.code == OP_VERSION and not is_images_runtime:
            return  # the image has another runtime, in which the build tries it
        raise
    for source in found.inputs:
        if source.signature and source.signature[0] == -1:
            yield LintFinding(
                rule=Rule.DYNAMIC_BATCH,
                where=f"model input {source.name}",
                message="the batch dimension is dynamic: tflite-runtime is then about eight times slower; "
                "export the model with a batch size of 1",
            )


def lint_config(config: ImageConfig) -> Iterator[LintFinding]:
    """Find settings of the image that an enclave ignores."""
    where = "image"
    for name in config.ignored:
        # A setting that equals its default needs no finding.
        if name == "WorkingDir" and _inner(config, name) == "/":
            continue
        yield LintFinding(
            rule=Rule.IGNORED_SETTING, where=where, message=_MEANING.get(name, f"{name} is ignored")
        )
    words = config.cmd if config.cmd is not None else config.entrypoint
    if not words:
        yield LintFinding(
            rule=Rule.NO_COMMAND, where=where, message='nothing to start; add CMD ["/absolute/path", ...]'
        )
    yield from lint_words(config.cmd, config.entrypoint, where)
    yield from _lint_settings(config)
    yield from _lint_history(config)


def lint_words(
    cmd: Sequence[str] | None, entrypoint: Sequence[str] | None, where: str
) -> Iterator[LintFinding]:
    """Check a command as far as that is possible without the files of its image."""
    if entrypoint and cmd:
        yield LintFinding(
            rule=Rule.ENTRYPOINT_AND_CMD,
            where=where,
            message="with both ENTRYPOINT and CMD only CMD is started; put the whole command into CMD",
        )
    words = cmd if cmd is not None else entrypoint
    if words and not words[0].startswith("/"):
        yield LintFinding(
            rule=Rule.RELATIVE_COMMAND,
            where=where,
            message=f"init looks for {words[0]!r} in /sbin:/usr/sbin:/bin:/usr/bin, whatever PATH says; "
            "write an absolute path",
        )


def _lint_settings(config: ImageConfig) -> Iterator[LintFinding]:
    """Find secrets in the image's variables, labels and command."""
    for name in secret_variables(config.env):
        yield LintFinding(
            rule=Rule.CREDENTIAL, where=f"image: ENV {name}", message="a secret in the environment; remove it"
        )
    places = [(f"ENV {one.partition('=')[0]}", one) for one in config.env]
    places += [("CMD", " ".join(config.cmd or ())), ("ENTRYPOINT", " ".join(config.entrypoint or ()))]
    labels = _inner(config, "Labels")
    if isinstance(labels, dict):
        places += [(f"LABEL {name}", str(value)) for name, value in labels.items()]
    for place, text in places:
        for rule, what in secrets_in_text(text):
            yield LintFinding(rule=rule, where=f"image: {place[:_SHOWN]}", message=f"{what}; remove it")


def _lint_history(config: ImageConfig) -> Iterator[LintFinding]:
    """Find secrets in the image's history, where Docker keeps each command with its build arguments."""
    history = config.raw.get("history")
    for number, step in enumerate(history if isinstance(history, list) else [], 1):
        command = step.get("created_by") if isinstance(step, dict) else None
        if not isinstance(command, str):
            continue
        found = list(secrets_in_text(command))
        found += [(Rule.CREDENTIAL, f"a value for {name[:_SHOWN]}") for name in secret_arguments(command)]
        for rule, what in found:
            yield LintFinding(
                rule=rule,
                where=f"image: step {number} of its history",
                message=f"{what}; whoever has the image has it; use RUN --mount=type=secret",
            )


def _inner(config: ImageConfig, name: str) -> object:
    inner = config.raw.get("config")
    return inner.get(name) if isinstance(inner, dict) else None


def lint_layers(archive: ImageArchive, mode: Mode) -> Iterator[LintFinding]:
    """Find secrets in any layer, hidden ones included, and file attributes that a ramdisk does not keep."""
    for number, layer in enumerate(archive.layers, 1):
        links, first_link = 0, ""
        for member in read_tar(layer):
            entry = to_entry(member)
            where = f"layer {number}: {_place(entry.name)}"
            if entry.kind is Kind.FILE and entry.data is not None:
                for rule, what in secrets_in(entry.name, entry.data.chunks()):
                    message = f"{what}; whoever has the image has it, even if a later layer deletes it"
                    yield LintFinding(rule=rule, where=where, message=message)
            if entry.kind is Kind.HARDLINK:
                links, first_link = links + 1, first_link or where
            if _CAPABILITY in entry.xattrs:
                yield LintFinding(
                    rule=Rule.FILE_CAPABILITIES,
                    where=where,
                    message="file capabilities are lost; the command runs as root and needs none",
                )
            if entry.name == b"Dockerfile":
                yield LintFinding(
                    rule=Rule.ROOT_DOCKERFILE,
                    where=where,
                    message="a file of this name in the root is lost; put it elsewhere",
                )
        if links and mode is Mode.NITRO_CLI:
            more = f" (and {links - 1} more)" if links > 1 else ""
            yield LintFinding(
                rule=Rule.HARD_LINKS, where=first_link + more, message="hard links become symbolic links"
            )


def _place(name: bytes) -> str:
    """Show a path in a message; cut the middle of a long one."""
    shown = show(name)
    return f"/{shown}" if len(shown) <= 2 * _SHOWN else f"/{shown[:_SHOWN]}...{shown[-_SHOWN:]}"


def lint_ramdisk(ramdisk: FileRange, name: str) -> Iterator[LintFinding]:
    """Find secrets in a finished ramdisk: the last check reads exactly the bytes that are measured."""
    reader = read_ramdisk(ramdisk)
    for entry in reader:
        for rule, what in secrets_in(entry.name, reader.data()):
            yield LintFinding(rule=rule, where=f"{name}: {_place(entry.name)}", message=f"{what}; remove it")


def lint_signature(section: FileRange) -> Iterator[LintFinding]:
    """Find a private key in a signature section: nitro-cli copies the certificate file there unchecked."""
    if holds_private_key(section.head(MAX_SIGNATURE)):
        yield LintFinding(
            rule=Rule.PRIVATE_KEY,
            where="signature",
            message="a private key, from the certificate file; make a new one and sign with its certificate",
        )


def lint_implied(implied: ImpliedDirectories, mode: Mode) -> Iterator[LintFinding]:
    """Report folders that some layer uses but does not list."""
    if implied.count and mode is Mode.NITRO_CLI:
        shown = ", ".join(f"/{show(name)}" for name in implied.examples)
        yield LintFinding(
            rule=Rule.MISSING_DIRECTORIES,
            where="layers",
            message=f"{implied.count} directories are not listed in their layer ({shown}), so the PCRs of "
            "nitro-cli differ from host to host; use --mode reproducible, or docker build the image again",
        )


def lint_architecture(image: Arch, kernel: Arch | None, path: Path) -> Iterator[LintFinding]:
    """Report a kernel for another machine than the image's; nitro-cli builds such images silently."""
    if kernel is not None and kernel is not image:
        yield LintFinding(
            rule=Rule.ARCHITECTURE,
            where=str(path),
            message=f"the image is for {image.value}, the kernel for {kernel.value}",
        )


def lint_memory(size: int, memory_mib: int) -> Iterator[LintFinding]:
    """Report an image file that cannot start with the memory that the configuration asks for."""
    needed = minimum_memory_mib(size)
    if needed > memory_mib:
        yield LintFinding(
            rule=Rule.MEMORY,
            where="enclave.memory_mib",
            message=f"an image of {size / 2**20:.1f} MiB needs {needed} MiB of memory, four times its size; "
            f"the configuration asks for {memory_mib}",
        )
