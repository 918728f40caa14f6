from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from enclave_payload.contents import Outcome, Timings
from enclave_payload.verdict import Problem, Remark
from enclavectl.client.batch import Reply
from enclavectl.errors import EnclaveLost, PictureRefused
from enclavectl.evidence import Receipted
from enclavectl.results.diagnosis import Diagnosis, Result, Totals, refusal, to_result
from tests.in_process import CARD, MODULE_ID, PCRS, gray
from tests.results.test_rows import ENCLAVE

TIMINGS = Timings(queue_us=100, decode_us=2_000, inference_us=30_000)
ANSWER = Outcome(
    model_id=CARD.model_id,
    model_sha256=CARD.sha256,
    timings=TIMINGS,
    probabilities_ppb={"dark": 250_000_000, "light": 750_000_000},
)
REFUSED = Outcome(
    model_id=CARD.model_id, model_sha256=CARD.sha256, timings=TIMINGS, problem=Problem.UNREADABLE
)
NAMES = {"dark": "Dark", "light": "Light"}
GOOD = Result(image="a", sha256="00", outcome=ANSWER)
BAD = Result(image="b", sha256=None, error=EnclaveLost("gone"))


def counted(pictures: int, *results: Result) -> Totals:
    totals = Totals(pictures=pictures)
    for result in results:
        totals.count(result)
    return totals


def test_an_answer_in_json() -> None:
    picture = gray(191)
    receipted = Receipted(receipt=b"r", request_statement=b"q", answer_statement=b"a")
    reply = Reply(index=0, picture=picture, outcome=ANSWER, receipted=receipted, total_ms=33.33333)
    result = to_result("a.png", reply)
    assert result.to_json(NAMES) == {
        "image": "a.png",
        "sha256": picture.sha256,
        "session": 0,
        "label": {"code": "light", "name": "Light", "probability": 0.75},
        "probabilities": {"dark": 0.25, "light": 0.75},
        "rest": None,
        "receipted": True,
        "warnings": [],
        "timings_ms": {"total": 33.333, "queue": 0.1, "decode": 2.0, "inference": 30.0},
    }


@pytest.mark.parametrize("remark", list(Remark))
def test_what_makes_an_answer_worth_less_is_a_warning_beside_it(remark: Remark) -> None:
    outcome = replace(ANSWER, remarks=(remark,))
    result = to_result("a.png", Reply(index=0, picture=gray(191), outcome=outcome, total_ms=1))
    value = result.to_json(NAMES)
    assert isinstance(warnings := value["warnings"], list)
    assert [warning["code"] for warning in warnings] == [remark]
    assert "picture" in warnings[0]["message"]
    assert value["label"] == {"code": "light", "name": "Light", "probability": 0.75}


def test_a_refusal_stands_in_place_of_the_label() -> None:
    result = to_result("a.png", Reply(index=0, picture=gray(1), outcome=REFUSED, total_ms=1))
    value = result.to_json(NAMES)
    assert set(value) == {"image", "sha256", "session", "error"}
    assert isinstance(error := value["error"], dict)
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == "unreadable"


def test_a_picture_that_was_never_read_has_no_hash() -> None:
    error = PictureRefused("a.png: empty", code="empty")
    value = to_result("a.png", Reply(index=0, error=error)).to_json(NAMES)
    assert value == {
        "image": "a.png",
        "sha256": None,
        "session": 0,
        "error": {"code": "empty", "message": "a.png: empty", "hint": None},
    }


@pytest.mark.parametrize("problem", list(Problem))
def test_every_problem_has_words_for_people(problem: Problem) -> None:
    error = refusal("a.png", problem)
    assert error.message.startswith("a.png: the enclave refused it: ")
    assert error.code == problem
    assert error.hint
    assert error.exit_code == 5


def test_the_whole_object() -> None:
    totals = counted(2, GOOD, BAD)
    diagnosis = Diagnosis(backend="local", enclave=ENCLAVE, totals=totals)
    value = {**diagnosis.head_json(), "results": [], **diagnosis.tail_json()}
    assert json.loads(json.dumps(value)) == value
    assert value["schema"] == "enclavectl.diagnosis/1"
    assert (value["trust"], value["backend"]) == ("simulated", "local")
    assert isinstance(evidence := value["evidence"], dict)
    assert evidence["verified"] is True
    assert evidence["module_id"] == MODULE_ID
    assert isinstance(pcrs := evidence["pcrs"], dict)
    assert {index: pcrs[str(index)] for index in PCRS} == {i: value.hex() for i, value in PCRS.items()}
    assert len(bytes.fromhex(evidence["nonce"])) == 32
    assert datetime.fromisoformat(evidence["timestamp"]).utcoffset() is not None
    assert value["model"] == {
        "id": CARD.model_id,
        "sha256": CARD.sha256,
        "notice": CARD.notice,
        "labels": NAMES,
    }
    assert (value["complete"], value["pictures"], value["answered"]) == (True, 2, 1)
    assert value["left_out"] == []


def test_what_an_interruption_left_is_not_complete() -> None:
    value = Diagnosis(backend="local", enclave=ENCLAVE, totals=counted(5, GOOD)).tail_json()
    assert (value["complete"], value["pictures"], value["answered"]) == (False, 5, 1)
    assert "results_file" not in value


def test_what_a_results_file_had_is_said_beside_the_totals() -> None:
    totals = Totals(pictures=3, answered=3, found=2)
    value = Diagnosis(backend="local", enclave=ENCLAVE, totals=totals, results_file="a.csv").tail_json()
    assert (value["results_file"], value["earlier"], value["complete"]) == ("a.csv", 2, True)
