"""What every benchmark shares: alternating runs, medians, the bare pipeline, and one kind of table."""

from __future__ import annotations

import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from enclave_payload.limits import Limits, decoder_count
from enclavectl.client.pictures import Picture, read_picture

PROJECT = Path(__file__).resolve().parent.parent
SAMPLE = PROJECT / "samples" / "bcc.png"
MODEL_DIR = PROJECT / "enclave_payload" / "model"


def decoders_of(cpus: int) -> int:
    """Return how many decoders an enclave of so many CPUs has, where memory is no bound."""
    return decoder_count(cpus, 1 << 40, Limits())


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A picture that is measured. ``rounds`` is how many of it one measurement takes."""

    name: str
    path: Path
    rounds: int

    @property
    def picture(self) -> Picture:
        """The picture as a client reads it."""
        return read_picture(str(self.path), lambda _: b"")


_SMALL = Subject(name="600x450 PNG of 330 kB", path=SAMPLE, rounds=400)


def _take_photograph(folder: Path) -> Subject:
    """Draw what a phone's camera takes into ``folder``: 12 megapixels, which takes some seconds."""
    from tools.lesions import draw

    path = folder / "photograph.jpg"
    # What phones write: chroma at half the resolution, little loss.
    draw("nv", 7, width=4032, height=3024).save(path, quality=95, subsampling="4:2:0")
    return Subject(name="JPEG of 12 megapixels", path=path, rounds=40)


@contextmanager
def subjects() -> Iterator[tuple[Subject, Subject]]:
    """Yield the small sample and a photograph, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield _SMALL, _take_photograph(Path(folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison. ``ratio`` is ours over the base; ``limit`` bounds it from above, or from below."""

    what: str
    ours: str
    base: str
    ratio: float
    limit: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Whether the limit was met in this run."""
        met = self.ratio >= self.limit if self.at_least else self.ratio <= self.limit
        return "ok" if met else "MISSED"


def alternate(
    ours: Callable[[], object], base: Callable[[], object], *, rounds: int, warmup: int = 3
) -> tuple[list[float], list[float]]:
    """Seconds of each call, the two taking turns, so that a noisy neighbor hits both alike."""
    for _ in range(warmup):
        ours()
        base()
    our_times: list[float] = []
    base_times: list[float] = []
    for _ in range(rounds):
        for call, times in ((ours, our_times), (base, base_times)):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return our_times, base_times


def compare(what: str, our_times: Sequence[float], base_times: Sequence[float], limit: float) -> Row:
    """Make a row of the table from medians in milliseconds."""
    ours, base = statistics.median(our_times), statistics.median(base_times)
    return Row(
        what=what, ours=f"{ours * 1e3:.2f} ms", base=f"{base * 1e3:.2f} ms", ratio=ours / base, limit=limit
    )


def bare_pipeline(weights: bytes) -> Callable[[bytes], object]:
    """Decode, resize, invoke: what a script without an enclave does with one picture."""
    import numpy as np
    from PIL import Image

    try:
        from tflite_runtime.interpreter import Interpreter
    except ImportError:
        from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=weights, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]

    def classify(data: bytes) -> object:
        picture = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        pixels = (np.asarray(picture, dtype=np.float32) - np.float32(127.5)) / np.float32(127.5)
        interpreter.set_tensor(source, pixels[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(sink)

    return classify


def machine() -> str:
    """Describe this machine in one line."""
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows as a Markdown table for docs/benchmarks.md."""
    print("| what | ours | base | ratio | limit | |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        bound = f"{'>=' if row.at_least else '<='} {row.limit:.2f}"
        print(f"| {row.what} | {row.ours} | {row.base} | {row.ratio:.2f} | {bound} | {row.verdict} |")
