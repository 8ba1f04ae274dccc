"""OTLP trace requests in protobuf and JSON from one description, and a reader for requests and answers.

A span is a dict: trace, span, parent (hex), name, start, end (ns), attrs (dict), kind, status (code, message),
events [(time, name, attrs)], links [(trace, span)].  Every member may be missing.  Attribute values: str, bool,
int, float, bytes, list, dict, None (the empty value).

    request_pb([span, ...], resource={}, scope=("name", "1"))    bytes of an ExportTraceServiceRequest
    request_json([span, ...], ...)                               the same as a JSON object (ids hex, 64-bit as strings)
    decode_request(bytes) / decode_json(bytes)                   -> [Span(...)] with resource attributes beside
    export_answer(bytes) -> (rejected spans, message) of an ExportTraceServiceResponse
    status_answer(bytes) -> (code, message) of a google.rpc.Status
    new_trace(), new_span()                                      fresh hex ids
    uuid_of(hex)                                                 the UUID form of an OTLP id
"""
import base64
import collections
import json
import os
import struct

Span = collections.namedtuple("Span", "trace span parent name start end attrs status resource scope")


def new_trace():
    return os.urandom(16).hex()


def new_span():
    return os.urandom(8).hex()


def uuid_of(h):
    h = h.rjust(32, "0")
    return "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))


# --- writing protobuf ---------------------------------------------------------------------------------------------

def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """bytes and str: length-delimited; int: varint; float: double."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3) + varint(int(value))


def fixed64(number, value):
    return varint(number << 3 | 1) + struct.pack("<Q", value & (1 << 64) - 1)


def any_pb(v):
    if v is None:
        return b""
    if isinstance(v, str):
        return field(1, v)
    if isinstance(v, bool):
        return field(2, int(v))
    if isinstance(v, int):
        return field(3, v)
    if isinstance(v, float):
        return field(4, v)
    if isinstance(v, bytes):
        return field(7, v)
    if isinstance(v, dict):
        return field(6, attrs_pb(1, v))
    return field(5, b"".join(field(1, any_pb(x)) for x in v))


def attrs_pb(number, attrs):
    items = attrs.items() if isinstance(attrs, dict) else attrs
    return b"".join(field(number, field(1, k) + field(2, any_pb(v))) for k, v in items)


def span_pb(s):
    out = field(1, bytes.fromhex(s.get("trace", ""))) + field(2, bytes.fromhex(s.get("span", "")))
    if s.get("parent"):
        out += field(4, bytes.fromhex(s["parent"]))
    out += field(5, s.get("name", "")) + field(6, s.get("kind", 1))
    for number, key in ((7, "start"), (8, "end")):
        if s.get(key) is not None:
            out += fixed64(number, s[key])
    out += attrs_pb(9, s.get("attrs", {}))
    for when, name, attrs in s.get("events", ()):
        out += field(11, fixed64(1, when) + field(2, name) + attrs_pb(3, attrs))
    for trace, span in s.get("links", ()):
        out += field(13, field(1, bytes.fromhex(trace)) + field(2, bytes.fromhex(span)))
    if s.get("status"):
        out += field(15, field(2, s["status"][1]) + field(3, s["status"][0]))
    return out


def request_pb(spans, resource=None, scope=("test", "1")):
    scope_spans = field(1, field(1, scope[0]) + field(2, scope[1])) + b"".join(field(2, span_pb(s)) for s in spans)
    head = field(1, attrs_pb(1, resource)) if resource is not None else b""
    return field(1, head + field(2, scope_spans))


# --- writing JSON -------------------------------------------------------------------------------------------------

def any_json(v):
    if v is None:
        return {}
    if isinstance(v, str):
        return {"stringValue": v}
    if isinstance(v, bool):
        return {"boolValue": v}
    if isinstance(v, int):
        return {"intValue": str(v)}
    if isinstance(v, float):
        return {"doubleValue": v if v == v and abs(v) != float("inf") else
                "NaN" if v != v else "Infinity" if v > 0 else "-Infinity"}
    if isinstance(v, bytes):
        return {"bytesValue": base64.b64encode(v).decode()}
    if isinstance(v, dict):
        return {"kvlistValue": {"values": attrs_json(v)}}
    return {"arrayValue": {"values": [any_json(x) for x in v]}}


def attrs_json(attrs):
    items = attrs.items() if isinstance(attrs, dict) else attrs
    return [{"key": k, "value": any_json(v)} for k, v in items]


def span_json(s):
    out = {"traceId": s.get("trace", ""), "spanId": s.get("span", ""), "name": s.get("name", ""),
           "kind": s.get("kind", 1), "attributes": attrs_json(s.get("attrs", {}))}
    if s.get("parent") is not None:
        out["parentSpanId"] = s["parent"]
    for name, key in (("startTimeUnixNano", "start"), ("endTimeUnixNano", "end")):
        if s.get(key) is not None:
            out[name] = str(s[key])
    if s.get("events"):
        out["events"] = [{"timeUnixNano": str(t), "name": n, "attributes": attrs_json(a)} for t, n, a in s["events"]]
    if s.get("links"):
        out["links"] = [{"traceId": t, "spanId": i} for t, i in s["links"]]
    if s.get("status"):
        out["status"] = {"code": s["status"][0], "message": s["status"][1]}
    return out


def request_json(spans, resource=None, scope=("test", "1")):
    rs = {"scopeSpans": [{"scope": {"name": scope[0], "version": scope[1]}, "spans": [span_json(s) for s in spans]}]}
    if resource is not None:
        rs["resource"] = {"attributes": attrs_json(resource)}
    return {"resourceSpans": [rs]}


# --- reading ------------------------------------------------------------------------------------------------------

def wire(data):
    """The fields of one message: [(number, value)]; varints and fixed as int, the rest as bytes."""
    out, i = [], 0

    def take_varint():
        nonlocal i
        n = shift = 0
        while True:
            b = data[i]
            i += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n
    while i < len(data):
        key = take_varint()
        kind = key & 7
        if kind == 0:
            value = take_varint()
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value = int.from_bytes(data[i:i + size], "little")
            i += size
        elif kind == 2:
            size = take_varint()
            value = data[i:i + size]
            i += size
        else:
            raise ValueError("wire type %d" % kind)
        if i > len(data):
            raise ValueError("message cut off")
        out.append((key >> 3, value))
    return out


def _last(fields, number, default=None):
    found = [v for n, v in fields if n == number]
    return found[-1] if found else default


def _signed(n):
    return n - (1 << 64) if n >> 63 else n


def _any_value(data):
    out = None
    for number, v in wire(data):
        out = {1: lambda: v.decode("utf-8", "replace"), 2: lambda: bool(v), 3: lambda: _signed(v),
               4: lambda: struct.unpack("<d", struct.pack("<Q", v))[0], 7: lambda: v,
               5: lambda: [_any_value(x) for n, x in wire(v) if n == 1],
               6: lambda: _attributes([x for n, x in wire(v) if n == 1])}.get(number, lambda: None)()
    return out


def _attributes(messages):
    out = {}
    for m in messages:
        f = wire(m)
        out[_last(f, 1, b"").decode("utf-8", "replace")] = _any_value(_last(f, 2, b""))
    return out


def decode_request(data):
    spans = []
    for n, rs in wire(data):
        if n != 1:
            continue
        rs = wire(rs)
        resource = _attributes([v for n, v in wire(_last(rs, 1, b"")) if n == 1])
        for n, ss in rs:
            if n != 2:
                continue
            ss = wire(ss)
            scope = _last(wire(_last(ss, 1, b"")), 1, b"").decode()
            for n, sp in ss:
                if n != 2:
                    continue
                f = wire(sp)
                status = wire(_last(f, 15, b""))
                spans.append(Span(_last(f, 1, b"").hex(), _last(f, 2, b"").hex(), _last(f, 4, b"").hex(),
                                  _last(f, 5, b"").decode("utf-8", "replace"), _last(f, 7, 0), _last(f, 8, 0),
                                  _attributes([v for n, v in f if n == 9]),
                                  (_last(status, 3, 0), _last(status, 2, b"").decode("utf-8", "replace")),
                                  resource, scope))
    return spans


def _json_value(v):
    for key, x in (v or {}).items():
        if key == "arrayValue":
            return [_json_value(y) for y in (x or {}).get("values") or []]
        if key == "kvlistValue":
            return _json_attrs((x or {}).get("values"))
        return int(x) if key == "intValue" else x
    return None


def _json_attrs(items):
    return {a.get("key", ""): _json_value(a.get("value")) for a in items or []}


def decode_json(data):
    spans = []
    for rs in json.loads(data).get("resourceSpans") or []:
        resource = _json_attrs((rs.get("resource") or {}).get("attributes"))
        for ss in rs.get("scopeSpans") or []:
            scope = (ss.get("scope") or {}).get("name", "")
            for s in ss.get("spans") or []:
                status = s.get("status") or {}
                spans.append(Span(s.get("traceId", "").lower(), s.get("spanId", "").lower(),
                                  (s.get("parentSpanId") or "").lower(), s.get("name", ""),
                                  int(s.get("startTimeUnixNano") or 0), int(s.get("endTimeUnixNano") or 0),
                                  _json_attrs(s.get("attributes")),
                                  (status.get("code", 0), status.get("message", "")), resource, scope))
    return spans


def export_answer(data):
    partial = wire(_last(wire(data), 1, b""))
    return _signed(_last(partial, 1, 0)), _last(partial, 2, b"").decode()


def status_answer(data):
    f = wire(data)
    return _last(f, 1, 0), _last(f, 2, b"").decode()
