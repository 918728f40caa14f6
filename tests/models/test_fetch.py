import dataclasses
import hashlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclave_payload.card import MAX_WEIGHTS_BYTES
from enclavectl.errors import HostError, UsageError
from enclavectl.models.fetch import PUBLISHED, Published, Timeouts, fetch, fetch_published, git_blob_id
from enclavectl.models.find import find_model
from enclavectl.models.weights import load_weights

CONTENT = b"TFL3" * 50_000
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A real HTTP server on this machine; yields its URL and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Tests print nothing."""

        def log_error(self, *args: object) -> None:
            """Nor this."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/weights.tflite", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sends(content: bytes, *, length: int | None = None) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def published(url: str, content: bytes = CONTENT) -> Published:
    return dataclasses.replace(PUBLISHED["skin-lesion"], url=url, blob_id=git_blob_id(content))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


INSTALLED = ["models/skin-lesion/model.tflite", "models/skin-lesion/model.yaml"]


def test_git_blob_id_is_gits() -> None:
    # `git hash-object` of an empty file, and the blob of the Pro Git book's chapter on objects.
    assert git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob_id(b"what is up, doc?") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_fetch_installs_a_model_that_works_by_its_id(tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    with serving(sends(CONTENT)) as (url, asked):
        model = fetch_published(
            published(url), data_dir=tmp_path, progress=lambda done, total: steps.append((done, total))
        )
        assert files(tmp_path) == INSTALLED
        assert find_model("skin-lesion", data_dir=tmp_path) == model
        assert load_weights(model) == CONTENT
        assert model.card.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert [label.code for label in model.card.labels] == [
            "akiec",
            "bcc",
            "bkl",
            "df",
            "mel",
            "nv",
            "vasc",
        ]
        assert (model.card.input.width, model.card.input.mean) == (224, ("127.5",) * 3)
        assert "no diagnosis" in model.card.notice
        assert "does not redistribute" in str(model.extra["license"])
        assert steps[-1] == (len(CONTENT), len(CONTENT))
        assert steps == sorted(steps)
        # Intact: nothing is asked for again.
        assert fetch_published(published(url), data_dir=tmp_path) == model
        assert asked == ["/weights.tflite"]


def test_a_damaged_model_is_fetched_again(tmp_path: Path) -> None:
    with serving(sends(CONTENT)) as (url, asked):
        model = fetch_published(published(url), data_dir=tmp_path)
        model.weights_path.write_bytes(b"damaged")
        assert load_weights(fetch_published(published(url), data_dir=tmp_path)) == CONTENT
        model.card_path.write_text("damaged")
        assert fetch_published(published(url), data_dir=tmp_path) == model
        assert len(asked) == 3


def test_a_card_that_was_made_to_match_other_weights_is_not_intact(tmp_path: Path) -> None:
    other = b"other weights"
    with serving(sends(other)) as (url, _):
        fetch_published(published(url, other), data_dir=tmp_path)
    with serving(sends(CONTENT)) as (url, _):
        assert load_weights(fetch_published(published(url), data_dir=tmp_path)) == CONTENT


def test_other_content_is_refused_and_nothing_is_installed(tmp_path: Path) -> None:
    wrong = CONTENT[:-1] + b"!"
    with serving(sends(wrong)) as (url, _):
        with pytest.raises(HostError, match=f"{git_blob_id(CONTENT)}, found {git_blob_id(wrong)}"):
            fetch_published(published(url), data_dir=tmp_path)
        # The public door has the pin of the tutorial, whatever the place.
        with pytest.raises(HostError, match="7aeb81cfa23926489b001615aa4ec57779374874, found"):
            fetch(data_dir=tmp_path, url=url)
    assert files(tmp_path) == []


def test_a_refused_fetch_leaves_the_installed_model_alone(tmp_path: Path) -> None:
    with serving(sends(CONTENT)) as (url, _):
        model = fetch_published(published(url), data_dir=tmp_path)
        with pytest.raises(HostError, match="expected content with git blob id"):
            fetch_published(published(url, b"newer"), data_dir=tmp_path)
    assert load_weights(model) == CONTENT
    assert files(tmp_path) == INSTALLED


def never_ends(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    chunk = bytes(1024 * 1024)
    try:
        for _ in range(MAX_WEIGHTS_BYTES // len(chunk) + 2):
            handler.wfile.write(chunk)
    except OSError:
        handler.close_connection = True  # the client hung up, as it should


def goes_silent(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.wfile.write(b"one")
    handler.connection.recv(1)  # until the client hangs up


def drips(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


def is_absent(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def speaks_nonsense(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\x01nonsense\r\n\r\n")


def redirects(to: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (never_ends, "expected at most 67108864 bytes, found more"),
        (goes_silent, "the download failed .*timed out"),
        (drips, r"not done after 0\.5 s and \d+ bytes"),
        (is_absent, "the server answered 404"),
        (speaks_nonsense, "the download failed"),
        (sends(CONTENT, length=len(CONTENT) + 1), "expected 200001 bytes, found 200000"),
        (redirects("http://192.0.2.1/weights"), "a redirect was refused .*expected an https URL"),
        # urllib itself knows these; a later Python that does not is caught by ours.
        (redirects("file:///etc/passwd"), "not allowed|a redirect was refused"),
        (redirects("/weights.tflite"), "the server answered 302"),  # to itself, forever
    ],
)
def test_a_server_that_fails(answer: Answer, message: str, tmp_path: Path) -> None:
    # The others are to fail for their own reason, also on a busy machine.
    slow: dict[Answer, Timeouts] = {goes_silent: Timeouts(read_s=0.5), drips: Timeouts(total_s=0.5)}
    timeouts = slow.get(answer, Timeouts())
    with serving(answer) as (url, _), pytest.raises(HostError, match=message):
        fetch_published(published(url), data_dir=tmp_path, timeouts=timeouts)
    assert files(tmp_path) == []


def test_a_redirect_on_this_machine_is_followed(tmp_path: Path) -> None:
    with serving(sends(CONTENT)) as (url, _), serving(redirects(url)) as (first, _):
        assert load_weights(fetch_published(published(first), data_dir=tmp_path)) == CONTENT


def test_nobody_listens(tmp_path: Path) -> None:
    with serving(sends(b"")) as (url, _):
        pass
    with pytest.raises(HostError, match=r"the download failed .*refused"):
        fetch_published(published(url), data_dir=tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/w",
        "http://localhost/w",
        "http://127.0.0.1.example.org/w",
        "file:///etc/passwd",
        "ftp://127.0.0.1/w",
        "https:///w",
        "https://[::1/w",
        "https://example.org/ü",
        "",
        "weights",
    ],
)
def test_only_https_leaves_this_machine(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="URL"):
        fetch_published(published(url), data_dir=tmp_path)
    assert files(tmp_path) == []


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="nothing to fetch by this name; the nearest known one is 'skin-lesion'"
    ):
        fetch("skin-lesions", data_dir=tmp_path)


def test_a_folder_that_takes_no_files_is_a_host_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with serving(sends(CONTENT)) as (url, asked):
        with pytest.raises(HostError, match="cannot make this folder"):
            fetch_published(published(url), data_dir=tmp_path / "file")
        assert asked == []


def test_the_pins_of_the_tutorial() -> None:
    pinned = PUBLISHED["skin-lesion"]
    assert pinned.blob_id == "7aeb81cfa23926489b001615aa4ec57779374874"
    assert pinned.url.startswith(
        "https://raw.githubusercontent.com/evandiewald/nitro-enclave-tensorflow/cc983d6e8e"
    )
