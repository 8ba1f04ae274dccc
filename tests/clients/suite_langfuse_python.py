#!/usr/bin/env python3
"""Langfuse's Python SDK, majors 3, 4 and 5: spans over OTLP, read back by the SDK where it can, and over HTTP."""
# campaign
# timeout: 600
import gzip
import os
import sys
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import client
import otlp
from xt import *

T = Suite()
client.on_sigterm()
PATH = "/api/public/otel/v1/traces"


def by_name(trace):
    return {o["name"]: o for o in trace["observations"]}


def close(wanted):
    """A number of money or time that may have been rounded."""
    return lambda got: isinstance(got, (int, float)) and abs(got - wanted) < 1e-9


def check_nested(s, major, ids, mark):
    t = s.trace(ids["trace"])
    own = major < 5                 # 5 has no trace input and output: the root's are shown
    holds({"id": ids["trace"], "name": "chat " + mark, "userId": "user-" + mark, "sessionId": "session-" + mark,
           "release": "v1.2.3", "version": "app-9", "environment": "staging", "public": True,
           "input": {"trace": "in"} if own else {"q": "capital? ✓"},
           "output": {"trace": "out"} if own else {"a": "Paris"},
           "totalCost": close(0.00211)}, t)
    must(sorted(t["tags"]) == ["alpha", "run-" + mark], "tags %s" % t["tags"])
    o = by_name(t)
    must(len(t["observations"]) == len(ids) - 1, "observations: %s" % sorted(o))
    for name, kind, parent in (
            ("root", "SPAN", None), ("planner", "AGENT", "root"), ("search", "TOOL", "planner"),
            ("lookup", "RETRIEVER", "planner"), ("embed", "EMBEDDING", "planner"), ("llm", "GENERATION", "planner"),
            ("chain", "CHAIN", "root"), ("judge", "EVALUATOR", "root"), ("guard", "GUARDRAIL", "root"),
            ("event", "EVENT", "root"), ("broken", "SPAN", "root")):
        holds({"id": ids[name], "traceId": ids["trace"], "type": kind, "environment": "staging",
               "parentObservationId": ids[parent] if parent else None}, o[name])
    holds({"input": {"q": "capital? ✓"}, "output": {"a": "Paris"}, "level": "DEFAULT"}, o["root"])
    holds({"input": "plain text", "output": None}, o["planner"])
    holds({"input": {"q": "France"}, "output": ["doc1", "doc2"], "level": "DEBUG"}, o["search"])
    holds({"input": "France", "output": [{"id": 1}]}, o["lookup"])
    holds({"model": "text-embedding-3-small", "promptTokens": 4, "costDetails": {"input": close(0.00001)}}, o["embed"])
    holds({"model": "gpt-4o", "modelParameters": {"temperature": 0.1, "max_tokens": 50},
           "input": [{"role": "user", "content": "capital?"}], "output": {"role": "assistant", "content": "Paris"},
           "promptTokens": 17, "completionTokens": 3, "totalTokens": 20,    # what is read from a cache is input too
           "usageDetails": {"input": 12, "output": 3, "total": 20, "cache_read_input_tokens": 5},
           "costDetails": {"input": close(0.0012), "output": close(0.0009), "total": close(0.0021)},
           "calculatedTotalCost": close(0.0021), "completionStartTime": ANY}, o["llm"])
    start, first, end = (iso(o["llm"][k]) for k in ("startTime", "completionStartTime", "endTime"))
    must(start <= first <= end, "completion start %s not between %s and %s" % (first, start, end))
    holds({"output": 0.5}, o["judge"])
    holds({"level": "WARNING", "statusMessage": "almost"}, o["guard"])
    holds({"input": {"a": 1}}, o["event"])
    holds({"level": "ERROR", "statusMessage": Like(".*it broke.*")}, o["broken"])


def check_metadata(s, major, ids):
    """3 and 4 send texts as they are, so "123" and 123 are one; 5 sends every value as JSON text."""
    t = s.trace(ids["trace"])
    o = by_name(t)
    number = "123" if major >= 5 else lambda v: v in ("123", 123)
    holds({"s": "text", "i": 7, "b": True, "number text": number, "nested": {"x": [1, 2]}}, o["root"]["metadata"])
    holds({"finish": "stop"}, o["llm"]["metadata"])
    holds({"k": "v"}, o["event"]["metadata"])
    holds({"tenant": "acme"}, t["metadata"])


def check_decorated(s, ids):
    o = by_name(s.trace(ids["plain"]))
    holds({"input": {"args": [1], "kwargs": {"b": 4}}, "output": {"sum": 5, "said": "HELLO"},
           "type": "SPAN"}, o["plain"])
    holds({"type": "GENERATION", "model": "m-1", "output": "HELLO", "parentObservationId": o["plain"]["id"],
           "promptTokens": 1, "completionTokens": 2, "calculatedTotalCost": close(0.5)}, o["model call"])
    holds({"output": "one two"}, by_name(s.trace(ids["stream"]))["stream"])
    holds({"input": None, "output": None, "level": "ERROR", "statusMessage": Like(".*no luck.*")},
          by_name(s.trace(ids["failing"]))["failing"])


def check_odd(s, trace):
    t = s.trace(trace)
    must(len(t["observations"]) == 1, "%d observations" % len(t["observations"]))
    o = t["observations"][0]
    must(o["name"].startswith("odd \U0001f600"), "name %r" % o["name"])
    holds({"input": {"emoji": "\U0001f600", "when": Like("2026-01-02T00:00:00.*"), "long": "x" * 20000},
           "metadata": {"empty": {}, "list": []}}, o)
    depth, d = 0, o["output"]
    while isinstance(d, dict) and d:
        d, depth = d["d"], depth + 1
    must(depth >= 10, "%d levels" % depth)          # some versions cut deep values themselves


def check_wire(wire, major):
    """What the version does on the wire is what its documentation of record says; the answers fit it."""
    exports = client.sent(wire, PATH, content_type="application/x-protobuf")
    must(len(exports) >= 2, "%d exports" % len(exports))
    for c in exports:
        zipped = "gzip" in c.headers.get("content-encoding", "")
        must(zipped == (major >= 5), lambda: "content-encoding: " + client.shown(c))
        must(otlp.decode_request(gzip.decompress(c.body) if zipped else c.body), "an export without spans")
        must(c.reply.h("content-type") == "application/x-protobuf",
             lambda: "answered as %s" % c.reply.h("content-type"))
        must(otlp.export_answer(c.reply.body) == (0, ""), lambda: "answer: %r" % c.reply.body)


for major in (3, 4, 5):
    title = "langfuse %d.x (Python)" % major
    python = []

    @T.case(title + " is installed")
    def _():
        python.append(client.venv("langfuse%d" % major, ["langfuse>=%d,<%d" % (major, major + 1)]))

    if not python:
        continue
    title = "langfuse %s (Python)" % client.python_version(python[0], "langfuse")
    with T.server() as s, client.tap(s) as wire:
        mark = uid()[:8]
        env = {"LANGFUSE_HOST": wire.url, "LANGFUSE_PUBLIC_KEY": PK, "LANGFUSE_SECRET_KEY": SK,
               "LANGFUSE_TRACING_ENVIRONMENT": "staging", "LANGFUSE_RELEASE": "v1.2.3"}
        facts = client.program(T, wire, title, [python[0], "-W", "ignore::DeprecationWarning",
                                                os.path.join(HERE, "python", "langfuse_app.py"), mark], env,
                               allowed=[(404, "/api/public/traces/0+9")])

        @T.case(title + ": types, tree, payloads, usage, costs and trace fields as they were sent")
        def _():
            check_nested(s, major, facts["nested"], mark)

        @T.case(title + ": functions under @observe")
        def _():
            check_decorated(s, facts["decorated"])

        @T.case(title + ": odd values are readable")
        def _():
            check_odd(s, facts["odd"])

        @T.case(title + ": metadata keeps its texts and types")
        def _():
            check_metadata(s, major, facts["nested"])

        @T.case(title + ": the list has it under its filters")
        def _():
            r = s.get("/api/public/traces?userId=user-%s&tags=alpha&tags=run-%s&environment=staging" % (mark, mark))
            must([t["id"] for t in r.json["data"]] == [facts["nested"]["trace"]], lambda: "list: %r" % r)

        @T.case(title + ": protobuf%s on the wire, answered in kind" % (" and gzip" if major >= 5 else ""))
        def _():
            check_wire(wire, major)
T.done()
