#!/usr/bin/env python3
"""What real SDKs sent over OTLP/HTTP, sent again: the answer they need, and every span readable afterwards.

Attributes of Langfuse's own SDKs are compared where the recording makes the field plain; other dialects only by span.
"""
# engines: ci
# timeout: 180
# store
import base64
import datetime
import gzip
import json
import os
import sys
import tarfile
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import otlp
from xt import *

T = Suite()
PB = "application/x-protobuf"


def recordings():
    """(folder/name, recording) in order of the archive."""
    with tarfile.open(os.path.join(HERE, "..", "data", "recordings.tar.xz")) as tar:
        for member in tar:
            yield member.name[:-5], json.load(tar.extractfile(member))


def header(request, name):
    return next((v for n, v in request["headers"] if n.lower() == name), "")


def spans_of(request):
    body = base64.b64decode(request["body"])
    if "gzip" in header(request, "content-encoding"):
        body = gzip.decompress(body)
    return otlp.decode_request(body) if "protobuf" in header(request, "content-type") else otlp.decode_json(body)


def valid(span):
    return len(span.trace) == 32 and len(span.span) == 16 and span.trace.strip("0") and span.span.strip("0")


def send(s, request):
    """Sends one recorded request as it was and checks the answer an exporter needs."""
    body = base64.b64decode(request["body"])
    r = s.quick("POST", request["path"], body, ct=None, headers=[tuple(h) for h in request["headers"]], chunked=request["chunked"])
    must(r.status == 200, "answered %r" % r)
    rejected = sum(not valid(x) for x in spans_of(request))
    if "protobuf" in header(request, "content-type"):
        must(r.h("content-type") == PB, "content-type %s" % r.h("content-type"))
        refused, message = otlp.export_answer(r.body)
    else:
        must((r.h("content-type") or "").split(";")[0] == "application/json", "content-type %s" % r.h("content-type"))
        partial = r.json.get("partialSuccess") or {}
        refused, message = int(partial.get("rejectedSpans", 0)), partial.get("errorMessage", "")
    if request["path"] == "/v1/traces":
        must(refused == rejected and bool(message) == bool(rejected), "%d spans refused (%s), wanted %d" % (refused, message, rejected))


def parsed(v):
    """An attribute's text as the API shows it: JSON where it is JSON."""
    def no(word):
        raise ValueError(word)
    if not isinstance(v, str):
        return v
    try:
        return json.loads(v, parse_constant=no)
    except (ValueError, RecursionError):
        return v


def instant(ns):
    """Nanoseconds as the API prints them, to microseconds."""
    micros = ns // 1000
    seconds, fraction = divmod(micros, 1000000)
    text = "" if not fraction else ".%03d" % (fraction // 1000) if fraction % 1000 == 0 else ".%06d" % fraction
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + text + "Z"


def one_of(field, got, wanted):
    must(any(not differ(w, got, True) for w in wanted), lambda: "%s: %s, sent was %s" % (field, str(got)[:200], str(wanted)[:300]))


def check_observation(got, sent):
    """`sent`: all versions of this span in the recording (retries, parts)."""
    where = "span %s " % sent[0].span
    parents = [x.parent if x.parent.strip("0") else None for x in sent]
    one_of(where + "parent", got["parentObservationId"], parents)
    one_of(where + "traceId", got["traceId"], [x.trace for x in sent])
    names = [x.name for x in sent] + [v for x in sent for v in x.attrs.values() if isinstance(v, str)]
    must(got["name"] in names or any(n and n in (got["name"] or "") for n in names), where + "name %r" % got["name"])
    if all(x.start for x in sent):
        one_of(where + "startTime", got["startTime"], [instant(x.start) for x in sent])
    if len(sent) == 1 and sent[0].end >= sent[0].start > 0:
        one_of(where + "endTime", got["endTime"], [instant(sent[0].end)])
    must(got["type"] in "SPAN GENERATION EVENT AGENT TOOL CHAIN RETRIEVER EVALUATOR EMBEDDING GUARDRAIL".split(), where + "type " + got["type"])
    must(got["level"] in "DEBUG DEFAULT WARNING ERROR".split(), where + "level " + got["level"])
    if all(x.status[0] == 2 and "langfuse.observation.level" not in x.attrs for x in sent):
        must(got["level"] == "ERROR", where + "failed, level " + got["level"])
    if not sent[0].scope.startswith("langfuse-sdk"):
        return
    one_of(where + "name", got["name"], [x.name for x in sent])
    for key, field, shape in (("langfuse.observation.type", "type", str.upper), ("langfuse.observation.level", "level", str.upper),
                              ("langfuse.observation.input", "input", parsed), ("langfuse.observation.output", "output", parsed),
                              ("langfuse.observation.model.name", "model", str), ("langfuse.observation.status_message", "statusMessage", str),
                              ("langfuse.observation.model.parameters", "modelParameters", parsed)):
        values = [x.attrs[key] for x in sent if x.attrs.get(key) not in (None, "")]
        if values and (field != "type" or got["type"] != "GENERATION"):
            one_of(where + field, got[field], [shape(v) for v in values])


def check_trace(got, sent):
    """Fields that Langfuse's SDKs put on spans for their trace: one of the values sent, all of the tags."""
    for key, field in (("langfuse.trace.name", "name"), ("user.id", "userId"), ("session.id", "sessionId"), ("langfuse.environment", "environment"),
                       ("langfuse.release", "release"), ("langfuse.version", "version")):
        values = [y[key] for x in sent for y in (x.attrs, x.resource) if y.get(key)]
        if values:
            one_of(field, got[field], values)
    for key, field in (("langfuse.trace.input", "input"), ("langfuse.trace.output", "output")):
        values = [parsed(x.attrs[key]) for x in sent if x.attrs.get(key)]
        if values:
            one_of(field, got[field], values)
    tags = {t for x in sent for t in x.attrs.get("langfuse.trace.tags", [])}
    must(tags <= set(got["tags"]), "tags %s, sent were %s" % (got["tags"], sorted(tags)))
    if any(x.attrs.get("langfuse.trace.public") is True for x in sent):
        must(got["public"] is True, "public was lost")


def replay(s, recording):
    traces = {}
    for request in recording["requests"]:
        send(s, request)
        for span in spans_of(request):
            if valid(span):
                traces.setdefault(span.trace, {}).setdefault(span.span, []).append(span)
    for trace, spans in traces.items():
        got = s.trace(trace)
        must(got["id"] == trace, "trace id %s, sent was %s" % (got["id"], trace))
        found = {o["id"]: o for o in got["observations"]}
        must(set(found) == set(spans), lambda: "observations %s, sent were %s" % (sorted(set(found) ^ set(spans)), len(spans)))
        for id, sent in spans.items():
            check_observation(found[id], sent)
        everything = [x for sent in spans.values() for x in sent]
        if any(x.scope.startswith("langfuse-sdk") for x in everything):
            check_trace(got, everything)
        first = min((x.start for x in everything if x.start), default=None)
        if first:
            must(got["timestamp"] == instant(first), "timestamp %s, first start was %s" % (got["timestamp"], instant(first)))
    return sum(len(x) for x in traces.values())


ALONE = {"otlp/synthetic-traces-edge", "otlp/synthetic-traces-json-variants"}     # these two share a trace id
with T.server() as shared:
    total = 0
    for name, recording in recordings():
        @T.case("%s (%s)" % (name, recording["producer"][:60]))
        def _():
            global total
            if name in ALONE:
                with T.server() as s:
                    total += replay(s, recording)
            else:
                total += replay(shared, recording)

    @T.case("all of them a second time: nothing is doubled")
    def _():
        before = shared.get("/api/public/traces?limit=1&fromTimestamp=2000-01-01T00:00:00Z").json["meta"]["totalItems"]
        for name, recording in recordings():
            if name not in ALONE:
                replay(shared, recording)
        after = shared.get("/api/public/traces?limit=1&fromTimestamp=2000-01-01T00:00:00Z").json["meta"]["totalItems"]
        assert before == after and before > 0, (before, after)

T.done()
