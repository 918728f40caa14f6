"""A script that brings its modules, run as the image being built runs one: from standard input, alone."""

from __future__ import annotations

import subprocess
import sys

from enclavectl.image.bundle import bundle

SOURCES = {
    "outer": "",
    "outer.inner": (
        "'''It's \"quoted\", with ünïcode and \\\\ backslashes.'''\n"
        "from outer import other\nVALUE = other.VALUE + 1\n"
    ),
    "outer.other": "VALUE = 41\n",
    "program": (
        "from __future__ import annotations\n"
        "import outer.inner\n"
        "def main():\n"
        "    print(outer.inner.VALUE, outer.inner.__doc__, outer.__path__)\n"
        "if __name__ == '__main__':\n"
        "    raise SystemExit('imported, not run')\n"
    ),
}


def run(script: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-B", "-"]
    return subprocess.run(argv, input=script, capture_output=True, text=True, timeout=60, check=False)


def test_modules_and_packages_are_imported_from_the_script() -> None:
    done = run(bundle(SOURCES, "program"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == '42 It\'s "quoted", with ünïcode and \\ backslashes. []\n'


def test_what_the_script_lacks_is_still_not_found() -> None:
    done = run(bundle({**SOURCES, "program": "def main():\n    import outer.missing\n"}, "program"))
    assert done.returncode == 1
    assert "No module named 'outer.missing" in done.stderr


def test_a_failure_names_its_module_and_line() -> None:
    done = run(
        bundle({**SOURCES, "program": "def main():\n    raise RuntimeError('on purpose')\n"}, "program")
    )
    assert done.returncode == 1
    assert 'File "program.py", line 2, in main' in done.stderr


def test_the_same_sources_give_the_same_script() -> None:
    assert bundle(dict(reversed(SOURCES.items())), "program") == bundle(SOURCES, "program")
