"""What FastAPI needs of a route is made at the route's first request, and takes little time."""

from __future__ import annotations

import json
import subprocess
import sys

MOST_S = 0.1
_ROUTES = """
import json, sys, time
from dustrun.api import server
from dustrun.api.shapes.wire import model_of
from dustrun.app.process import spare_the_collector
from testkit.processor_time import calculation_s, usual_seconds

def is_made_within(route, most_s):
    started = time.thread_time()
    route.framed
    taken = time.thread_time() - started
    return taken < most_s or usual_seconds(taken, (calculation_s(), calculation_s())) < most_s

framed, _ = server.discover()
routes = [route for route in framed if hasattr(route, "documented")]
made = [route.path for route in routes if "framed" in vars(route)]
spare_the_collector()
slow = [route.path for route in routes if not is_made_within(route, MOST_S)]
print(json.dumps([len(routes) > 100, made, model_of.cache_info().currsize, slow, "pydantic.v1" in sys.modules]))
"""


def test_no_route_and_no_answer_is_made_at_the_start_and_none_takes_long() -> None:
    command = [sys.executable, "-c", _ROUTES.replace("MOST_S", str(MOST_S))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == [True, [], 0, [], False]
