#!/usr/bin/env python3
"""The checks themselves: each must accept good samples and refuse bad ones.  Needs a C compiler, not the server."""
# timeout: 60
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WANTED = sys.argv[sys.argv.index("--filter") + 1] if "--filter" in sys.argv else ""
failed = False


def tool(name, *args, stdin=None):
    p = subprocess.run([os.path.join(ROOT, "tools", name), *args], input=stdin, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=30)
    return p.returncode, p.stdout


def tree(files):
    """A temporary directory with these files (path -> text)."""
    folder = tempfile.TemporaryDirectory(prefix="xtrace-tools-")
    for path, text in files.items():
        full = os.path.join(folder.name, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
    return folder


def check(name, files, *want, run):
    """run(root) -> (code, output). Without `want` it must pass in silence, else fail with each text in its output."""
    global failed
    if WANTED not in name:
        return
    with tree(files) as root:
        code, out = run(root)
    if want:
        good = code == 1 and all(text in out for text in want)
    else:
        good = code == 0 and out == ""
    if good:
        print("ok - " + name)
    else:
        failed = True
        print("not ok - %s: exit %d, wanted %s\n%s" % (name, code, want or "silence", out))


def layers(root): return tool("check-layers", root)
def banned(root): return tool("check-banned", root)
def headers(root): return tool("check-headers", root)


def include(*names):
    return "".join('#include %s\n' % (n if n[0] == "<" else '"%s"' % n) for n in names)


DOWNWARDS = {
    "src/main.c": include("base/str.h", "api/api.h", "cmd/cmd.h", "store/store.h"),
    "src/cmd/keys.c": include("cmd/cmd.h", "api/auth.h", "jobs/jobs.h"),
    "src/base/str.c": include("base/str.h", "<string.h>"),
    "src/json/json_read.cc": include("json/json_read.h", "base/str.h", "<simdjson.h>"),
    "src/model/event.h": include("base/str.h", "json/json_read.h"),
    "src/http/server.c": include("http/server.h", "<microhttpd.h>", "base/log.h"),
    "src/store/store.c": include("store/store.h", "store/sqlite/sqlite.h", "conf/conf.h"),
    "src/store/sqlite/open.c": include("store/sqlite/sqlite.h", "store/store.h", "<sqlite3.h>", "model/event.h",
                                       "store/fold/fold.h"),
    "src/store/fold/fold.c": include("store/fold/fold.h", "store/text/text.h", "store/store.h"),
    "src/ingest/writer.c": include("ingest/queue.h", "store/store.h"),
    "src/api/traces.c": include("api/api.h", "ingest/queue.h", "http/server.h"),
}
check("layers: includes that point downwards", DOWNWARDS, run=layers)
check("layers: an empty tree", {}, run=layers)
for path, name, says in [
    ("src/base/str.c", "json/json_read.h", "base must not see json"),
    ("src/model/event.h", "http/server.h", "model must not see http"),
    ("src/http/route.c", "model/event.h", "http must not see model"),
    ("src/conf/conf.c", "store/store.h", "conf must not see store"),
    ("src/store/store.c", "ingest/queue.h", "store must not see ingest"),
    ("src/ingest/writer.c", "api/api.h", "ingest must not see api"),
    ("src/jobs/retention.c", "api/api.h", "jobs must not see api"),
    ("src/api/traces.c", "cmd/cmd.h", "api must not see cmd"),
    ("src/api/traces.c", "store/sqlite/sqlite.h", "an engine is known to store/ alone"),
    ("src/main.c", "store/sqlite/sqlite.h", "an engine is known to store/ alone"),
    ("src/store/postgres/open.c", "store/sqlite/sqlite.h", "engines do not see each other"),
    ("src/store/fold/fold.c", "store/sqlite/sqlite.h", "store/fold is for every engine and must not see one"),
    ("src/api/traces.c", "store/fold/fold.h", "store/fold is known to store/ alone"),
    ("src/store/fold/fold.c", "<sqlite3.h>", "is for the engine store/sqlite only"),
    ("src/store/sqlite/open.c", "<libpq-fe.h>", "is for the engine store/postgres only"),
    ("src/api/traces.c", "api.h", "write the path from src/"),
    ("src/api/traces.c", "../base/str.h", "write the path from src/"),
    ("src/api/traces.c", "<microhttpd.h>", "is for http/ only"),
    ("src/api/traces.c", "<sqlite3.h>", "is for store/ only"),
    ("src/model/event.c", "<simdjson.h>", "is for json/ only"),
]:
    check("layers: %s must not include %s" % (path, name), {path: "\n  # include" + include(name)[8:]}, path + ":2: ", says,
          run=layers)
check("layers: a directory without a place", {"src/extra/x.c": "\n"}, "not in the order of layers", run=layers)

check("banned: names in comments, strings, members and longer names", {
    "src/base/good.c": '/* strcpy(a, b)\n   sprintf( */ // gets(x)\n'
                       'int f(void) { log("strcpy(a)"); my_strcpy(1); snprintf(b, 1, "\\"atoi(\\""); return \'"\'; }\n'
                       "int operand(int x) { return x; } int g(void) { return operand(strtol_l(1)); } /* \\uXXXX */\n"}, run=banned)
for call in ("strcpy strcat sprintf vsprintf gets strtok atoi atol atoll alloca localtime gmtime asctime ctime rand "
             "srand").split():
    check("banned: " + call, {"src/api/bad.c": 'int f(void) {\n  x = "a"; %s (1); /* b */ }\n' % call},
          "src/api/bad.c:2: %s() is banned" % call, run=banned)
check("banned: two on one line", {"src/a/b.cc": "strcpy(atoi(x));"}, "strcpy() is", "atoi() is", run=banned)
check("banned: unfinished business", {"src/base/x.h": "/* TO" + "DO: more */"}, "unfinished business", run=banned)

check("headers: complete ones", {
    "src/base/a.h": "#pragma once\n#include <stddef.h>\nsize_t f(void);\n",
    "src/base/b.h": '#pragma once\n#include "base/a.h"\nstatic inline size_t g(void) { return f(); }\n'}, run=headers)
check("headers: a missing include", {"src/base/a.h": "#pragma once\nsize_t f(void);\n"}, "does not compile alone", run=headers)
check("headers: no guard", {"src/base/a.h": "int f(void);\n"}, "no #pragma once", run=headers)
check("headers: a warning", {"src/base/a.h": "#pragma once\nstatic inline char f(int x) { return x; }\n"}, "does not compile alone",
      run=headers)

TABLE = "#include <stddef.h>\nstruct sqlite_migration { int version; const char *name, *sql; };\n" \
        "extern const struct sqlite_migration sqlite_migrations[];\nextern const size_t sqlite_migration_count;\n"
SHOW = '#include <stdio.h>\n#include "m.h"\nint main(void) {\nfor (size_t i = 0; i < sqlite_migration_count; i++)\n' \
       'printf("%d|%s|%s", sqlite_migrations[i].version, sqlite_migrations[i].name, sqlite_migrations[i].sql);\nreturn 0; }\n'
FIRST = 'CREATE TABLE "t\\n" (\n\ta TEXT DEFAULT \'??/\'\n); -- %d é\n'


def embed(*names):
    def run(root):
        return tool("embed-sql", "sqlite", "m.h", *(os.path.join(root, n) for n in names))
    return run


def round_trip(root):
    """Compiles the table and prints it: the texts must come back byte for byte."""
    code, out = embed("0002_second.sql", "0001_first.sql")(root)
    if code != 0:
        return code, out
    with open(os.path.join(root, "table.c"), "w", encoding="utf-8") as f:
        f.write(out)
    cc = os.environ.get("CC", "gcc")
    p = subprocess.run([cc, "-trigraphs", "-Wall", "-Werror", "-I", root, "-o", root + "/show", root + "/table.c", root + "/show.c"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    if p.returncode != 0:
        return p.returncode, p.stdout
    shown = subprocess.run([root + "/show"], stdout=subprocess.PIPE, text=True, timeout=10).stdout
    want = "1|first|" + FIRST + "2|second|DROP TABLE x;\n"
    return (0, "") if shown == want else (1, "got %r\nwanted %r" % (shown, want))


check("embed-sql: texts come back byte for byte, in order", {
    "0001_first.sql": FIRST, "0002_second.sql": "DROP TABLE x;\n", "m.h": TABLE, "show.c": SHOW}, run=round_trip)
check("embed-sql: a gap", {"0001_a.sql": "x;", "0003_b.sql": "x;"}, "expected number 0002",
      run=embed("0001_a.sql", "0003_b.sql"))
check("embed-sql: a number twice", {"0001_a.sql": "x;", "0001_b.sql": "x;"}, "expected number 0002",
      run=embed("0001_a.sql", "0001_b.sql"))
check("embed-sql: a bad name", {"1_a.sql": "x;"}, "NNNN_name.sql", run=embed("1_a.sql"))
check("embed-sql: an empty file", {"0001_a.sql": " \n"}, "empty", run=embed("0001_a.sql"))

UNIT = sorted(n[:-2] for n in os.listdir(os.path.join(ROOT, "tests", "unit")) if n.startswith("test_") and n.endswith(".c"))


def end_of_run(*wanted, verdicts):
    """tests/run over two programs that stand in for unit tests: what its last lines say."""
    def run(root):
        folder = os.path.join(root, "tests", "unit")
        for name, text in zip(UNIT, verdicts):
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write("#!/bin/sh\ncat <<'END'\n%sEND\n" % text)
            os.chmod(f.name, 0o755)
        p = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "run"), "--build", root, "--quiet"] +
                           ["--only=tests/unit/" + name for name in UNIT[:len(verdicts)]],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
        last = p.stdout.splitlines()[-len(wanted):]
        good = p.returncode == 1 and all(text in line for text, line in zip(wanted, last))
        return (0, "") if good else (1, "exit %d: %s" % (p.returncode, p.stdout))
    return run


check("run: failures are named with their reasons in the last lines", {"mode": "asan\n"}, run=end_of_run(
    "FAILED asan tests/unit/%s: second one x != y" % UNIT[0], "FAILED asan tests/unit/%s: third" % UNIT[0],
    "FAILED asan tests/unit/%s: ended (exit 0) after 1 of 2 tests" % UNIT[1], "asan build, 2 programs", "2 passed, 3 failed",
    verdicts=["1..3\nok 1 - first\nnot ok 2 - second\n# one\n# x != y\nnot ok 3 - third\n", "1..2\nok 1 - only\n"]))

sys.exit(1 if failed else 0)
