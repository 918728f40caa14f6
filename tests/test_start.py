"""What must not be loaded yet where somebody waits: benchmarks/start.py and nitro_list.py have the times."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("begins", "not_yet"),
    [
        pytest.param(
            "import enclavectl.backends.local.supervisor",
            "dataclasses cryptography",
            id="a local enclave, before its payload is started",
        ),
        pytest.param(
            "import enclavectl.cli.boundary, enclavectl.cli.commands.list, enclavectl.backends.nitro.backend",
            "cryptography rich yaml enclavectl.backends.base enclavectl.nitro_cli.failure",
            id="list, before nitro-cli is started",
        ),
        pytest.param(
            "import enclavectl.cli.boundary, enclavectl.cli.commands.diagnose; "
            "import enclavectl.backends.local.backend; "
            "from enclavectl.models.find import *; find_model(PACKAGED_ID, data_dir=Path('/nonexistent'))",
            "cryptography numpy rich yaml enclavectl.targets.remotes enclavectl.backends.machine "
            "enclavectl.backends.history",
            id="diagnose, before a local enclave is started",
        ),
        pytest.param(
            "import enclavectl.cli.picture_batch, enclavectl.targets.session; "
            "from enclavectl.cli.screen import Screen; Screen(as_json=False).drawn(('a', 'bold'))",
            "rich yaml enclavectl.evidence.file enclavectl.evidence.examination "
            "enclavectl.attestation.explanation enclave_payload.session",
            id="diagnose, where its answer is no terminal's",
        ),
        pytest.param(
            "import enclavectl.backends.local.nsm, enclavectl.backends.local.measure; "
            "import enclavectl.backends.local.root, enclavectl.backends.keeping.folders",
            "enclavectl.backends.keeping.records enclavectl.backends.history platform",
            id="a local enclave's supervisor",
        ),
        pytest.param(
            "import enclave_payload.zygote",
            "cryptography fractions numpy enclave_payload.decoder enclave_payload.server",
            id="the process that loads the model, before it is forked",
        ),
        pytest.param(
            "import enclavectl.cli.boundary, enclavectl.cli.commands.fleet.render; "
            "from enclavectl.cli.screen import Screen; Screen(as_json=False).facts([('a', 'b')])",
            "cryptography rich enclavectl.attestation enclavectl.eif.examine enclavectl.host.plan "
            "enclavectl.schemas",
            id="fleet render, where its answer is no terminal's",
        ),
        pytest.param(
            "from enclavectl.cli.boundary import run; run(['--help']); run(['eif', '--help'])",
            "dataclasses json cryptography rich yaml enclavectl.config.load enclavectl.cli.screen "
            "enclavectl.schemas enclavectl.cli.commands",
            id="help pages of groups",
        ),
    ],
)
def test_what_takes_long_to_load_is_not_loaded_yet(begins: str, not_yet: str) -> None:
    code = f"import sys; {begins}; print(*(set(sys.modules) & set({not_yet.split()})), file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stderr.split() == []
