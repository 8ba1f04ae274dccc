#!/usr/bin/env python3
"""OpenTelemetry's JS exporters: OTLP/HTTP as JSON and as protobuf, plain and gzipped, on both paths."""
# campaign
# timeout: 420
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
STD, OWN = "/v1/traces", "/api/public/otel/v1/traces"
TYPES = {"json": "application/json", "proto": "application/x-protobuf"}


def by_name(trace):
    return {o["name"]: o for o in trace["observations"]}


def check_spans(s, ids):
    t = s.trace(ids["trace"])
    holds({"id": ids["trace"], "userId": "js-user", "sessionId": "js-session"}, t)
    o = by_name(t)
    must(sorted(o) == ["broken", "call", "past", "root"], "observations: %s" % sorted(o))
    for name in o:
        holds({"id": ids[name], "parentObservationId": None if name == "root" else ids["root"]}, o[name])
    holds({"type": "GENERATION", "model": "gpt-4o-mini", "promptTokens": 11, "completionTokens": 22}, o["call"])
    holds({"type": "SPAN", "level": "ERROR", "statusMessage": "it broke"}, o["broken"])
    must("exception" in str(o["broken"]["metadata"]), lambda: "no trace of the exception: %s" % o["broken"]["metadata"])
    must("first token" in str(o["call"]["metadata"]), lambda: "no trace of the event: %s" % o["call"]["metadata"])
    holds({"startTime": "2026-01-02T03:04:05.678Z", "endTime": "2026-01-02T03:04:06.789Z"}, o["past"])
    holds({"attributes": {
        "text": "naïve \U0001f600", "empty": "", "yes": True, "int": 42, "negative": -7, "max_safe": 2 ** 53 - 1,
        "double": 1.5, "huge": 1e300, "tiny": 5e-324, "texts": ["a", "b"], "ints": [1, 2], "doubles": [1e300, 0.5],
        "long": "x" * 20000}, "resourceAttributes": {"service.name": "client-test"}}, o["root"]["metadata"])


def check_burst(s, trace):
    names = by_name(s.trace(trace))
    must(set(names) == {"burst"} | {"n%d" % i for i in range(25)}, "observations: %s" % sorted(names))


def check_wire(wire, form, compression, path):
    """The case is what it says, and every answer is in the request's own encoding."""
    exports = client.sent(wire, path, content_type=TYPES[form])
    for c in exports:
        must((c.headers.get("content-encoding") == "gzip") == (compression == "gzip"),
             lambda: "encoding: " + client.shown(c))
        must((c.reply.h("content-type") or "").split(";")[0] == TYPES[form],
             lambda: "%s answered as %s" % (form, c.reply.h("content-type")))
        if form == "proto":
            must(otlp.export_answer(c.reply.body) == (0, ""), lambda: "answer: %r" % c.reply.body)
        else:
            must(c.reply.json == {}, lambda: "answer: %r" % c.reply)
    if form == "json":
        bodies = [gzip.decompress(c.body) if compression == "gzip" else c.body for c in exports]
        must(any(b'"intValue":1e+300' in b for b in bodies), "1e300 was not written as an integer by this version")


installed = []


@T.case("@opentelemetry/exporter-trace-otlp-http, -proto (JS) are installed")
def _():
    installed.append(client.npm("js-otel", os.path.join(HERE, "js-otel")))


if installed:
    folder = installed[0]
    version = client.npm_version(folder, "@opentelemetry/exporter-trace-otlp-http")
    with T.server() as s:
        for form, compression, path in (("json", "none", STD), ("json", "gzip", OWN), ("proto", "none", STD),
                                        ("proto", "gzip", STD), ("proto", "none", OWN)):
            what = form if compression == "none" else form + " " + compression
            title = "OpenTelemetry %s (JS), %s to %s" % (version, what, path)
            with client.tap(s) as wire:
                facts = client.program(T, wire, title,
                                       [client.tool("node"), "app.mjs", form, compression, wire.url + path],
                                       {"XTRACE_TOKEN": TOKEN}, cwd=folder)

                @T.case(title + ": the exporter saw success alone")
                def _():
                    must(facts["results"] and not any(facts["results"]), "result codes %s" % facts["results"])

                @T.case(title + ": spans, attributes of every kind, errors, events, times")
                def _():
                    check_spans(s, facts["ids"])

                @T.case(title + ": many requests at once")
                def _():
                    check_burst(s, facts["ids"]["burst"])

                @T.case(title + ": each answer in the request's encoding")
                def _():
                    check_wire(wire, form, compression, path)
T.done()
