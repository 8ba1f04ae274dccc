#!/usr/bin/env python3
"""Projects and their keys: `xtrace keys` beside a running server."""
# engines: ci
# timeout: 120
import glob
import os
import re
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import otlp
from xt import *

T = Suite()
P, L, D = "/api/public/projects", "/api/public/traces", "/api/public/metrics/daily"


class Key:
    def __init__(self, out):
        def line(name):
            m = re.search(r"(?m)^%s: (\S+)$" % name, out)
            must(m, "no line `%s: ...` in %s" % (name, out))
            return m[1]
        self.id, self.public, self.secret = line("id"), line("public key"), line("secret key")
        self.bearer, self.basic = bearer(self.secret), (self.public, self.secret)


with T.server() as s:
    def keys(*args, rc=0):
        r = T.cli("keys", *args, dir=s.dir)
        must(r.rc == rc, "keys %s: exit %s, %s%s" % (" ".join(args), r.rc, r.out, r.err))
        return r

    def create(project, rights="read,write"):
        return Key(keys("create", "--project", project, "--rights", rights).out)

    def works(key, want, path=P, auth=None, method="GET", body=None):
        return wait(lambda: s.quick(method, path, body, auth=auth or key.bearer).status == want, 1.5 * T.slow, "%s %s" % (path, want))

    @T.case("a new key works within a second, as Bearer and as Basic")
    def _():
        s.start()
        k = create("alpha")
        works(k, 200)
        works(k, 200, auth=k.basic)
        assert s.get(P, auth=k.bearer).json["data"][0]["id"] == "alpha", s.get(P, auth=k.bearer)
        for auth in (bearer(k.public), bearer(k.secret[:-1]), bearer(k.secret + "x"), (k.public, k.secret[:-1]), (k.public, ""), (PK, k.secret),
                     (k.public, SK), bearer(k.id)):
            assert s.get(P, auth=auth).status == 401, auth

    @T.case("a key sees its own project alone")
    def _():
        a, b = create("alpha"), create("beta")
        works(a, 200)
        works(b, 200)
        name, t, both = "n-" + uid(), uid(), uid()
        for who, text in ((a.bearer, "of a"), (b.bearer, "of b"), (BEARER, "of default")):
            body = {"trace": {"id": both, "name": name, "output": text, "totalCost": 1},
                    "observations": [{"id": t, "traceId": both, "name": text}]}
            assert s.post("/v1/l/batch", body, auth=who).status == 200
        only_a = uid()
        assert s.post("/v1/l/batch", {"trace": {"id": only_a}}, auth=a.basic).status == 200
        for who, text, project in ((a.bearer, "of a", "alpha"), (b.basic, "of b", "beta"), (BEARER, "of default", "default")):
            r = s.get("%s/%s" % (L, both), auth=who)
            holds({"output": text, "projectId": project, "observations": [{"name": text}]}, r.json)
            r = s.get("%s?name=%s" % (L, name), auth=who).json
            assert r["meta"]["totalItems"] == 1 and r["data"][0]["projectId"] == project, r
            assert s.get("%s?traceName=%s" % (D, name), auth=who).json["data"][0]["countTraces"] == 1
        assert s.get("%s/%s" % (L, only_a), auth=a.bearer).status == 200
        for who in (b.bearer, BEARER):
            assert s.get("%s/%s" % (L, only_a), auth=who).status == 404

    @T.case("a client's projectId does not lead out of the key's project")
    def _():
        a, t = create("alpha"), uid()
        works(a, 200)
        assert s.post("/v1/l/batch", {"trace": {"id": t, "projectId": "default"}}, auth=a.bearer).status == 200
        assert s.get("%s/%s" % (L, t), auth=a.bearer).status == 200
        assert s.get("%s/%s" % (L, t)).status == 404
        s.batch({"id": uid()})
        mine = {x["id"] for x in s.get(L + "?limit=200", auth=a.bearer).json["data"]}
        for query in ("?projectId=default", "?projectId=beta"):
            assert {x["id"] for x in s.get(L + query + "&limit=200", auth=a.bearer).json["data"]} <= mine

    @T.case("metrics and OTLP belong to the key's project too")
    def _():
        a, b, name, t = create("alpha"), create("beta"), "m-" + uid(), otlp.new_trace()
        works(a, 200)
        works(b, 200)
        at = now().isoformat()
        for who, value in ((a.bearer, 1), (b.bearer, 10)):
            assert s.post("/v1/metrics/batch", {"metrics": [{"name": name, "value": value, "timestamp": at}]}, auth=who).status == 200
        for who, value in ((a.bearer, 1.0), (b.bearer, 10.0)):
            r = s.get("/api/public/metrics/query?name=%s&agg=sum" % name, auth=who).json
            assert [v["value"] for x in r["data"] for v in x["values"]] == [value], r
            assert name in s.get("/api/public/metrics/names", auth=who).json["data"]
        assert name not in s.get("/api/public/metrics/names").json["data"]
        body = otlp.request_json([{"trace": t, "span": otlp.new_span(), "name": "x", "start": 1767225600000000000}])
        for path in ("/v1/traces", "/api/public/otel/v1/traces"):
            assert s.post(path, body, auth=a.bearer).status == 200
        assert s.get("%s/%s" % (L, t), auth=a.bearer).status == 200
        assert s.get("%s/%s" % (L, t), auth=b.bearer).status == 404

    @T.case("a right that is missing is 403 FORBIDDEN")
    def _():
        r, w = create("gamma", "read"), create("gamma", "write")
        works(r, 200)
        works(w, 200, "/v1/l/batch", method="POST", body="{}")
        span = otlp.request_json([])
        for path, body in (("/v1/l/batch", "{}"), ("/v1/metrics/batch", '{"metrics":[]}'), ("/api/public/otel/v1/traces", span),
                           ("/v1/traces", span), ("/v1/l/traces", "{}")):
            for auth in (r.bearer, r.basic):
                got = s.post(path, body, auth=auth)
                assert got.status == 403, (path, got)
            if path != "/v1/traces":
                err("FORBIDDEN")(got)
            else:
                assert got.json.get("code") == 7, got
            assert s.post(path, body, auth=w.bearer).status in (200, 422), path
        for path in (L, L + "/" + uid(), D, "/api/public/metrics/names", "/api/public/metrics/query?name=x"):
            got = s.get(path, auth=w.bearer)
            assert got.status == 403, (path, got)
            err("FORBIDDEN")(got)
            assert s.get(path, auth=r.bearer).status in (200, 404), path
        assert s.request("DELETE", L, auth=w.bearer).status in (403, 405)

    @T.case("a revoked key is refused within a second, others go on")
    def _():
        a, b = create("alpha"), create("alpha")
        works(a, 200)
        works(b, 200)
        keys("revoke", a.id)
        works(a, 401)
        assert s.get(P, auth=a.basic).status == 401
        assert s.get(P, auth=b.bearer).status == 200
        assert s.get(P).status == 200
        for unknown in ("999999", "no-such-id"):
            assert keys("revoke", unknown, rc=1).err.strip()

    @T.case("keys list names the keys and no secrets; the store holds none either")
    def _():
        a, b = create("alpha"), create("delta", "read")
        works(b, 200)
        keys("revoke", a.id)
        out = keys("list").out
        line = next((l for l in out.splitlines() if l.split("\t")[0] == b.id), None)
        assert line and "delta" in line and "read" in line and "write" not in line and b.public in line, out
        assert a.secret not in out and b.secret not in out
        for path in glob.glob(s.dir + "/*"):
            with open(path, "rb") as f:
                data = f.read()
            for secret in (a.secret, b.secret):
                assert secret.encode() not in data, "a secret stands in " + path
        rows = repr(s.sql("SELECT * FROM {api_key}"))
        assert a.public in rows and a.secret not in rows and b.secret not in rows
        assert b.secret not in s.stderr()

    @T.case("mistakes are refused with a line")
    def _():
        for args in (("create", "--project", "x", "--rights", "all-of-it"), ("create", "--project", "x", "--rights", ""), ("revoke",),
                     ("frobnicate",), (), ("create", "--project", "x", "--rights", "read", "--nonsense"), ("list", "extra"),
                     ("create", "--project", "x", "--rights", "read", "extra"), ("revoke", "1", "2")):
            r = T.cli("keys", *args, dir=s.dir)
            assert r.rc != 0 and r.err.strip(), (args, r)

    @T.case("keys survive a restart, and may be made while no server runs")
    def _():
        a = create("epsilon")
        works(a, 200)
        assert s.stop() == 0
        b = create("epsilon", "read,write,admin")
        s.start()
        for k in (a, b):
            assert s.get(P, auth=k.bearer).status == 200
        keys("revoke", b.id)
        works(b, 401)

with T.server() as s:
    @T.case("keys may be made before the first start")
    def _():
        r = T.cli("keys", "create", "--project", "early", "--rights", "read", dir=s.dir)
        assert r.rc == 0, r
        k = Key(r.out)
        assert s.get(P, auth=k.bearer).json["data"][0]["id"] == "early"

with T.server({"RATE_LIMIT_QPS": "1", "RATE_LIMIT_BURST": "5"}) as s:
    @T.case("the rate limit counts per key")
    def _():
        s.start()
        made = [Key(T.cli("keys", "create", "--project", "p", "--rights", "read", dir=s.dir).out) for _ in range(2)]
        wait(lambda: s.get(P, auth=made[1].bearer).status == 200, 2 * T.slow)
        first = [s.quick("GET", "/api/public/metrics/names", auth=made[0].bearer).status for _ in range(20)]
        assert first[:5] == [200] * 5 and 429 in first, first
        assert s.get("/api/public/metrics/names", auth=made[1].bearer).status == 200
        text = s.get("/api/internal/rate_limit_stats", auth=None).text
        assert made[0].secret not in text and made[0].secret[:6] not in text, text

T.done()
