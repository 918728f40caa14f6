"""What the classic builder would drop or refuse is named before anything is built."""

from __future__ import annotations

import pytest

from enclavectl.errors import UsageError
from enclavectl.image.classic_limits import refuse_buildkit_only
from enclavectl.image.dockerfile import parse_dockerfile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM a\nRUN cat <<EOF > /f\n#!/bin/sh\nexec sleep 9\nEOF\n", "line 2: RUN with a heredoc"),
        ("FROM a\nRUN <<EOF\necho one\nEOF\n", "line 2: RUN with a heredoc"),
        ("FROM a\nRUN true && \\\n # no\n cat <<-'X' > /f\n\tone\n\tX\n", "line 2: RUN with a heredoc"),
        ("FROM a\nCOPY <<EOF /etc/app.conf\nkey=value\nEOF\n", "line 2: COPY with a heredoc"),
        ("FROM a\nadd <<a <<b /etc/\n1\na\n2\nb\n", "line 2: ADD with a heredoc"),
        ("FROM a\nONBUILD RUN <<EOF\necho one\nEOF\n", "line 2: RUN with a heredoc"),
        ("FROM a\nRUN [ -e /f ] || cat <<EOF > /f\none\nEOF\n", "line 2: RUN with a heredoc"),
        ("FROM a\nRUN [[ -e /f ]] && <<'E' tee /f\none\nE\n", "line 2: RUN with a heredoc"),
        ("FROM a\nADD --checksum=sha256:00 file.txt /f\n", "line 2: ADD with --checksum"),
        ("FROM a\nADD --keep-git-dir=true x /f\n", "line 2: ADD with --keep-git-dir"),
        ("FROM a\nCOPY --link file.txt /f\n", "line 2: COPY with --link"),
        ("FROM a\nCOPY --parents file.txt /f/\n", "line 2: COPY with --parents"),
        ("FROM a\nCOPY --chmod=755 file.txt /f\n", "line 2: COPY with --chmod"),
        ("FROM a\nCOPY --exclude=*.md . /f\n", "line 2: COPY with --exclude"),
        ("FROM a\nRUN --mount=type=cache,target=/c true\n", "line 2: RUN with --mount"),
        ("FROM a\nRUN --network=none true\n", "line 2: RUN with --network"),
        ("FROM a\nRUN --security=insecure true\n", "line 2: RUN with --security"),
        ("FROM a\nRUN --device=x true\n", "line 2: RUN with --device"),
        ("FROM --platform=$BUILDPLATFORM a\n", "line 1: FROM with BUILDPLATFORM, which only BuildKit sets"),
        ("FROM a-${TARGETARCH}\n", "line 1: FROM with TARGETARCH"),
        ("FROM a\nARG X TARGETARCH\n", "line 2: ARG with TARGETARCH"),
        ("# syntax=docker/dockerfile:1-labs\nFROM a\n", "# syntax=docker/dockerfile:1-labs"),
        ("#syntax = my/frontend\nFROM a\n", "# syntax=my/frontend"),
        ("FROM a\nADD https://example.com/x.git#v1 /x\n", "line 2: ADD of a Git repository"),
        ("FROM a\nADD git@example.com:x/y.git /x\n", "line 2: ADD of a Git repository"),
    ],
)  # fmt: skip
def test_words_that_only_buildkit_knows(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_buildkit_only(parse_dockerfile(text), "there is no docker command")
    assert caught.value.code == "needs-buildkit"
    assert words in caught.value.message
    assert "there is no docker command" in caught.value.message
    assert "buildx" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text",
    [
        "FROM --platform=linux/amd64 a AS b\nCOPY --from=c --chown=1:1 x /y\nADD --chown=1 x y\n",
        "FROM a\nRUN echo '<<EOF' \"<<EOF\" $((1<<2)) && cat <<< here\n",
        'FROM a\nRUN ["cat", "<<EOF"]\n',
        "FROM a\n# RUN --mount=type=cache true\nRUN echo --mount=x\n",
        "# syntax=docker/dockerfile:1\nFROM a\n",
        "# syntax=docker.io/docker/dockerfile:1.7.1\n# escape=`\nFROM a\n",
        "FROM a\n# syntax=my/frontend\n",
        "ARG TARGETARCH=amd64\nFROM a-$TARGETARCH\nARG TARGETARCH=amd64\n",
        "FROM a\nADD https://example.com/x.tar.gz /x\n",
        "FROM a\nHEALTHCHECK --interval=5s CMD true\n",
        "",
        "\\",
    ],
)
def test_what_the_classic_builder_does_is_left_to_it(text: str) -> None:
    refuse_buildkit_only(parse_dockerfile(text), "")


def test_a_long_list_is_cut_short() -> None:
    text = "FROM a\n" + "COPY --link a b\n" * 40
    with pytest.raises(UsageError, match="; and 35 more"):
        refuse_buildkit_only(parse_dockerfile(text), "")
