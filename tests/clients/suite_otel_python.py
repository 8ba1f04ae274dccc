#!/usr/bin/env python3
"""OpenTelemetry's Python exporters over HTTP: protobuf plain, gzip and deflate, and JSON; configured as README says."""
# campaign
# timeout: 480
import gzip
import os
import sys
import zlib
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import client
import otlp
from xt import *

T = Suite()
client.on_sigterm()
STD, OWN = "/v1/traces", "/api/public/otel/v1/traces"
UNPACK = {"none": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}


def by_name(trace):
    return {o["name"]: o for o in trace["observations"]}


def check_spans(s, ids):
    t = s.trace(ids["trace"])
    holds({"id": ids["trace"], "userId": "py-user", "sessionId": "py-session"}, t)
    o = by_name(t)
    must(sorted(o) == ["broken", "call", "past", "root"], "observations: %s" % sorted(o))
    for name in o:
        holds({"id": ids[name], "parentObservationId": None if name == "root" else ids["root"]}, o[name])
    holds({"type": "GENERATION", "model": "gpt-4o-mini", "promptTokens": 11, "completionTokens": 22}, o["call"])
    holds({"type": "SPAN", "level": "ERROR", "statusMessage": Like(".*it broke.*")}, o["broken"])
    for name, text in (("broken", "ValueError"), ("call", "first token"), ("past", ids["call"])):
        must(text in str(o[name]["metadata"]), lambda: "%s: no %s in %s" % (name, text, o[name]["metadata"]))
    holds({"startTime": "2026-01-02T03:04:05.678901Z", "endTime": "2026-01-02T03:04:06.789012Z"}, o["past"])
    holds({"text": "naïve \U0001f600", "empty": "", "yes": True, "int": 42, "negative": -7, "max": 2 ** 63 - 1,
           "min": -2 ** 63, "double": 1.5, "huge": 1e300, "nan": ANY, "inf": ANY, "texts": ["a", "b"], "ints": [1, 2],
           "doubles": [1e300, 0.5], "bools": [True, False], "bytes": ANY, "long": "x" * 20000},
          o["root"]["metadata"]["attributes"])
    holds({"service.name": "client-test", "service.version": "1.2"}, o["root"]["metadata"]["resourceAttributes"])


def check_many(s, trace, root, children):
    names = by_name(s.trace(trace, timeout=30))
    must(set(names) == {root} | children, "%d observations" % len(names))
    top = names[root]["id"]
    must(all(names[n]["parentObservationId"] == top for n in children), "parents are mixed up")


def check_wire(wire, form, compression, path):
    kind = "application/json" if form == "json" else "application/x-protobuf"
    for c in client.sent(wire, path, content_type=kind):
        must(c.headers.get("content-encoding", "none") == compression, lambda: "encoding: " + client.shown(c))
        UNPACK[compression](c.body)
        must((c.reply.h("content-type") or "").split(";")[0] == kind,
             lambda: "answered as %s" % c.reply.h("content-type"))
        if form == "json":
            must(c.reply.json == {}, lambda: "answer: %r" % c.reply)
        else:
            must(otlp.export_answer(c.reply.body) == (0, ""), lambda: "answer: %r" % c.reply.body)


PROTO = "opentelemetry-exporter-otlp-proto-http"
JSON = "opentelemetry-exporter-otlp-json-http"
for package, cases in (
        (PROTO, (("protobuf", "none", STD), ("protobuf", "gzip", STD),
                 ("protobuf", "deflate", STD), ("protobuf", "gzip", OWN))),
        (JSON, (("json", "none", STD), ("json", "gzip", OWN)))):
    python = []

    @T.case(package + " (Python) is installed")
    def _():
        python.append(client.venv(package, [package, "opentelemetry-sdk"]))

    if not python:
        continue
    version = client.python_version(python[0], package)
    with T.server() as s:
        for form, compression, path in cases:
            title = "%s %s (Python), %s to %s" % (package, version, compression, path)
            with client.tap(s) as wire:
                # An endpoint for all signals gets the standard path; one for traces is taken as it is.
                env = {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20" + TOKEN,
                       "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
                       "OTEL_EXPORTER_OTLP_ENDPOINT" if path == STD else "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
                       wire.url if path == STD else wire.url + path}
                facts = client.program(T, wire, title,
                                       [python[0], os.path.join(HERE, "python", "otel_app.py"), form], env,
                                       quiet=["urllib3.*Connection pool is full"])

                @T.case(title + ": the exporter saw success alone")
                def _():
                    must(set(facts["results"]) == {"SUCCESS"}, "results %s" % facts["results"])

                @T.case(title + ": spans, attributes of every kind, errors, events, links, times")
                def _():
                    check_spans(s, facts["ids"])

                @T.case(title + ": 2,000 spans in a few large requests")
                def _():
                    check_many(s, facts["big"], "big", {"s%d" % i for i in range(2000)})

                @T.case(title + ": 41 requests from four threads")
                def _():
                    check_many(s, facts["burst"], "burst", {"n%d.%d" % (n, i) for n in range(4) for i in range(10)})

                @T.case(title + ": each answer in the request's encoding")
                def _():
                    check_wire(wire, form, compression, path)
T.done()
