"""The release that ``policy new`` and ``policy add`` make of a lock, a model and single registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from enclave_payload.card import model_register
from enclavectl.artifacts.lock import Lock, read_lock
from enclavectl.attestation import Release
from enclavectl.attestation.registers import INSTANCE_PCR, ROLE_PCR, instance_register, role_register
from enclavectl.attestation.times import render_time
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import ModelName, OutputFormat
from enclavectl.cli.policy_arguments import moment, optional_moment, parse_registers
from enclavectl.errors import UsageError
from enclavectl.label import MODEL_PCR
from enclavectl.models.find import find_model
from enclavectl.weights.sealed_file import is_sealed_path, read_sealed

FromLock = Annotated[
    Path | None,
    typer.Option("--from-lock", metavar="LOCK", help="Take the registers that a build wrote into its lock."),
]
Registers = Annotated[
    list[str] | None, typer.Option("--pcr", metavar="N=HEX", help="Pin one more register; may be repeated.")
]
ReleaseName = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="NAME", help="The release's name; default: the image's, with the release's label."
    ),
]
NotBefore = Annotated[
    str | None,
    typer.Option("--not-before", metavar="TIME", help="From when it is valid: a date or a time in UTC."),
]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires",
        metavar="TIME",
        help="From when it is valid no more, later than now; a date is its first moment in UTC.",
    ),
]
Notes = Annotated[str, typer.Option("--notes", metavar="NOTES", help="A note for people, kept in the file.")]
RoleArn = Annotated[
    str | None, typer.Option("--role-arn", metavar="ARN", help="Pin PCR3: the parent's IAM role.")
]
InstanceId = Annotated[
    str | None,
    typer.Option(
        "--instance-id",
        metavar="ID",
        help="Pin PCR4: one EC2 instance; on any other the release does not pass.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseArguments:
    """The options of a release as they were typed; ``option_groups`` spells them for a command."""

    from_lock: FromLock = None
    model: ModelName = None
    pcr: Registers = None
    role_arn: RoleArn = None
    instance_id: InstanceId = None
    name: ReleaseName = None
    not_before: NotBefore = None
    expires: Expires = None
    notes: Notes = ""

    def release(self) -> Release:
        """Make the release.

        Raises:
            UsageError: an option or a file cannot be used, two options pin different values for one register,
                or the release breaks a rule.
        """
        lock = None if self.from_lock is None else read_lock(self.from_lock)
        pcrs = _Registers()
        if lock is not None:
            pcrs.add(f"{self.from_lock}", lock.registers(str(self.from_lock)))
        pcrs.add("--pcr", parse_registers(self.pcr or []))
        if self.model is not None:
            pcrs.add("--model", {MODEL_PCR: _model_register(self.model, lock, self.from_lock)})
        if self.role_arn is not None:
            pcrs.add("--role-arn", {ROLE_PCR: role_register(self.role_arn)})
        if self.instance_id is not None:
            pcrs.add("--instance-id", {INSTANCE_PCR: instance_register(self.instance_id)})
        if not pcrs.values:
            raise UsageError(
                "expected --from-lock LOCK, or --pcr for PCR0, PCR1 and PCR2, found neither",
                hint="enclavectl build writes a lock; enclavectl eif pcrs FILE prints the registers",
            )
        release = Release(
            name="unnamed" if self.name is None else self.name,
            pcrs=pcrs.values,
            not_before=optional_moment("--not-before", self.not_before),
            expires=_future("--expires", self.expires),
            notes=self.notes,
        )
        return release if self.name is not None else _named(release, lock)


def _future(option: str, text: str | None) -> datetime | None:
    """Read an end that is still to come: at one in the past, no enclave passes.

    Raises:
        UsageError: it is no time, or it has passed.
    """
    end = optional_moment(option, text)
    now = moment(option, "now")
    if end is not None and end <= now:
        found = text if text == "now" else render_time(end)
        raise UsageError(
            f"{option}: expected a time later than now ({render_time(now)}), found {found}",
            hint="for documents that were kept from before, leave it out, then enclavectl policy retire "
            "POLICY RELEASE --expires TIME",
            code="policy-expired",
        )
    return end


class _Registers:
    """Registers by number, each with the option that gave it."""

    def __init__(self) -> None:
        self.values: dict[int, bytes] = {}
        self._given: dict[int, str] = {}

    def add(self, option: str, values: Mapping[int, bytes]) -> None:
        """Add what an option gives; refuse another value than an earlier option gave."""
        for index, value in values.items():
            if self.values.setdefault(index, value) != value:
                raise UsageError(
                    f"{option}: PCR{index} is {value.hex()[:16]}..., but {self.values[index].hex()[:16]}... "
                    f"by {self._given[index]}",
                    hint="leave one of them out",
                )
            self._given.setdefault(index, option)


def _model_register(name: str, lock: Lock | None, path: Path | None) -> bytes:
    if is_sealed_path(name):
        card = read_sealed(Path(name)).card
    else:
        card = find_model(name, data_dir=begin(OutputFormat.TEXT, None, {}).config.data_dir).card
    locked = None if lock is None or lock.model is None else lock.model.get("sha256")
    if locked is not None and locked != card.sha256:
        raise UsageError(
            f"--model: expected the model of {path}, with SHA-256 {locked[:16]}..., found {card.model_id} "
            f"with {card.sha256[:16]}...",
            hint="enclavectl lock show names the model that is in the image",
        )
    return model_register(card.to_json())


def _named(release: Release, lock: Lock | None) -> Release:
    stem = "image" if lock is None else Path(str(lock.eif["file"])).stem
    name = "".join(char for char in stem if char.isprintable())[:80]
    return replace(release, name=f"{name} {release.label}")
