"""What a command starts, from the configuration and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from enclavectl.backends.base import ProcessSpec
from enclavectl.backends.machine import MachineSpec
from enclavectl.config.load import Config, load_config
from enclavectl.errors import UsageError
from enclavectl.models.find import PACKAGED_ID
from enclavectl.targets.launch import LaunchRequest, launch_spec


def config(tmp_path: Path, **flags: object) -> Config:
    settings: Mapping[str, object] = {name.replace("__", "."): value for name, value in flags.items()}
    return load_config(path=None, environ={"HOME": str(tmp_path)}, flags=settings)


def test_a_local_enclave_has_a_model_and_no_image(tmp_path: Path) -> None:
    spec = launch_spec(config(tmp_path, backend="local"), LaunchRequest(name="first", debug=True))
    assert isinstance(spec, ProcessSpec)
    assert (spec.name, spec.debug) == ("first", True)
    assert spec.model.card.model_id == PACKAGED_ID


def test_a_local_enclave_refuses_an_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^app\.eif: the local backend runs no images"):
        launch_spec(config(tmp_path, backend="local"), LaunchRequest(image=Path("app.eif")))


def test_a_nitro_enclave_has_an_image_and_the_machine_of_the_configuration(tmp_path: Path) -> None:
    chosen = config(tmp_path, backend="nitro", enclave__memory_mib=2048, enclave__cpus=4, enclave__cid=17)
    spec = launch_spec(chosen, LaunchRequest(image=Path("app.eif")))
    assert isinstance(spec, MachineSpec)
    assert (spec.image, spec.memory_mib, spec.cpus, spec.cid) == (Path("app.eif"), 2048, 4, 17)


def test_a_nitro_enclave_without_an_image_of_its_own_has_the_configured_one(tmp_path: Path) -> None:
    chosen = config(tmp_path, backend="nitro")
    spec = launch_spec(chosen, LaunchRequest())
    assert isinstance(spec, MachineSpec)
    assert spec.image == chosen.enclave.eif
