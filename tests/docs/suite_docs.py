#!/usr/bin/env python3
"""What the documents say is true: README's commands, links between pages, the package lists."""
# timeout: 60
import glob
import json
import os
import re
import subprocess
import sys
sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from xt import *

T = Suite()


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def quick_start():
    """README's quick start in steps: the comment above a command -> the command."""
    section = text_of("README.md").split("\n## Quick start\n", 1)[1]
    block = re.search(r"```sh\n(.*?)```", section, re.S)[1]
    steps = re.findall(r"^# (.+)\n((?:(?!# ).*\n)+)", block, re.M)
    must(len(steps) == 5, "quick start has %d steps" % len(steps))
    return [commands.strip() for _, commands in steps]


def sh(server, commands):
    env = {"PATH": os.environ["PATH"], "HOME": T.tmp(), "XTRACE": "http://127.0.0.1:%d" % server.port, "TOKEN": TOKEN}
    p = subprocess.run(["sh", "-euc", commands], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=20 * server.slow)
    must(p.returncode == 0, "exit %d: %s" % (p.returncode, p.stderr[-300:]))
    return p.stdout


with T.server() as s:
    @T.case("README: the quick start's curl lines write and read back")
    def _():
        health, batch, read, samples, query = quick_start()
        must(sh(s, health).startswith("HTTP/1.1 200"), "healthz")
        must(json.loads(sh(s, batch)) == {"message": "Request Successful."}, "batch")
        lines = read.splitlines()
        must(len(lines) == 2, "list and detail")
        listed = json.loads(sh(s, lines[0]))
        must(listed["meta"]["totalItems"] == 1 and listed["data"][0]["userId"] == "alice", "list: %r" % listed)
        trace = json.loads(sh(s, lines[1]))
        must(trace["name"] == "chat" and trace["observations"][0]["totalTokens"] == 12, "detail: %r" % trace)
        must(json.loads(sh(s, samples)) == {"message": "Request Successful."}, "metrics batch")
        series = json.loads(sh(s, query))["data"]
        must(series == [{"labels": {"node": "a"}, "values": [{"timestamp": "2026-02-12T10:00:00+00:00", "value": 86.0}]}],
             "query: %r" % series)


@T.case("links between the pages lead to files")
def _():
    pages = [p for p in glob.glob("*.md", root_dir=ROOT) + glob.glob("docs/*.md", root_dir=ROOT)]
    dead = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(page)):
            if not os.path.exists(os.path.join(ROOT, os.path.dirname(page), target)):
                dead.append("%s -> %s" % (page, target))
    must(not dead, ", ".join(dead))


@T.case("docs/dependencies.md names the packages that ./dev installs")
def _():
    script = text_of("dev")
    packages = " ".join(re.findall(r'^\w+_packages="([^"]*)"', script, re.M)).split()
    must(len(packages) > 15, "found %d packages" % len(packages))
    page = text_of("docs/dependencies.md")
    missing = [p for p in packages if "`%s`" % p not in page]
    must(not missing, "not named: %s" % " ".join(missing))


@T.case("docs/configuration.md and docs/api.md hold the tables that the program prints")
def _():
    for page in ("configuration", "api"):
        p = subprocess.run([T.binary, "docs", page], stdout=subprocess.PIPE, text=True, timeout=20)
        must(p.returncode == 0 and len(p.stdout.splitlines()) > 10, "xtrace docs %s: exit %d" % (page, p.returncode))
        must(p.stdout in text_of("docs/%s.md" % page), "docs/%s.md differs from `xtrace docs %s`" % (page, page))


T.done()
