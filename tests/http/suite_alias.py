#!/usr/bin/env python3
"""Single records as bodies: POST /v1/l/traces and /v1/l/observations."""
# engines: ci
import os
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
TR, OB, DETAIL = "/v1/l/traces", "/v1/l/observations", "/api/public/traces/"
DONE = '{"message":"Request Successful."}'

with T.server() as s:
    T.rows(s, [
        ("a bare trace, then a bare observation",
            post(TR, {"id": "$A", "name": "n", "sessionId": "se", "tags": None}, 200, DONE),
            post(OB, {"id": "$B", "traceId": "$A", "model": "m", "promptTokens": 3}, 200, DONE),
            get(DETAIL + "$A", 200, {"name": "n", "sessionId": "se", "tags": [], "observations": [{"id": "$B", "model": "m", "promptTokens": 3}]})),
        ("an observation alone makes its trace exist", post(OB, {"id": "$B", "traceId": "$A", "startTime": "2026-01-01T00:00:00Z"}),
            get(DETAIL + "$A", 200, {"timestamp": "2026-01-01T00:00:00Z", "observations": [{"id": "$B"}]})),
        ("the same rules of merging", post(TR, {"id": "$A", "name": "n", "userId": "u"}), post(TR, {"id": "$A", "output": "o"}),
            get(DETAIL + "$A", 200, {"name": "n", "userId": "u", "output": "o"})),
        ("the same refusals",
            *[post(p, body, status, err(code), *more) for p in (TR, OB) for body, status, code, *more in (
                ("{", 400, "BAD_REQUEST"), ("", 400, "BAD_REQUEST"), ("{} x", 400, "BAD_REQUEST"), ("{}", 422, "UNPROCESSABLE_ENTITY", Raw("id")),
                ("[]", 422, "UNPROCESSABLE_ENTITY"), ("null", 422, "UNPROCESSABLE_ENTITY"), ('{"id":5}', 422, "UNPROCESSABLE_ENTITY", Raw("id")),
                ('{"id":"$A","traceId":"$B","id":"$A"}', 422, "UNPROCESSABLE_ENTITY", Raw("id")))],
            post(TR, {"id": "$A", "latency": "x"}, 422, Raw("latency")), post(OB, {"id": "$A"}, 422, Raw("traceId")),
            post(OB, {"id": "$A", "traceId": "$B", "totalTokens": 1.5}, 422, Raw("totalTokens")),
            post(TR, "{}", 415, ct="text/plain"), post(TR, "{}", 401, auth=None), get(TR, 405, Hdr("allow", "POST")),
            post(TR, " " * 20971521, 413), get(DETAIL + "$A", 404)),
        ("a batch's body is no record", post(TR, {"trace": {"id": "$A"}, "observations": []}, 422, Raw("id"))),
    ])

T.done()
