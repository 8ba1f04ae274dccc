#!/usr/bin/env python3
"""Langfuse's JS SDK 5.x under Node's OpenTelemetry SDK: OTLP JSON; reads by its client
and by the older package `langfuse` 3."""
# campaign
# timeout: 600
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
    """A number of money that may have been rounded."""
    return lambda got: isinstance(got, (int, float)) and abs(got - wanted) < 1e-9


def check_nested(s, ids, mark):
    t = s.trace(ids["trace"])
    holds({"id": ids["trace"], "name": "chat " + mark, "userId": "user-" + mark, "sessionId": "session-" + mark,
           "release": "v1.2.3", "version": "app-9", "environment": "staging", "public": True,
           "input": {"trace": "in"}, "output": {"trace": "out"}, "metadata": {"tenant": "acme"},
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
    # This SDK sends every value that is no text as JSON text, and texts as they are: 7 and "7" are one on the wire.
    holds({"input": {"q": "capital? ✓"}, "output": {"a": "Paris"},
           "metadata": {"s": "text", "i": lambda v: v in (7, "7"), "b": lambda v: v in (True, "true"),
                        "nested": {"x": [1, 2]}}}, o["root"])
    holds({"input": "plain text"}, o["planner"])
    holds({"input": {"q": "France"}, "output": ["doc1", "doc2"], "level": "DEBUG"}, o["search"])
    holds({"input": "France", "output": [{"id": 1}]}, o["lookup"])
    holds({"model": "text-embedding-3-small", "promptTokens": 4}, o["embed"])
    holds({"model": "gpt-4o", "modelParameters": {"temperature": 0.1, "max_tokens": 50},
           "input": [{"role": "user", "content": "capital?"}],
           "output": {"role": "assistant", "content": "Paris — naïve \U0001f600"},
           "promptTokens": 17, "completionTokens": 3, "totalTokens": 20,    # what is read from a cache is input too
           "usageDetails": {"input": 12, "output": 3, "total": 20, "input_cached_tokens": 5},
           "costDetails": {"input": close(0.0012), "output": close(0.0009), "total": close(0.0021)},
           "calculatedTotalCost": close(0.0021), "metadata": {"finish": "stop"}, "completionStartTime": ANY}, o["llm"])
    holds({"output": 0.5}, o["judge"])
    holds({"level": "WARNING", "statusMessage": "almost"}, o["guard"])
    holds({"input": {"a": 1}, "metadata": {"k": "v"}}, o["event"])
    holds({"level": "ERROR", "statusMessage": Like(".*it broke.*")}, o["broken"])


def check_others(s, ids):
    o = by_name(s.trace(ids["seeded"]))["remote"]
    holds({"parentObservationId": ids["parent"], "startTime": "2026-01-02T03:04:05.678Z",
           "endTime": "2026-01-02T03:04:06.789Z", "latency": close(1.111)}, o)
    o = by_name(s.trace(ids["wrapped"]))
    holds({"input": [1, 2], "output": 3, "parentObservationId": o["around"]["id"],
           "metadata": {"inside": "yes"}}, o["wrapped"])


def check_wire(wire):
    exports = client.sent(wire, PATH, content_type="application/json")
    must(len(exports) >= 2, "%d exports" % len(exports))
    for c in exports:
        must(otlp.decode_json(c.body), "an export without spans")
        must((c.reply.h("content-type") or "").startswith("application/json"),
             "answered as %s" % c.reply.h("content-type"))
        must(c.reply.json == {}, lambda: "answer: %r" % c.reply)


installed = []


@T.case("@langfuse/otel 5.x (JS) is installed")
def _():
    installed.append(client.npm("js-langfuse", os.path.join(HERE, "js-langfuse")))


if installed:
    folder = installed[0]
    title = "@langfuse/otel %s (JS)" % client.npm_version(folder, "@langfuse/otel")
    with T.server() as s, client.tap(s) as wire:
        mark = uid()[:8]
        env = {"LANGFUSE_BASE_URL": wire.url, "LANGFUSE_BASEURL": wire.url, "LANGFUSE_PUBLIC_KEY": PK,
               "LANGFUSE_SECRET_KEY": SK, "LANGFUSE_TRACING_ENVIRONMENT": "staging", "LANGFUSE_RELEASE": "v1.2.3",
               "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
        facts = client.program(T, wire, title, [client.tool("node"), "app.mjs", mark], env, cwd=folder,
                               allowed=[(404, "/api/public/traces/0+9")])

        @T.case(title + ": types, tree, payloads, usage, costs and trace fields as they were sent")
        def _():
            check_nested(s, facts["nested"], mark)

        @T.case(title + ": observe(), a remote parent, times of the past")
        def _():
            check_others(s, facts["others"])

        @T.case(title + ": OTLP JSON on the wire, answered in kind")
        def _():
            check_wire(wire)
T.done()
