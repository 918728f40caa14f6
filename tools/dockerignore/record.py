"""Write the table of what Docker leaves out; tests/vectors/dockerignore/README.md has the command."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).parents[2] / "tests/vectors/dockerignore/table.json"
_PLAIN_PATHS = """
Dockerfile .dockerignore a.pem keys keys/a.pem keys/b.txt keys/deep keys/deep/c.pem keys/deep/er/d.pem
build build/out.bin src/build src/build/out.bin src/x.py src/x.pyc src/__pycache__/x.pyc src/a/b/c/d.py
.env conf/.env .env.local .git .git/config .gitignore README.md docs/README.md docs/a.md #hash !bang
foo\\bar foobar node_modules/m/i.js pkg/node_modules/m/i.js secret secrets/x secrets.txt UPPER.PEM
Labels.TXT tmp/.keep data data/keep.csv data/drop.csv data/sub/keep.csv x.tar.gz [a].txt a.txt b.txt
c.txt !.txt ^.txt -.txt 5.txt patients.csv a.csv aa.csv b.csv é.txt ée.txt a^b a$b a+b a(b) a{1} a|b
].txt a]b a]c d _ a- a/- deep/a/-/x foo foo/bar foo/bar/baz foo/foo foox/bar x/foo/y a/b/foo
"""
PATHS = [
    *_PLAIN_PATHS.split(),
    "a b.txt",
    "a\nb",
    "x \ty",
    "\udcff.bin",
    "\udcfe.bin",
    "\u3000.txt",
    "\ufeffmark",
]
_PATTERNS = """
*.pem **/*.pem /keys keys keys/ ./keys keys/. keys/** keys/**/ keys/**/c.pem keys/*/c.pem **/deep
/**/a.pem **a.pem keys** *** **/** ** * ? ?? ?.txt ??.txt */*.txt */* */*/* **/build build/ /build/ .env
**/.env .env* .* .git .??* node_modules/ **/node_modules **/node_modules/** **/node_modules/*/i.js
secret secret* *.PEM *.pEm labels.txt [ab].txt [!a].txt [^a].txt [^ab]*.csv [^a]*.csv [a-c].txt [a-].txt
[-a].txt [c-a].txt [^a-c].txt [a^].txt [[]a].txt \\[a\\].txt [\\[]a].txt [\\]].txt [\\^].txt [\\-].txt
[0-9].txt [^0-9].txt [] []a].txt [^].txt [a [a-b [ a[ a] ] a]b a]* a[]]b [a]]b [*].txt [?].txt [*]* [**]
[**/].txt [a*b].txt [.].txt [a.+].txt [[:alpha:]].txt [[:upper:]]* [[:digit:]].txt [[:nope:]]
[[:^alpha:]].txt [:alpha:] [[:alpha]] [é].txt [^é].txt é.txt é* ?e.txt [à-ü]*.txt \\# \\#hash \\!bang
!bang foo\\bar foo\\\\bar foo\\\\ba? foo\\ \\ \\\\ \\d.txt \\D.txt \\w.txt \\s \\bfoo \\a \\n \\q \\_
\\- \\é.txt [\\d].txt [\\w]*.csv a\\nb [a\\n]*b a?b a*b a^b *^b ^a *^ a$b *$b a$ a+b *+b a(b) *(b) a{1}
*{1} a|b *|b .* .*.txt x.tar.* x.* *.tar.gz data data/ data/* data/*.csv data/**/keep.csv **/keep.csv
*/keep.csv data/*/keep.csv ./data/../a.pem src/../a.pem ../x .. . / //a.pem /a.pem src//x.py src/./x.py
src/*.py src/**.py src/** **/*.py **/*.py[co] **/*.py? **/__pycache__ **/__pycache__/ **/src **/src/**
src/**/b **/b/** a/b a/** **/foo **foo foo** foo/** foo/* **/foo/** *foo foo* **/fo? **/f*/b* **/*o/*
foo/**/baz foo/**/**/baz **/**/foo */foo /*/foo **/bar/baz foo/bar/../bar **x** **/x** *** ***/a ****/a
#hash
"""
FILES = (
    "",
    "\n\n",
    "#comment\n*.md\n",
    "  #hash\n",
    " *.pem  \n",
    "\t*.pem\n",
    "*.pem\r\n*.md\r\n",
    "*.pem",
    "*.pem\r",
    "*.pem\v\n",
    "\ufeff*.pem\n",
    "\n\ufeff*.pem\n",
    "\ufeff\ufeffmark\n",
    "\n\ufeffmark\n",
    "\ufeff#comment\n*.md\n",
    "\xa0*.md\xa0\n",
    "\u3000*.md\n",
    "\u3000.txt\n",
    "\x1c*.md\n",
    "*.md\x85*.pem\n",
    "*.md\u2028*.pem\n",
    "a b.txt\n",
    "x \ty\n",
    "!\n",
    "! \n",
    "!/\n",
    "!.\n",
    "*\n!.\n",
    "! *.md\n",
    "!!bang\n",
    "*\n!!bang\n",
    "*.md \n!README.md\n",
    "*.md\n! README.md \n",
    "!README.md\n*.md\n",
    "*.md\n!README.md\n*.md\n",
    "*.md\n!./README.md\n",
    "*.md\n!/README.md\n",
    "*.md\n!docs/../README.md\n",
    "docs\n!docs/README.md\n",
    "docs/\n!docs/README.md\n",
    "docs/**\n!docs/README.md\n",
    "docs\n!docs/*.md\ndocs\n",
    "docs\n!docs\n",
    "docs/*\n!docs\n",
    "docs\n!docs/README.md\ndocs\n",
    "docs\n!docs/README.md\ndocs/README.md\n",
    "docs\n!docs/README.md\ndocs/**\n",
    "docs\n!**/README.md\n",
    "*\n!src\n",
    "*\n!src/\n",
    "*\n!src/**\n",
    "*\n!src/*\n",
    "*\n!src/x.py\n",
    "*\n!/src/x.py\n",
    "**\n!src/x.py\n",
    "**\n!**/x.py\n",
    "*\n!**/*.py\n",
    "*\n!src\nsrc/build\n",
    "*\n!src\n**/*.pyc\n",
    "**/*\n!a.txt\n",
    "*/**\n!keys/deep\n",
    "keys/*\n!keys/b.txt\n",
    "keys/**\n!keys/deep/c.pem\n",
    "keys\n!keys/deep\nkeys/deep/er\n",
    "keys\n!keys/deep\nkeys/deep/er\n!keys/deep/er/d.pem\n",
    "data/*\n!data/keep.csv\n",
    "data\n!data/keep.csv\n",
    "data\n!data/[k]*.csv\n",
    "*.csv\n!a*.csv\n",
    "*.csv\n![^a]*.csv\n",
    "[^a]*.csv\n!patients.csv\n",
    "*.txt\n!LABELS.TXT\n",
    "*.TXT\n!Labels.TXT\n",
    ".git\n!.git/config\n",
    ".*\n!.env\n",
    "*\n!.*\n",
    "**/.*\n!**/.env\n",
    "foo\n!foo/bar\nfoo\n",
    "foo/**\n!foo/bar/**\n",
    "**/foo\n!x/foo/y\n",
    "**/foo\n!**/foo/y\n",
    "*\n!../x\n",
    "!../x\n",
    "*\n!**\n",
    "*\n!\\#hash\n",
    "*\n!#hash\n",
    "*\n!\\!bang\n",
    "*\n![\n",
    "[\n",
    "a[\n*.md\n",
    "*.md\n\\\n",
    "\udcff.bin\n",
    "?.bin\n",
    "*\udcff*\n",
    "[\udcff].bin\n",
    "[a\udcff].bin\n",
    "\udcff.bi?\n",
    "a\\\nb\n",
)


def main() -> None:
    """Ask the program that ``sys.argv[1]`` names, made from main.go, and write the table."""
    patterns = (text for pattern in _PATTERNS.split() for text in (f"{pattern}\n", f"*\n!{pattern}\n"))
    files = list(dict.fromkeys((*FILES, *patterns)))
    questions = [json.dumps({"ignore": encoded(text), "paths": [*map(encoded, PATHS)]}) for text in files]
    done = subprocess.run(
        [sys.argv[1]], input="\n".join(questions) + "\n", capture_output=True, text=True, check=True
    )
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    rows = [
        json.dumps({"ignore": text, "left_out": verdict})
        for text, verdict in zip(files, verdicts, strict=True)
    ]
    TABLE.write_text(f'{{"paths": {json.dumps(PATHS)},\n"files": [\n' + ",\n".join(rows) + "\n]}\n")
    sys.stdout.write(f"{len(files)} files, {len(PATHS)} paths\n")


def encoded(text: str) -> str:
    """Encode the bytes of a file or a path in base64, since JSON cannot hold bytes that are not UTF-8."""
    return base64.b64encode(text.encode(errors="surrogateescape")).decode()


if __name__ == "__main__":
    main()
