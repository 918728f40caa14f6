"""``enclavectl eif``: read, measure, check, compare, sign and take apart enclave images, on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli.image_files import open_image, progress, read_sound
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.cli.signals import ending_as_interrupted

if TYPE_CHECKING:
    from datetime import datetime

    from enclavectl.cli.each import Answer
    from enclavectl.eif.findings import Finding

VERIFY_SCHEMA = "enclavectl.eif-verify/1"
EXTRACT_SCHEMA = "enclavectl.eif-extract/1"
SHOW_FILES_SCHEMA = "enclavectl.eif-show-files/1"
PCRS_FILES_SCHEMA = "enclavectl.pcrs-files/1"
VERIFY_FILES_SCHEMA = "enclavectl.eif-verify-files/1"
SIGN_SCHEMA = "enclavectl.eif-sign/1"
EXIT_UNSOUND = 2

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Read, check, compare and sign enclave image files."
)
ImageFile = Annotated[Path, typer.Argument(metavar="FILE", help="An enclave image file (EIF).")]
ImageFiles = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Enclave image files (EIF).")]
ForceFlags = Annotated[
    bool,
    typer.Option(
        "--force-flags",
        help="Give PCRs although unknown header flags may take part in them; then they are a guess.",
    ),
]


@app.command()
def show(
    files: ImageFiles,
    lenient: Annotated[
        bool,
        typer.Option("--lenient", help="Report every defect in place of stopping at the first; exit code 2."),
    ] = False,
    force_flags: ForceFlags = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Describe images: PCRs, signature, metadata, sections.

    The JSON has the keys and values of `nitro-cli describe-eif`, and ours under "enclavectl"; for
    several files it has a list of such objects.
    """
    from enclavectl.cli.each import Answer, answer_each
    from enclavectl.eif.describe import describe
    from enclavectl.eif.examine import examine
    from enclavectl.eif.findings import Severity, raise_first_error
    from enclavectl.eif.scan import parse_layout

    screen = Screen(as_json=output is OutputFormat.JSON)

    def answer(file: Path) -> Answer:
        with open_image(file) as image, progress(screen, "measuring", file) as on_bytes:
            if not lenient:
                parse_layout(image)  # what is wrong with the layout is said before gigabytes are read
            examination = examine(image, now=_now(), force_flags=force_flags, on_bytes=on_bytes)
            if not lenient:
                raise_first_error(examination.findings)
            value = describe(examination)

        def draw() -> None:
            screen.facts(_flat(value))
            _draw_findings(screen, examination.findings)

        is_broken = any(finding.severity is Severity.ERROR for finding in examination.findings)
        return Answer(value=value, draw=draw, exit_code=EXIT_UNSOUND if is_broken else 0)

    answer_each(screen, files, SHOW_FILES_SCHEMA, answer)


@app.command()
def pcrs(files: ImageFiles, output: Output = OutputFormat.TEXT) -> None:
    """Compute the PCRs of images: what an enclave that runs one will attest."""
    from enclavectl.cli.each import Answer, answer_each
    from enclavectl.eif.examine import read_verified

    screen = Screen(as_json=output is OutputFormat.JSON)

    def answer(file: Path) -> Answer:
        with open_image(file) as image, progress(screen, "measuring", file) as on_bytes:
            measured = read_verified(image, on_bytes=on_bytes)
        _draw_findings(screen, measured.warnings)  # in JSON mode too: the object has the registers only
        registers = measured.measurements.registers()
        return Answer(value=measured.measurements.to_json(), draw=lambda: screen.facts(registers.items()))

    answer_each(screen, files, PCRS_FILES_SCHEMA, answer)


@app.command()
def verify(files: ImageFiles, output: Output = OutputFormat.TEXT) -> None:
    """Check every rule that an image can break; exit code 0 only if all are sound in every respect.

    A valid signature says that the holder of the certificate signed; whose it is, PCR8 says.
    """
    from enclavectl.cli.each import answer_each

    screen = Screen(as_json=output is OutputFormat.JSON)
    answer_each(screen, files, VERIFY_FILES_SCHEMA, lambda file: _verdict(screen, file))


def _verdict(screen: Screen, file: Path) -> Answer:
    from enclavectl.cli.each import Answer
    from enclavectl.eif.examine import examine

    with open_image(file) as image, progress(screen, "verifying", file) as on_bytes:
        examination = examine(image, now=_now(), archives=True, on_bytes=on_bytes)
    registers = examination.measurements.registers() if examination.measurements else {}

    def draw() -> None:
        signed = "signed" if examination.is_signed else "not signed"
        screen.facts([(str(file), f"{'sound' if examination.sound else 'NOT SOUND'}, {signed}")])
        screen.facts(registers.items())
        _draw_findings(screen, examination.findings)

    value = {
        "schema": VERIFY_SCHEMA,
        "file": str(file),
        "sound": examination.sound,
        "signed": examination.is_signed,
        "pcrs": registers,
        "findings": [finding.to_json() for finding in examination.findings],
    }
    return Answer(value=value, draw=draw, exit_code=0 if examination.sound else EXIT_UNSOUND)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="The image as it was.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The image as it is.")],
    output: Output = OutputFormat.TEXT,
) -> None:
    """Say what differs between two images, which PCRs that moved, and the likely cause."""
    from enclavectl.eif.compare.diff import compare_images

    screen = Screen(as_json=output is OutputFormat.JSON)
    screen.step("comparing")
    with read_sound(before) as old, read_sound(after) as new:
        found = compare_images(old, new)
    if screen.as_json:
        screen.result(found.to_json())
        return
    screen.facts([("cause", found.cause), ("PCRs changed", ", ".join(found.pcrs_changed) or "none")])
    if found.changes:
        rows = [
            (one.where, one.what.value, one.before or "", one.after or one.note or "")
            for one in found.changes
        ]
        screen.table(("WHERE", "WHAT", "BEFORE", "AFTER"), rows)


@app.command()
@ending_as_interrupted()
def sign(
    file: ImageFile,
    key: Annotated[
        Path, typer.Option("--key", help="Private key: PEM, EC P-256, P-384 or P-521, no password.")
    ],
    certificate: Annotated[Path, typer.Option("--cert", help="The certificate that belongs to it: PEM.")],
    signed: Annotated[Path, typer.Option("--to", help="The signed image; never the same file.")],
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write a signed copy of an image, in place of any signature that it has. PCR0, 1 and 2 stay as they are.

    Example: enclavectl eif sign app.eif --key key.pem --cert cert.pem --to app.signed.eif
    """
    from enclavectl.cli.signing import read_signer
    from enclavectl.eif.errors import naming
    from enclavectl.eif.sign import sign_image
    from enclavectl.errors import UsageError

    if str(key).startswith("arn:"):
        raise UsageError(
            "--key: expected a PEM file, found an ARN; only nitro-cli can use a key in KMS",
            hint="enclavectl build --sign ARN --cert CERT signs with it, through nitro-cli",
        )
    screen = Screen(as_json=output is OutputFormat.JSON)
    signer = read_signer(key, certificate)
    with naming(file), progress(screen, "signing", file) as on_bytes:
        measurements = sign_image(file, signed, signer, on_bytes=on_bytes)
    if screen.as_json:
        screen.result({"schema": SIGN_SCHEMA, "file": str(signed), "pcrs": measurements.registers()})
    else:
        screen.facts([("signed", str(signed)), *measurements.registers().items()])


@app.command()
@ending_as_interrupted()
def extract(
    file: ImageFile,
    folder: Annotated[Path, typer.Option("--to", help="A folder that does not exist yet.")],
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write each section of an image to a file of its own: kernel, cmdline, metadata.json, ramdisk0.cpio, ...

    Ramdisks stay archives: unpack one with `cpio --extract --make-directories`, and not as root.
    """
    from enclavectl.eif.extract import extract_sections

    screen = Screen(as_json=output is OutputFormat.JSON)
    with open_image(file) as image:
        written = extract_sections(image, folder)
    if screen.as_json:
        files = [{"file": str(one.path), "kind": one.kind, "size": one.size} for one in written]
        screen.result({"schema": EXTRACT_SCHEMA, "files": files})
    else:
        screen.facts((str(one.path), f"{one.size:,} bytes") for one in written)


def _draw_findings(screen: Screen, findings: Sequence[Finding]) -> None:
    for finding in findings:
        place = "" if finding.offset is None else f" (at byte {finding.offset})"
        hint = "" if finding.hint is None else f"; try: {finding.hint}"
        screen.note(f"{finding.severity}: {finding.code}: {finding.message}{place}{hint}")


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as lines for people; lists and what Docker said of an image stay short."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in {"DockerInfo", "findings"}:
                continue
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            words = " ".join(f"{key}={one}" for key, one in item.items()) if isinstance(item, dict) else item
            yield f"{prefix}[{index}]", str(words)
    elif value is not None:
        yield prefix, str(value)


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)
