"""Fetch published weights that this project may use but not redistribute, and check their identity.

The pin is the git blob id of the file in the tutorial's repository: the SHA-1 of ``blob``, a space, the
length, a NUL and the content (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects). It is only as strong
as SHA-1. No known attack makes a second file with a given id. But the author of the file could have made two
files with one id (https://shattered.io), so the id does not bind the author. After the first fetch, the card
on this machine has the SHA-256 of the received file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, BinaryIO, TypeAlias
from urllib.parse import urlsplit

from enclave_payload.card import MAX_WEIGHTS_BYTES, MODEL_SCHEMA
from enclavectl.errors import HostError, UsageError
from enclavectl.files import make_folder, stage_file, write_atomic
from enclavectl.models.card import DescribedModel, read_card
from enclavectl.models.find import CARD_NAME
from enclavectl.models.weights import load_weights
from enclavectl.suggest import suggestion
from enclavectl.yaml_file import Plain

WEIGHTS_NAME = "model.tflite"
_CHUNK = 64 * 1024

# Called with the bytes received so far and the server's announced length, if it announced one.
Progress: TypeAlias = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The limits in seconds on one read and on the download: 64 MiB at 1 Mbit/s take 9 minutes."""

    read_s: float = 30.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Weights that others publish. ``card`` is the model card without schema, file and sha256."""

    url: str
    blob_id: str
    card: Mapping[str, Plain]

    @property
    def model_id(self) -> str:
        """The id that the model is installed under."""
        return str(self.card["id"])


_DEFAULT_TIMEOUTS = Timeouts()
_TUTORIAL = "evandiewald/nitro-enclave-tensorflow"
_COMMIT = "cc983d6e8e5509a8bbbac3a20f524fdcd24c16d6"

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "skin-lesion": Published(
            url=f"https://raw.githubusercontent.com/{_TUTORIAL}/{_COMMIT}/skin_lesion_model.tflite",
            blob_id="7aeb81cfa23926489b001615aa4ec57779374874",
            card={
                "id": "skin-lesion",
                "title": "Skin lesions, MobileNet v1 trained on HAM10000",
                "input": {
                    "width": 224,
                    "height": 224,
                    "fit": "stretch",
                    "filter": "bilinear",
                    "mean": 127.5,
                    "std": 127.5,
                },
                "output": {"scores": "softmax"},
                "labels": [
                    {"code": "akiec", "name": "Actinic keratoses and intraepithelial carcinoma"},
                    {"code": "bcc", "name": "Basal cell carcinoma"},
                    {"code": "bkl", "name": "Benign keratosis"},
                    {"code": "df", "name": "Dermatofibroma"},
                    {"code": "mel", "name": "Melanoma"},
                    {"code": "nv", "name": "Melanocytic nevi"},
                    {"code": "vasc", "name": "Vascular lesions"},
                ],
                "notice": "This is no diagnosis and no medical advice. A research model, about 82 % accurate "
                "on its own data set: wrong for about one picture in five. Show any lesion that worries you "
                "to a doctor, whatever the answer is.",
                "training": "MobileNet v1 on HAM10000 (10,015 dermatoscopic pictures), by the authors of "
                "https://github.com/aryanmisra/Skin-Lesion-Classifier; converted to TFLite by the tutorial.",
                "evaluation": "About 82 % accuracy, as published. Not measured again here.",
                "license": "The training code is MIT licensed; no license for the weights is known to us. "
                "enclavectl does not redistribute them: this copy was fetched for you from the source below.",
                "source": f"https://github.com/{_TUTORIAL} at commit {_COMMIT}, skin_lesion_model.tflite",
            },
        )
    }
)


def fetch(
    name: str = "skin-lesion", *, data_dir: Path, url: str | None = None, progress: Progress | None = None
) -> DescribedModel:
    """Install the published model ``name`` in ``data_dir``; ``url`` replaces its usual address.

    Raises:
        UsageError: no such name, or a URL that is not https.
        HostError: as in ``fetch_published``.
    """
    if name not in PUBLISHED:
        raise UsageError(f"model {name!r}: nothing to fetch by this name; {suggestion(name, PUBLISHED)}")
    published = PUBLISHED[name]
    return fetch_published(
        dataclasses.replace(published, url=url or published.url), data_dir=data_dir, progress=progress
    )


def fetch_published(
    published: Published,
    *,
    data_dir: Path,
    progress: Progress | None = None,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
) -> DescribedModel:
    """Install weights and card in ``data_dir/models/<id>``; download nothing if both are there and intact.

    The card is written last. Until then no model of that id exists, so an interrupted fetch can be repeated.

    Raises:
        UsageError: the URL is neither https nor http to this machine.
        HostError: no connection, a slow or broken one, more than 64 MiB, other content than the pinned one
            (with the blob ids expected and found), or the file system failed. Nothing is installed then.
    """
    folder = data_dir / "models" / published.model_id
    if (installed := _installed(folder, published)) is not None:
        return installed
    _check_url(published.url, published.url)
    make_folder(folder.parent)
    with stage_file(folder.parent, mode=0o644) as staged:
        for chunk in _download(published.url, progress or _no_progress, timeouts):
            staged.file.write(chunk)
        blob_id, sha256 = _digests(staged.file)
        if blob_id != published.blob_id:
            raise HostError(
                f"{published.url}: expected content with git blob id {published.blob_id}, found {blob_id}; "
                "nothing was installed",
                hint="what came is not the published file; a proxy or a moved file can be the cause",
            )
        make_folder(folder)
        staged.commit(folder / WEIGHTS_NAME)
    card = {"schema": MODEL_SCHEMA, "file": WEIGHTS_NAME, "sha256": sha256, **published.card}
    write_atomic(folder / CARD_NAME, _render_card(card).encode(), mode=0o644)
    return read_card(folder / CARD_NAME)


def git_blob_id(content: bytes) -> str:
    """Compute git's id of a file with this content, in hexadecimal."""
    # usedforsecurity=False lets Python builds that forbid SHA-1 compute it; see above for its strength.
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _installed(folder: Path, published: Published) -> DescribedModel | None:
    try:
        model = read_card(folder / CARD_NAME)
        weights = load_weights(model)
    except UsageError:
        return None  # absent or damaged: fetching again repairs it
    return model if git_blob_id(weights) == published.blob_id else None


def _no_progress(_received: int, _total: int | None) -> None:
    """Ignore the progress."""


def _check_url(url: str, first: str) -> None:
    """Check that ``url``, redirected to from ``first``, is https, or http from and to this machine itself.

    Raises:
        UsageError: it is neither.
    """
    try:
        url.encode("ascii")
        parts = urlsplit(url)
        host = parts.hostname or ""
        allowed = (parts.scheme == "https" and host != "") or (
            parts.scheme == "http" and _is_loopback(host) and first.startswith("http:")
        )
    except ValueError as exc:
        raise UsageError(f"{url!r}: not a URL ({exc})") from exc
    if not allowed:
        raise UsageError(
            f"{url!r}: expected an https URL", hint="http is accepted for this machine itself only"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, even localhost, means whatever the resolver answers


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """The redirects that ``_check_url`` allows."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            _check_url(newurl, req.full_url)
        except UsageError as exc:
            raise HostError(f"{req.full_url}: a redirect was refused ({exc.message})") from exc
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, progress: Progress, timeouts: Timeouts) -> Iterator[bytes]:
    deadline = time.monotonic() + timeouts.total_s
    # Do not use the environment's proxy for connections to this machine.
    proxies = [urllib.request.ProxyHandler({})] if url.startswith("http:") else []
    opener = urllib.request.build_opener(_CheckedRedirects, *proxies)
    total, received = None, 0
    try:
        with opener.open(url, timeout=timeouts.read_s) as response:
            total = _announced_length(response.headers)
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                if received > MAX_WEIGHTS_BYTES:
                    raise HostError(f"{url}: expected at most {MAX_WEIGHTS_BYTES} bytes, found more")
                if time.monotonic() > deadline:
                    raise HostError(f"{url}: not done after {timeouts.total_s:g} s and {received} bytes")
                progress(received, total)
                yield chunk
    except urllib.error.HTTPError as exc:
        raise HostError(f"{url}: the server answered {exc.code} {exc.reason}") from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:  # ValueError: a host that IDNA refuses
        raise HostError(
            f"{url}: the download failed ({getattr(exc, 'reason', None) or exc or type(exc).__name__})",
            hint="this machine needs internet access for this one command; --url names another place",
        ) from exc
    if total is not None and received != total:
        raise HostError(f"{url}: expected {total} bytes, found {received}", hint="try again")


def _announced_length(headers: http.client.HTTPMessage) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _digests(file: BinaryIO) -> tuple[str, str]:
    """Compute the git blob id and the SHA-256 of a file of at most MAX_WEIGHTS_BYTES."""
    file.seek(0)
    content = file.read(MAX_WEIGHTS_BYTES + 1)
    return git_blob_id(content), hashlib.sha256(content).hexdigest()


def _render_card(card: Mapping[str, Plain]) -> str:
    # JSON's strings and numbers are YAML. PyYAML's dumper quotes by YAML 1.1, and our reader is of YAML 1.2.
    lines = ["# Written by `enclavectl model fetch`."]
    for key, value in card.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"  - {json.dumps(item, ensure_ascii=False)}" for item in value)]
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
