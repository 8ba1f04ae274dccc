#!/usr/bin/env python3
"""Packs the OTLP trace requests of SDK recordings for suite_recordings.py.

    pack.py SOURCE [OUT]     SOURCE has the folders otlp/, langfuse-js/ and langfuse-python/ of recordings

OUT (recordings.tar.xz beside this file) holds one JSON file a recording, FOLDER/NAME.json:
{"producer", "requests": [{"path", "headers": [[name, value]], "chunked", "body": base64 of the raw body}]}.
Headers of the connection and credentials are left out.  The same input gives the same bytes.
"""
import base64
import glob
import io
import json
import os
import re
import sys
import tarfile

DROPPED = {"authorization", "host", "connection", "content-length", "transfer-encoding", "expect", "traceparent"}


def request(path, headers, body):
    kept = [[n, v] for n, v in headers if n.lower() not in DROPPED]
    chunked = any(n.lower() == "transfer-encoding" for n, _ in headers)
    return {"path": path, "headers": kept, "chunked": chunked, "body": base64.b64encode(body).decode()}


def otlp_recordings(folder):
    """One file is one request; NAME.01.json, NAME.02.json ... are one recording."""
    found = {}
    for file in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(file, encoding="utf-8") as f:
            d = json.load(f)
        if isinstance(d, dict) and d.get("signal") == "traces" and d["transport"].startswith("http/"):
            name = re.sub(r"\.\d+\.json$", "", os.path.basename(file))
            r = found.setdefault(name, {"producer": d["producer"], "requests": []})
            r["requests"].append(request(d["path"], d["headers"], base64.b64decode(d["bodyBase64"])))
    return found


def langfuse_recordings(folder):
    """One file is one scenario; of its requests only the OTLP ones are kept."""
    found = {}
    for file in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(file, encoding="utf-8") as f:
            d = json.load(f)
        requests, bodies = [], {}
        for r in d.get("requests", []) if isinstance(d, dict) else []:
            same = re.fullmatch(r"\(same as seq (\d+)\)", str(r.get("body")))
            bodies[r["seq"]] = r["body"] = bodies[int(same[1])] if same else r.get("body")
            if r["method"] != "POST" or not r["path"].endswith("/otel/v1/traces"):
                continue
            body = base64.b64decode(r["body_base64"]) if "body_base64" in r else json.dumps(
                r["body"], ensure_ascii=False, separators=(",", ":")).encode()
            requests.append(request(r["path"], list(r["headers"].items()), body))
        if requests:
            found[os.path.basename(file)[:-5]] = {"producer": d["sdk"], "requests": requests}
    return found


def main():
    source = sys.argv[1]
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "recordings.tar.xz")
    with tarfile.open(out, "w:xz", format=tarfile.USTAR_FORMAT, preset=9) as tar:
        for folder, read in (("langfuse-js", langfuse_recordings), ("langfuse-python", langfuse_recordings), ("otlp", otlp_recordings)):
            for name, recording in sorted(read(os.path.join(source, folder)).items()):
                data = json.dumps(recording, indent=0, sort_keys=True).encode()
                info = tarfile.TarInfo("%s/%s.json" % (folder, name))
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    main()
