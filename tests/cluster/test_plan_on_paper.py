"""The plan on paper: its arithmetic, by hand."""

from __future__ import annotations

import pytest

from benchmarks.fleet import Need, plan_on_paper


def test_a_million_pictures_an_hour_by_hand() -> None:
    plan = plan_on_paper(Need(peak=1.0, load=1.0, cpu_ms=20.0, relay_ms=2.0, zones=3))
    assert plan["pictures a second"] == pytest.approx(277.78, abs=0.01)
    assert plan["pictures a second of an enclave"] == 100  # 2 vCPUs, 20 ms each
    assert plan["enclaves"] == 3  # 277.78 / 100
    assert plan["nodes that they fill"] == 1
    assert plan["nodes with a zone lost"] == 2
    assert plan["vCPUs of all relays at the peak"] == pytest.approx(0.556, abs=0.001)
    assert plan["Gbit/s at the peak"] == pytest.approx(4.444, abs=0.001)


def test_more_of_anything_never_needs_fewer_nodes() -> None:
    nodes = [
        plan_on_paper(Need(pictures_per_hour=count))["nodes with a zone lost"]
        for count in (10**5, 10**6, 10**7)
    ]
    assert nodes == sorted(nodes)
    assert plan_on_paper(Need(cpu_ms=50))["enclaves"] > plan_on_paper(Need(cpu_ms=25))["enclaves"]
