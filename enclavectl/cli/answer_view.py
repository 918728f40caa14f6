"""The drawing of answers: a line of trust, bars for probabilities, the evidence, the model's notice."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from enclavectl.attestation import Standing
from enclavectl.cli.bars import bar
from enclavectl.cli.counting import counted
from enclavectl.cli.screen import Screen
from enclavectl.results.diagnosis import Diagnosis, Result
from enclavectl.results.wording import MODEL_PINNED

_BAR_CELLS = 24
# A label's code and its probability, with their spaces; what a bar leaves is for the label's name.
_NUMBER_CELLS = 17


def draw_result(screen: Screen, result: Result, names: Mapping[str, str], top: int) -> None:
    """Draw one picture's answer, or why there is none; ``names`` maps label codes to names."""
    screen.drawn()
    screen.drawn((result.image, "bold"))
    if result.outcome is None or result.outcome.probabilities_ppb is None:
        message = "no answer" if result.error is None else result.error.message
        screen.drawn((f"  {message}", "red"))
        if result.error is not None and result.error.hint:
            screen.drawn((f"  try: {result.error.hint}", ""))
        return
    ranked = sorted(result.outcome.probabilities_ppb.items(), key=lambda item: -item[1])[:top]
    cells = _bar_cells(screen)
    for code, parts in ranked:
        share = parts / 1e9
        blocks = bar(share, cells, encoding=sys.stdout.encoding)
        rest = f" {share:6.1%}  {names.get(code, '')}".rstrip()
        screen.drawn((f"  {code:<8}", ""), (blocks, "cyan"), (rest, ""), is_cut=True)
    if result.outcome.top_ppb is not None and result.outcome.rest_ppb:
        screen.drawn((f"  all labels that the enclave left out: {result.outcome.rest_ppb / 1e9:.1%}", ""))
    if result.is_receipted:
        screen.drawn(("  receipted: the enclave signed this answer to this picture", ""))
    for _, warning in result.warnings:
        screen.drawn((f"  warning: {warning}", "yellow"))


def _bar_cells(screen: Screen) -> int:
    """Return a bar's length: on a narrow terminal it gives way, and the number stands."""
    if not sys.stdout.isatty():
        return _BAR_CELLS
    return min(_BAR_CELLS, max(0, (screen.out.width - _NUMBER_CELLS) // 2))


def draw_standing(screen: Screen, standing: Standing) -> None:
    """Draw what the enclave had proven before it got the picture."""
    release = standing.release or "none: debug mode"
    screen.facts([("enclave", standing.module_id), ("release", f"{release}; under {standing.root}")])


def draw_kept(screen: Screen, diagnosis: Diagnosis) -> None:
    """Draw how many results a file has, and what those of this command rest on."""
    totals, enclave = diagnosis.totals, diagnosis.enclave
    if enclave is not None:
        screen.trust(str(enclave.document.trust), enclave.document.root)
    screen.drawn()
    # Without an enclave nothing is written.
    verb = "was" if totals.refused == 1 else "were"
    written = totals.found if enclave is None else totals.results
    rows = [
        ("results", f"{written:,} of {totals.pictures:,} pictures are in {diagnosis.results_file}"),
        ("answers", f"{totals.answered:,}; {counted(totals.refused, 'picture')} {verb} refused"),
    ]
    if totals.found and enclave is not None:
        rows.append(("found", f"{totals.found:,} of them were there before"))
    screen.facts(rows)
    if enclave is not None:
        draw_evidence(screen, diagnosis)


def draw_evidence(screen: Screen, diagnosis: Diagnosis) -> None:
    """Draw what the answers rest on, and the model's notice, which goes with every answer."""
    screen.drawn()
    if diagnosis.enclave is None:
        screen.drawn(("No picture can be sent, so no enclave was asked.", ""))
        return
    document, card = diagnosis.enclave.document, diagnosis.enclave.card
    release = document.release or "none: debug mode"
    signed = f"{document.timestamp:%Y-%m-%d %H:%M:%S} UTC"
    screen.facts(
        [
            ("evidence", f"verified; signed {signed} under {document.root}"),
            ("enclave", document.module_id),
            ("release", f"{release}; PCR0 {document.pcrs[0].hex()[:16]}..."),
            ("model", f"{card.model_id}, SHA-256 {card.sha256[:16]}..."),
            ("model pinned", MODEL_PINNED[document.model_pinned]),
        ]
    )
    for later in diagnosis.later_enclaves:
        screen.facts([("evidence", f"verified, of a later session: enclave {later.document.module_id}")])
    screen.notice(card.notice)
