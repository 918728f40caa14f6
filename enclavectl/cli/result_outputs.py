"""Where the results of a batch go as they come: to the screen, into one JSON object, into a results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from enclavectl.cli.answer_view import draw_evidence, draw_kept, draw_result
from enclavectl.cli.screen import Screen, error_value
from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.errors import EnclavectlError
from enclavectl.results.diagnosis import Diagnosis, Result


class ResultOutput(Protocol):
    """Takes each result once, and keeps no more of them than must wait for an earlier one."""

    def add(self, index: int, result: Result) -> None:
        """Take the result of the picture at ``index``."""

    def end(self, diagnosis: Diagnosis, error: EnclavectlError | None) -> None:
        """Write what waits, and the rest; ``error`` is why not every picture has a result."""


class InOrder:
    """Results in the order of the pictures: those that come early wait."""

    def __init__(self) -> None:
        """Begin with the first picture."""
        self._waiting: dict[int, Result] = {}
        self._next = 0

    def ready(self, index: int, result: Result) -> list[Result]:
        """Take a result; return those that follow the earlier ones without a gap."""
        self._waiting[index] = result
        found: list[Result] = []
        while (one := self._waiting.pop(self._next, None)) is not None:
            found.append(one)
            self._next += 1
        return found

    def rest(self) -> list[Result]:
        """Return, after an interruption, the results that wait for pictures without one."""
        return [self._waiting[index] for index in sorted(self._waiting)]


class DrawnOutput:
    """Answers for a person, each as soon as the earlier ones are drawn."""

    def __init__(self, screen: Screen, enclave: VerifiedEnclave | None, top: int) -> None:
        """Draw the line of trust; ``enclave`` is None if none is asked."""
        self._screen = screen
        self._top = top
        self._names = {} if enclave is None else enclave.label_names
        self._order = InOrder()
        if enclave is not None:
            screen.trust(str(enclave.document.trust), enclave.document.root)

    def add(self, index: int, result: Result) -> None:
        """Draw what is next."""
        self._draw(self._order.ready(index, result))

    def end(self, diagnosis: Diagnosis, error: EnclavectlError | None) -> None:  # noqa: ARG002 - of the interface
        """Draw the rest, and the evidence."""
        self._draw(self._order.rest())
        (draw_evidence if diagnosis.results_file is None else draw_kept)(self._screen, diagnosis)

    def _draw(self, results: Sequence[Result]) -> None:
        for one in results:
            draw_result(self._screen, one, self._names, self._top)


class KeptOutput:
    """For a person whose results are in a file: the totals and the evidence."""

    def __init__(self, screen: Screen) -> None:
        """Draw nothing before the end."""
        self._screen = screen

    def add(self, index: int, result: Result) -> None:
        """Take a result, which the file has."""

    def end(self, diagnosis: Diagnosis, error: EnclavectlError | None) -> None:  # noqa: ARG002 - of the interface
        """Draw the totals."""
        draw_kept(self._screen, diagnosis)


class JsonOutput:
    """The command's one JSON object, written as the results come.

    They are in the order of the pictures, or with ``is_kept``, beside a results file, as they come.
    """

    def __init__(self, screen: Screen, head: Mapping[str, object], top: int | None, *, is_kept: bool) -> None:
        """``head`` has the members before the results, and the model's label names for them."""
        self._stream = screen.object_stream()
        self._head = head
        self._top = top
        self._order = None if is_kept else InOrder()
        self._has_begun = False

    def add(self, index: int, result: Result) -> None:
        """Write what is next."""
        for one in [result] if self._order is None else self._order.ready(index, result):
            self._item(one)

    def end(self, diagnosis: Diagnosis, error: EnclavectlError | None) -> None:
        """Write the rest, and the totals."""
        for one in [] if self._order is None else self._order.rest():
            self._item(one)
        self._begin()
        why = {} if error is None else {"error": error_value(error)}
        self._stream.end({**why, **diagnosis.tail_json()})

    def _item(self, result: Result) -> None:
        self._begin()
        model = self._head["model"]
        names = model["labels"] if isinstance(model, dict) else {}
        self._stream.item(result.to_json(names, top=self._top))

    def _begin(self) -> None:
        if not self._has_begun:
            self._stream.begin(self._head, "results")
            self._has_begun = True
