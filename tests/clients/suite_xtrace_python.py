#!/usr/bin/env python3
"""xtrace's Python SDK (`xtrace_sdk`): batches in pieces, wrapped OpenAI calls, metrics."""
# campaign
# timeout: 300
import os
import sys
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import client
from xt import *

T = Suite()
client.on_sigterm()
python = []


@T.case("xtrace-sdk (Python) is installed")
def _():
    python.append(client.venv("xtrace-sdk", ["xtrace-sdk"]))


def wrapped(s, mark):
    """The two traces of the wrapped calls: plain, streamed."""
    r = s.get("/api/public/traces?sessionId=session-%s&userId=user-%s&name=chat%%20%s&tags=run-%s" % ((mark,) * 4))
    must(r.status == 200 and len(r.json["data"]) == 2, lambda: "list: %r" % r)
    both = [s.trace(t["id"]) for t in r.json["data"]]
    return sorted(both, key=lambda t: t["observations"][0]["timeToFirstToken"] is not None)


def check_wrapped(s, mark):
    for t, streamed in zip(wrapped(s, mark), (False, True)):
        holds({"name": "chat " + mark, "userId": "user-" + mark, "sessionId": "session-" + mark,
               "metadata": {"tenant": "acme"},
               "tags": lambda tags: sorted(tags) == ["alpha", "run-" + mark], "latency": lambda v: 0 <= v < 60}, t)
        must(len(t["observations"]) == 1, "%d observations" % len(t["observations"]))
        o = t["observations"][0]
        holds({"type": "GENERATION", "name": "chat", "model": "m-1", "level": "DEFAULT", "output": "four",
               "input": [{"role": "user", "content": "2+2? ✓"}],
               "promptTokens": 5, "completionTokens": 7, "totalTokens": 12,
               "usage": {"input": 5, "output": 7, "total": 12, "unit": "TOKENS"}, "parentObservationId": None,
               "metadata": None if streamed else {"step_id": "s1", "step_type": "llm_call"},
               "completionStartTime": ANY if streamed else None,
               "timeToFirstToken": lambda v: (v is not None) == streamed}, o)
        if streamed:
            must(iso(o["startTime"]) <= iso(o["completionStartTime"]) <= iso(o["endTime"]), "times out of order")


if python:
    title = "xtrace-sdk %s (Python)" % client.python_version(python[0], "xtrace-sdk")
    # Its project id is "default" whatever the server's is: the list shows its traces all the same.
    with T.server({"DEFAULT_PROJECT_ID": "team"}) as s, client.tap(s) as wire:
        mark = uid()[:8]
        env = {"XTRACE_BASE_URL": wire.url, "XTRACE_API_KEY": TOKEN}
        facts = client.program(T, wire, title, [python[0], os.path.join(HERE, "python", "xtrace_app.py"), mark], env)

        @T.case(title + ": wrapped calls, whole and streamed")
        def _():
            check_wrapped(s, mark)

        @T.case(title + ": a trace in two pieces, nulls and all")
        def _():
            ids = facts["trace"]
            t = s.trace(ids["id"])
            must(t["name"] == "pieces " + mark, "name %s" % t["name"])
            o = {x["id"]: x for x in t["observations"]}
            holds({ids["span"]: {"type": "SPAN", "name": "outer", "parentObservationId": None},
                   ids["generation"]: {"type": "GENERATION", "output": {"a": 1},
                                       "parentObservationId": ids["span"]}}, o)
T.done()
