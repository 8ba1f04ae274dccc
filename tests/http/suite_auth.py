#!/usr/bin/env python3
"""Credentials: which pass, for which project and rights."""
# engines: ci
import os
import re
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
P = "/api/public/projects"
OTLP = "/api/public/otel/v1/traces"
DENIED = '{"message":"Unauthorized","code":"UNAUTHORIZED"}'
PROTECTED = [("POST", "/v1/l/batch"), ("POST", "/v1/metrics/batch"), ("POST", OTLP), ("GET", P), ("GET", "/api/public/traces"),
             ("GET", "/api/public/traces/" + uid()), ("GET", "/api/public/metrics/daily"), ("POST", "/v1/l/traces"),
             ("GET", "/api/public/metrics/query?name=x"), ("GET", "/api/public/metrics/names"), ("POST", "/v1/l/observations")]


def refused(auth, status=401):
    return get(P, status, auth=auth)


with T.server() as s:
    T.rows(s, [
        ("A01 no credentials", get(P, 401, DENIED, Hdr("content-type", "application/json"), auth=None)),
        ("A02 a wrong token", get(P, 401, DENIED, auth="Bearer wrong")),
        ("A03 a lower-case scheme", refused("bearer " + TOKEN), refused("basic cGs6c2s=")),
        ("A04 blanks around the token", refused("Bearer   " + TOKEN + " ", 200)),
        ("A05 Basic with the key pair; the projects answer",
            get(P, 200, {"data": [{"id": "default", "name": "default", "metadata": {},
                                   "createdAt": Like(r".*\+00:00"), "updatedAt": Like(r".*\+00:00")}]}, auth=KEYS),
            get(P, 200, lambda r: abs((iso(r.json["data"][0]["createdAt"]) - now()).total_seconds()) < 30, auth=KEYS)),
        ("A06 Basic that is wrong, no base64, without colon",
            refused((PK, "wrong")), refused(("wrong", SK)), refused("Basic !!!"), refused("Basic cGtzaw=="),
            refused("Basic cGs6c2s"), refused("Basic "), refused("Basic"), refused("Basic //79"), refused("Digest x")),
        ("A08 writes accept Basic", post("/v1/l/batch", {"trace": {"id": "$A"}}, auth=KEYS), get("/api/public/traces/$A")),
        ("a token is compared as a whole",
            refused(BEARER[:-1]), refused(BEARER + "x"), refused("Bearer"), refused(TOKEN), refused("Bearer" + TOKEN),
            refused("Bearer\t" + TOKEN), refused(BEARER + " x")),
        ("only the first Authorization header counts",
            get(P, 401, auth="Bearer wrong", headers=[("Authorization", BEARER)]),
            get(P, 200, headers=[("Authorization", "Bearer wrong")])),
        ("a header that is no visible ASCII", refused("Bearer \xe9\xff"), refused("Bearer " + TOKEN + "\xa0")),
        ("every protected route refuses a stranger",
            *[req(m, p, 401, auth=None, body="{}" if m == "POST" else None) for m, p in PROTECTED]),
        ("every protected route accepts both schemes",
            *[req(m, p, (200, 400, 404, 422), auth=a, body="{}" if m == "POST" else None)
              for m, p in PROTECTED for a in (BEARER, KEYS)]),
    ])

with T.server({"XTRACE_SECRET_KEY": "s:k"}) as s:
    T.rows(s, [("A09 a secret with a colon: split at the first one", get(P, 200, auth=("pk", "s:k")),
                refused(("pk:s", "k:x")), refused(("pk", "s")))])

for flag in ("1", "TRUE"):
    with T.server({"XTRACE_ALLOW_UNAUTHENTICATED_COMPAT": flag, "XTRACE_PUBLIC_KEY": None, "XTRACE_SECRET_KEY": None}) as s:
        T.rows(s, [("A10 compat flag %s without keys: two routes are open" % flag,
                    refused(None, 200), refused(("any", "thing"), 200), refused("Bearer wrong"), refused(BEARER, 200),
                    post(OTLP, '{"resourceSpans":[]}', 200, auth=None),
                    get("/api/public/traces", 401, auth=None), get("/api/public/traces", 401, auth=("any", "thing")),
                    post("/v1/l/batch", "{}", 401, auth=None), get("/api/public/metrics/names", 401, auth=None))])

for title, env in [("and keys set", {"XTRACE_ALLOW_UNAUTHENTICATED_COMPAT": "1"}),
                   ("and one key set", {"XTRACE_ALLOW_UNAUTHENTICATED_COMPAT": "1", "XTRACE_SECRET_KEY": None}),
                   ("`yes`", {"XTRACE_ALLOW_UNAUTHENTICATED_COMPAT": "yes", "XTRACE_PUBLIC_KEY": None,
                              "XTRACE_SECRET_KEY": None}),
                   ("` 1`", {"XTRACE_ALLOW_UNAUTHENTICATED_COMPAT": " 1", "XTRACE_PUBLIC_KEY": None,
                             "XTRACE_SECRET_KEY": None})]:
    with T.server(env) as s:
        T.rows(s, [("A12 compat flag %s: closed" % title, refused(None), refused(("any", "thing")), refused(BEARER, 200))])

T.done()
