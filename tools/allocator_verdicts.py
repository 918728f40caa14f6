"""Record what AWS's allocator takes from many files: ``python -m tools.allocator_verdicts SCRIPT``.

SCRIPT is ``bootstrap/nitro-enclaves-allocator`` of https://github.com/aws/aws-nitro-enclaves-cli, at the tag
of the release to record. It runs without its last line, which would reserve memory, so only its parser is
asked. None of it is kept. Needs bash, GNU grep and sed, and the locale en_US.UTF-8, which the script sets:
without that locale Bash reads bytes where it would read characters.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.host.allocator_files import corpus

TABLE = Path(__file__).resolve().parents[1] / "tests" / "host" / "allocator" / "verdicts.json"
LAST_LINE = 'main "$@"'
ASK = (
    "CONFIG_FILE_PATH={file}\nparse_config\n"
    'for key in memory_mib cpu_count cpu_pool; do echo "$key=${{CONFIG[$key]}}"; done\n'
)
# A file of some dozen lines starts some dozen programs.
TIMEOUT_S = 60


def ask(script: str, data: bytes) -> dict[str, str] | None:
    """Return what the script takes from a file, by key, or None if it ends with an error."""
    with tempfile.TemporaryDirectory() as folder:
        file, program = Path(folder) / "allocator.yaml", Path(folder) / "script"
        file.write_bytes(data)
        program.write_text(script + ASK.format(file=file))
        done = subprocess.run(["bash", program], capture_output=True, check=False, timeout=TIMEOUT_S)
    if done.returncode != 0:
        return None
    return dict(line.split("=", 1) for line in done.stdout.decode("utf-8", "replace").splitlines()[-3:])


def main(path: Path) -> None:
    """Write the table."""
    text = path.read_text()
    if not text.rstrip().endswith(LAST_LINE):
        raise SystemExit(f"{path}: expected a script that ends with {LAST_LINE}: is this AWS's allocator?")
    locales = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=True).stdout.split()
    if not {"en_US.utf8", "en_US.UTF-8"} & set(locales):
        raise SystemExit("expected the locale en_US.UTF-8: localedef -i en_US -f UTF-8 en_US.UTF-8")
    script = text.rstrip().removesuffix(LAST_LINE)
    files = corpus()
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda data: ask(script, data), files.values()))
    table = {
        "script_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "verdicts": [
            {"name": name, "file": data.decode("latin-1"), "takes": takes}
            for (name, data), takes in zip(files.items(), found, strict=True)
        ],
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{TABLE}: {len(files)} files, {sum(takes is not None for takes in found)} of them taken")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
