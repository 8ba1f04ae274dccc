# xtrace -- build. `make help` lists the targets.
#
# Everything made goes below $(BUILD); only `install` (DESTDIR, PREFIX), `fmt` and `compile_commands.json` write
# elsewhere. Sources are found by wildcard: a new src/<module>/x.c or tests/unit/test_x.c needs no line here.
# One build directory holds one mode; debug, asan, tsan, fuzz and small build into directories of their own below $(BUILD).

BUILD   ?= build
MODE    ?= release
LIMITS  ?= normal
WERROR  ?= 0
PREFIX  ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
DOCDIR  ?= $(PREFIX)/share/doc/xtrace
CLANG   ?= clang
CLANGXX ?= clang++
CLANG_FORMAT ?= clang-format
CLANG_TIDY   ?= clang-tidy
PKG_CONFIG   ?= pkg-config
INSTALL ?= install
FUZZ_SECONDS ?= 15
TEST_ARGS ?=
V       ?= 0

VERSION := $(shell cat VERSION)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# One short line a command; V=1 shows the commands themselves, -s neither: only what compilers and checks have to say.
ifeq ($(V),1)
say =
else ifneq ($(findstring s,$(filter-out -%,$(firstword $(MAKEFLAGS)))),)
say = @
else
say = @echo '  $(1)	$(2)';
endif

# ---- sources -------------------------------------------------------------------------------------------------------
# MODULES="base json" limits a build to some directories of src/: handy while the rest does not compile.

MODULES   ?= $(patsubst src/%/,%,$(wildcard src/*/ src/*/*/))
MAIN_SRC  := $(wildcard src/main.c)
LIB_C     := $(sort $(foreach m,$(MODULES),$(wildcard src/$(m)/*.c)))
LIB_CC    := $(sort $(foreach m,$(MODULES),$(wildcard src/$(m)/*.cc)))
HEADERS   := $(sort $(wildcard src/*/*.h src/*/*/*.h))
SQLITE_SQL := $(sort $(wildcard sql/sqlite/*.sql))
POSTGRES_SQL := $(sort $(wildcard sql/postgres/*.sql))
UNIT_SRC  := $(sort $(wildcard tests/unit/test_*.c))
UNIT_SUPPORT_SRC := $(sort $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c)))
# Those that open a store: they are run with the small limits too.
STORE_UNIT_SRC = $(shell grep -lE '^#include "(store/|[a-z_]+_fixture\.h)' $(UNIT_SRC))
FUZZ_SRC  := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SUPPORT_SRC := $(sort $(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c)))
PRELOAD_SRC := $(sort $(wildcard tests/preload/*.c))
BENCH_MAIN := $(filter bench/load.c bench/ceiling.c bench/pg_ceiling.c bench/sink.c,$(wildcard bench/*.c))
BENCH_SUPPORT_SRC := $(sort $(filter-out $(BENCH_MAIN),$(wildcard bench/*.c)))

GEN_C     := $(if $(filter store/sqlite,$(MODULES)),$(BUILD)/gen/sql_sqlite.c) \
	$(if $(filter store/postgres,$(MODULES)),$(BUILD)/gen/sql_postgres.c)
OBJ       := $(BUILD)/obj
LIB_OBJ   := $(LIB_C:%=$(OBJ)/%.o) $(LIB_CC:%=$(OBJ)/%.o) $(GEN_C:$(BUILD)/%=$(OBJ)/%.o)
LIB       := $(BUILD)/libxtrace.a
UNIT_BIN  := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/unit/%)
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/tests/fuzz/%)
PRELOAD_SO := $(PRELOAD_SRC:tests/preload/%.c=$(BUILD)/tests/preload/%.so)
BENCH_BIN := $(BENCH_MAIN:bench/%.c=$(BUILD)/bench/%)

# ---- flags ---------------------------------------------------------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
ifeq ($(origin AR),default)
AR := ar
endif

# $(call accepts,FLAG): the flag, if this compiler takes it without a warning.
accepts = $(shell $(CC) -Werror $(1) -x c -c -o /dev/null /dev/null 2>/dev/null && echo '$(1)')

WARN     := -Wall -Wextra -Wshadow
WARN_C   := -Wconversion -Wstrict-prototypes -Wvla
ifeq ($(WERROR),1)
WARN     += -Werror
endif

HARDEN   := -fstack-protector-strong $(call accepts,-fstack-clash-protection)
SANITIZE :=
ifeq ($(MODE),release)
OPT      := -O2 -g
HARDEN   += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
else ifeq ($(MODE),debug)
OPT      := -Og -g3
else ifeq ($(MODE),asan)
OPT      := -O1 -g -fno-omit-frame-pointer
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
else ifeq ($(MODE),tsan)
OPT      := -O1 -g -fno-omit-frame-pointer
SANITIZE := -fsanitize=thread
else ifeq ($(MODE),fuzz)
OPT      := -O1 -g -fno-omit-frame-pointer
SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
else
$(error MODE must be release, debug, asan, tsan or fuzz, not "$(MODE)")
endif

PKGS     := libmicrohttpd sqlite3 libpq libzstd zlib simdjson gnutls
# The fallback serves machines without pkg-config; `help` and `clean` must work on those too.
LIBS     ?= $(or $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null),-lmicrohttpd -lsqlite3 -lpq -lzstd -lz -lsimdjson -lgnutls)
PKG_INC  := $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)

# assert() stays on in every mode: it guards against our own bugs, and costs nothing that was measured.
CPPFLAGS_ALL := -Isrc $(PKG_INC) -DXTRACE_VERSION='"$(VERSION)"' $(CPPFLAGS)
# LIMITS=small: the store seals, merges and checkpoints all the time (store/limits.h).
ifeq ($(LIMITS),small)
CPPFLAGS_ALL += -DXTRACE_SMALL_LIMITS
else ifneq ($(LIMITS),normal)
$(error LIMITS must be normal or small, not "$(LIMITS)")
endif
COMMON       := $(OPT) -fPIE -pthread $(HARDEN) $(SANITIZE) $(WARN)
# An empty _GNU_SOURCE is what a file's own "#define _GNU_SOURCE" says, so that both may stand.
CFLAGS_ALL   := -std=gnu11 -D_GNU_SOURCE= $(COMMON) $(WARN_C) $(CFLAGS)
CXXFLAGS_ALL := -std=c++17 -fno-exceptions -fno-rtti $(COMMON) $(CXXFLAGS)
LDFLAGS_ALL  := -pie -pthread -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed $(SANITIZE) $(LDFLAGS)
LDLIBS_ALL   := $(LIBS) -lm

# ---- the server ----------------------------------------------------------------------------------------------------

.PHONY: all
all: $(BUILD)/xtrace

ifeq ($(MAIN_SRC),)
$(BUILD)/xtrace:
	@echo "src/main.c is missing" >&2; exit 1
else
$(BUILD)/xtrace: $(OBJ)/src/main.c.o $(LIB)
	$(call say,LD,$@)$(CXX) $(LDFLAGS_ALL) -o $@ $< $(LIB) $(LDLIBS_ALL)
endif

# The archive is made anew, so that an object whose source is gone does not stay in it.
$(LIB): $(LIB_OBJ) $(BUILD)/objects
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $(LIB_OBJ)

$(OBJ)/%.c.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(OBJ)/%.cc.o: %.cc $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(CXX) $(CPPFLAGS_ALL) $(CXXFLAGS_ALL) -MMD -MP -c -o $@ $<

$(OBJ)/gen/%.c.o: $(BUILD)/gen/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/gen/sql_sqlite.c: $(SQLITE_SQL) tools/embed-sql $(BUILD)/migrations
	@mkdir -p $(@D)
	$(call say,GEN,$@)tools/embed-sql sqlite store/sqlite/migrations.h $(SQLITE_SQL) > $@

$(BUILD)/gen/sql_postgres.c: $(POSTGRES_SQL) tools/embed-sql $(BUILD)/migrations
	@mkdir -p $(@D)
	$(call say,GEN,$@)tools/embed-sql postgres store/postgres/migrations.h $(POSTGRES_SQL) > $@

# Files that change only when what they hold changes: a new compiler, flag or version rebuilds all, a source that came
# or went remakes the archive, a migration likewise the embedded table.
.PHONY: always
always:
define remember
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(1))' > $@
endef
$(BUILD)/flags: always
	$(call remember,$(CC) $(CXX) $(MODE) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(CXXFLAGS_ALL) $(LDFLAGS_ALL))
$(BUILD)/objects: always
	$(call remember,$(LIB_OBJ))
$(BUILD)/migrations: always
	$(call remember,$(SQLITE_SQL) $(POSTGRES_SQL))
# Read by tests/run: it gives sanitizer builds more time and their options.
$(BUILD)/mode: always
	$(call remember,$(MODE) $(LIMITS))

# ---- other builds --------------------------------------------------------------------------------------------------

.PHONY: debug asan tsan fuzz small small-store
debug: ; $(MAKE) BUILD=$(BUILD)/debug MODE=debug all unit
asan:  ; $(MAKE) BUILD=$(BUILD)/asan MODE=asan all unit clients-c-tests
tsan:  ; $(MAKE) BUILD=$(BUILD)/tsan MODE=tsan all unit clients-c-tests
fuzz:  ; $(MAKE) BUILD=$(BUILD)/fuzz MODE=fuzz CC=$(CLANG) CXX=$(CLANGXX) fuzz-programs
# MODE=asan or tsan gives the small limits under a sanitizer. small-store: the server and what tests the store.
SMALL  := $(BUILD)/small$(if $(filter-out release,$(MODE)),-$(MODE))
small: ; $(MAKE) BUILD=$(SMALL) LIMITS=small all unit clients-c-tests
small-store: ; $(MAKE) BUILD=$(SMALL) LIMITS=small all unit-store

# ---- the C client: a library of its own, clients/c/Makefile -----------------------------------------------------------

.PHONY: clients-c clients-c-tests install-client
CLIENT_C = +$(MAKE) -C clients/c BUILD=$(abspath $(BUILD))/clients/c MODE=$(MODE) CC='$(CC)' WERROR=$(WERROR)
clients-c:       ; $(CLIENT_C) all man
clients-c-tests: ; $(CLIENT_C) all examples unit programs
# The library is not part of `install`: a server needs none of it, nor an application anything else.
install-client:  ; $(CLIENT_C) DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' install

# ---- tests ---------------------------------------------------------------------------------------------------------

.PHONY: unit unit-store test postgres-test asan-test tsan-test small-test small-store-test test-crash test-clients test-fault
# Unit tests (one program a file) and the libraries that suites preload into the server.
unit: $(UNIT_BIN) $(PRELOAD_SO) $(BUILD)/mode
unit-store: $(STORE_UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/unit/%) $(PRELOAD_SO) $(BUILD)/mode

$(UNIT_BIN): $(BUILD)/tests/unit/%: $(OBJ)/tests/unit/%.c.o $(UNIT_SUPPORT_SRC:%=$(OBJ)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIB) $(LDLIBS_ALL) -lcmocka

$(PRELOAD_SO): $(BUILD)/tests/preload/%.so: tests/preload/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS_ALL) -std=gnu11 -D_GNU_SOURCE= $(OPT) $(WARN) -fPIC -pthread -MMD -MP -shared -o $@ $< -ldl

test: all unit bench-programs clients-c-tests
	tests/run --build $(BUILD) $(TEST_ARGS)

# What needs PostgreSQL, on clusters of its own; of the suites that run on each engine all.
postgres-test: all unit
	tests/run --build $(BUILD) --engine postgresql $(TEST_ARGS)

asan-test: asan
	tests/run --build $(BUILD)/asan $(TEST_ARGS)

tsan-test: tsan
	tests/run --build $(BUILD)/tsan $(TEST_ARGS)

small-test: small
	tests/run --build $(SMALL) $(TEST_ARGS)

small-store-test: small-store
	tests/run --build $(SMALL) --store $(TEST_ARGS)

# The long forms. They are bounded, but not short.
test-crash: all unit small-store
	XTRACE_TEST_ROUNDS=$(or $(ROUNDS),500) tests/run --build $(BUILD) --small $(SMALL) --campaign --timeout 7200 --only tests/crash/ $(TEST_ARGS)

test-fault: all unit
	tests/run --build $(BUILD) --campaign --timeout 1800 --only tests/fault/ $(TEST_ARGS)

test-clients: all
	tests/run --build $(BUILD) --campaign --timeout 900 --only tests/clients/ $(TEST_ARGS)

# ---- fuzzing -------------------------------------------------------------------------------------------------------

.PHONY: fuzz-programs fuzz-run
fuzz-programs: $(FUZZ_BIN) $(BUILD)/mode
	$(CLIENT_C) fuzz
	@cp $(BUILD)/clients/c/tests/fuzz_* $(BUILD)/tests/fuzz/

$(FUZZ_BIN): $(BUILD)/tests/fuzz/%: $(OBJ)/tests/fuzz/%.c.o $(FUZZ_SUPPORT_SRC:%=$(OBJ)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CXX) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(LIB) $(LDLIBS_ALL)

# Each target for FUZZ_SECONDS from its seeds in tests/fuzz/corpus/<name>/; what it finds stays below $(BUILD).
fuzz-run: fuzz
	tools/fuzz-run $(BUILD)/fuzz $(FUZZ_SECONDS)

# ---- bench ---------------------------------------------------------------------------------------------------------

.PHONY: bench bench-10m bench-programs
bench-programs: $(BENCH_BIN)

$(BENCH_BIN): $(BUILD)/bench/%: $(OBJ)/bench/%.c.o $(BENCH_SUPPORT_SRC:%=$(OBJ)/%.o)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LDLIBS_ALL)

# A million observations and short windows; bench-10m: ten million, all of them full.
bench: all bench-programs
	bench/run --build $(BUILD) --scale 0.6 $(BENCH_ARGS)
bench-10m: all bench-programs
	bench/run --build $(BUILD) --observations 10000000 $(BENCH_ARGS)

# ---- checks --------------------------------------------------------------------------------------------------------

.PHONY: lint check-format check-tidy check-layers check-banned check-headers fmt
lint: check-layers check-banned check-headers check-format check-tidy

FORMATTED := $(sort $(wildcard src/*.c) $(LIB_C) $(LIB_CC) $(HEADERS) \
	$(wildcard tests/*/*.c tests/*/*.h bench/*.c bench/*.h clients/c/*/*.c clients/c/*/*.h))

check-layers:
	tools/check-layers

check-banned:
	tools/check-banned

check-headers:
	CC='$(CC)' CPPFLAGS='$(PKG_INC)' tools/check-headers

check-format:
	$(if $(FORMATTED),$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED))

check-tidy: $(BUILD)/compile_commands.json $(GEN_C)
	CLANG_TIDY='$(CLANG_TIDY)' tools/check-tidy $(BUILD) $(MAIN_SRC) $(LIB_C) $(LIB_CC)

fmt:
	$(if $(FORMATTED),$(CLANG_FORMAT) -i $(FORMATTED))

# ---- compile_commands.json -----------------------------------------------------------------------------------------

$(BUILD)/compile_commands.json: $(BUILD)/flags $(BUILD)/objects tools/compile-commands
	@{ printf '%s\n' $(foreach f,$(MAIN_SRC) $(LIB_C) $(UNIT_SRC) $(UNIT_SUPPORT_SRC) $(FUZZ_SRC) $(BENCH_MAIN) $(BENCH_SUPPORT_SRC),'c $(f)') \
	    $(foreach f,$(LIB_CC),'c++ $(f)'); } | \
	CC='$(CC)' CXX='$(CXX)' tools/compile-commands \
	    '$(subst ','\'',$(CPPFLAGS_ALL) $(CFLAGS_ALL))' '$(subst ','\'',$(CPPFLAGS_ALL) $(CXXFLAGS_ALL))' > $@

.PHONY: compile_commands.json
compile_commands.json: $(BUILD)/compile_commands.json
	cp $< $@

# ---- install, clean, help ------------------------------------------------------------------------------------------

.PHONY: install clean help
install: all
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(DOCDIR)/docs $(DESTDIR)$(DOCDIR)/clients/c
	$(INSTALL) -m 755 $(BUILD)/xtrace $(DESTDIR)$(PREFIX)/bin/xtrace
	sed 's,/usr/local/,$(PREFIX)/,g' packaging/xtrace.service > $(BUILD)/xtrace.service
	$(INSTALL) -m 644 $(BUILD)/xtrace.service $(DESTDIR)$(UNITDIR)/xtrace.service
	$(INSTALL) -m 644 packaging/xtrace.sysusers $(DESTDIR)$(SYSUSERSDIR)/xtrace.conf
	$(INSTALL) -m 644 README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE $(DESTDIR)$(DOCDIR)
	$(INSTALL) -m 644 $(wildcard docs/*.md) $(DESTDIR)$(DOCDIR)/docs
	$(INSTALL) -m 644 clients/c/README.md $(DESTDIR)$(DOCDIR)/clients/c

clean:
	rm -rf $(BUILD)

help:
	@echo 'xtrace $(VERSION)'
	@echo
	@echo '  make                the server: $(BUILD)/xtrace'
	@echo '  make debug          -Og -g3, in $(BUILD)/debug, with the unit tests'
	@echo '  make asan, tsan     address+undefined+leak, thread sanitizer: $(BUILD)/asan, $(BUILD)/tsan'
	@echo '  make unit           the unit tests, not run'
	@echo '  make test           build and run all tests (TEST_ARGS="--only PATTERN")'
	@echo '  make postgres-test  what needs PostgreSQL alone, on clusters of its own'
	@echo '  make asan-test, tsan-test   the same suite on those builds'
	@echo '  make small          tiny limits in the store, so that it seals and merges all the time: $(SMALL) (MODE=asan)'
	@echo '  make small-test     the whole suite on that build; small-store-test: what tests the store'
	@echo '  make test-crash     kill -9 while writing, 500 rounds with small limits and 100 (ROUNDS=n), and power cuts'
	@echo '  make install-client the C client library: DESTDIR= PREFIX=$(PREFIX) LIBDIR= MANDIR='
	@echo '  make test-fault     full disk, hostile clients, the long forms too'
	@echo '  make test-clients   real SDKs from the package registries'
	@echo '  make fuzz           the libFuzzer programs (clang): $(BUILD)/fuzz/tests/fuzz'
	@echo '  make fuzz-run       each of them for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo '  make bench          rates and latencies up to a million observations (BENCH_ARGS)'
	@echo '  make bench-10m      the same up to ten million'
	@echo '  make lint           layers, banned functions, headers, clang-format, clang-tidy'
	@echo '  make fmt            rewrite the C sources with clang-format'
	@echo '  make install        DESTDIR= PREFIX=$(PREFIX) UNITDIR= SYSUSERSDIR= DOCDIR='
	@echo '  make compile_commands.json, clean, help'
	@echo
	@echo 'Variables: BUILD=dir  CC= CXX= (gcc or clang)  CFLAGS= LDFLAGS=  WERROR=1  V=1  MODULES="base json"'

# ---- header dependencies -------------------------------------------------------------------------------------------

-include $(patsubst %.o,%.d,$(LIB_OBJ) $(MAIN_SRC:%=$(OBJ)/%.o) \
	$(UNIT_SRC:%=$(OBJ)/%.o) $(UNIT_SUPPORT_SRC:%=$(OBJ)/%.o) $(FUZZ_SRC:%=$(OBJ)/%.o) $(FUZZ_SUPPORT_SRC:%=$(OBJ)/%.o) \
	$(patsubst %,$(OBJ)/%.o,$(BENCH_MAIN) $(BENCH_SUPPORT_SRC))) $(PRELOAD_SO:.so=.d)
.SECONDARY:
