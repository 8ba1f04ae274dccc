#!/usr/bin/env python3
"""The published Rust crate `xtrace-client`: every method and its tracing layer."""
# campaign
# timeout: 910
import os
import re
import shutil
import sys
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import client
from xt import *

T = Suite()
client.on_sigterm()
# What building the crate's native TLS needs from the system; its absence says nothing about the server.
MISSING = r"openssl-sys|pkg-config|linker `cc` not found|OPENSSL_DIR"


def build():
    """Path of the built program, and the crate's version."""
    cargo = client.tool("cargo", (1, 85))          # what the crate's dependencies ask for today
    work = client.home("rust")
    shutil.copytree(os.path.join(HERE, "rust"), work, dirs_exist_ok=True)
    config = os.path.expanduser("~/.cargo/config.toml")
    more = ["--config", config] if os.path.exists(config) else []
    env = {"CARGO_TARGET_DIR": os.path.join(work, "target"), "CARGO_NET_RETRY": "1", "CARGO_HTTP_TIMEOUT": "20",
           "CARGO_TERM_COLOR": "never", "RUSTUP_AUTO_INSTALL": "0"}
    got = client.run([cargo, "update", "--quiet"] + more, 120, work, env)
    if got.rc == 0:
        got = client.run([cargo, "fetch", "--quiet"] + more, client.INSTALL_SECONDS, work, env)
    if got.rc != 0 and not os.path.exists(os.path.join(work, "target", "debug", "client-test")):
        raise client.unreachable("xtrace-client", got)
    got = client.run([cargo, "build", "--quiet", "--offline"] + more, 480, work, env)
    if got.rc is None:
        raise Skip("not built within 480 s")
    if got.rc != 0 and re.search(MISSING, got.err):
        raise Skip("the crate's dependencies do not build here: " + client.last_words(got))
    must(got.rc == 0, lambda: "cargo build: " + got.err[-1500:])
    with open(os.path.join(work, "Cargo.lock")) as f:
        version = re.search(r'name = "xtrace-client"\nversion = "([^"]+)"', f.read())[1]
    return os.path.join(work, "target", "debug", "client-test"), version


built = []


@T.case("xtrace-client (Rust) is fetched and built")
def _():
    built.extend(build())


if built:
    title = "xtrace-client %s (Rust)" % built[1]
    with T.server() as s, client.tap(s) as wire:
        client.program(T, wire, title, [built[0]], {"XTRACE_URL": wire.url + "/", "XTRACE_TOKEN": TOKEN},
                       allowed=[(404, "/api/public/traces/.*"), (401, "/api/public/metrics/names")])

        @T.case(title + ": repeated tags go over the wire as repeated keys")
        def _():
            paths = [c.path for c in client.sent(wire, "/api/public/traces")]
            must(any(p.count("tags=") == 2 for p in paths), lambda: "paths: %s" % paths)
T.done()
