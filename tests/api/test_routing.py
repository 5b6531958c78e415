"""What serves an operation is made at its first request, and takes little time."""

from __future__ import annotations

import json
import subprocess
import sys

MOST_S = 0.1
_ROUTES = """
import json, sys, time
from dustrun.api import server
from dustrun.operations.declaration.answers import model_of
from dustrun.app.process import spare_the_collector
from testkit.processor_time import calculation_s, usual_seconds

def make(one):
    one.encode, one.size, one.input_model, one.may_ignore, one.body is not None and one.body_adapter

def is_made_within(one, most_s):
    started = time.thread_time()
    make(one)
    taken = time.thread_time() - started
    return taken < most_s or usual_seconds(taken, (calculation_s(), calculation_s())) < most_s

declared, _ = server.discover()
operations = [route.operation for route in declared]
made = [one.path for one in operations if {"encode", "input_model", "parameters", "body"} & vars(one).keys()]
spare_the_collector()
slow = [one.path for one in operations if not is_made_within(one, MOST_S)]
print(json.dumps([len(operations) > 100, made, model_of.cache_info().currsize, slow, "pydantic.v1" in sys.modules]))
"""


def test_no_route_and_no_answer_is_made_at_the_start_and_none_takes_long() -> None:
    command = [sys.executable, "-c", _ROUTES.replace("MOST_S", str(MOST_S))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == [True, [], 0, [], False]
