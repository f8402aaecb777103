# Makefile for coord: builds and installs the extension with PGXS, and starts
# the test suites and the demo.
#
# The targets demo and test* work on a bare machine too: the harness under
# test/harness installs what is missing, builds in a temporary copy of the tree
# and installs nothing of ours in the system.  So they must not depend on PGXS,
# which is included only where it exists.  For all targets: make help

EXTENSION = coord
MODULE_big = coord
PGFILEDESC = "coord - leases, task claims, agents and events"
DATA = $(wildcard sql/coord--*.sql)
OBJS = $(patsubst %.c,%.o,$(sort $(filter-out src/bin/%,$(wildcard src/*.c src/*/*.c))))

# The tests that "make installcheck" runs against a running server which has
# coord in its shared_preload_libraries.
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=coord
ISOLATION = $(patsubst test/isolation/specs/%.spec,%,$(sort $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=coord

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
SERVER_HEADERS := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)

# The server's headers are system headers for us, so that -Wextra speaks of our
# own code only.  The compiler writes down which headers each object needs.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(SERVER_HEADERS)
PG_CFLAGS = -Wall -Wextra -MMD -MP
# The server's own flags may be for another compiler than the one at hand.
ifneq ($(findstring clang,$(shell $(CC) --version 2>/dev/null)),)
PG_CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes
endif
EXTRA_CLEAN = $(OBJS:.o=.d) results regression.diffs regression.out output_iso test/output*

# LLVM bitcode needs a clang of the server's own version, which few machines
# have, and gains nothing here.  To build it all the same: make with_llvm=yes
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

# The MCP bridge.  PGXS makes either a module or a program, hence rules of our own.
BIN_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/bin/*.c)))
EXTRA_CLEAN += $(BIN_OBJS) $(BIN_OBJS:.o=.d) coord-mcp coord-*.zip

.DEFAULT_GOAL := all
comma := ,

ifneq ($(and $(PGXS),$(wildcard $(SERVER_HEADERS)/postgres.h)),)

include $(PGXS)

ifeq ($(shell test $(MAJORVERSION) -ge 16 && echo yes),yes)
ISOLATION_OPTS += --expecteddir=test/isolation
endif

$(OBJS) $(BIN_OBJS): Makefile
-include $(OBJS:.o=.d) $(BIN_OBJS:.o=.d)

all: coord-mcp$(X)

# Not the internal headers of libpq, which may be another version's.
$(BIN_OBJS): override CPPFLAGS := -I$(srcdir)/src -isystem $(SERVER_HEADERS) -isystem $(includedir) \
	$(filter-out -I%,$(CPPFLAGS))

# Not by libpq_pgport, which is without PostgreSQL's own two libraries from 17 on; nor by LIBS, which is all
# that the server needs.
coord-mcp$(X): $(BIN_OBJS)
	$(CC) $(CFLAGS) $(BIN_OBJS) $(LDFLAGS) $(LDFLAGS_EX) -L$(pkglibdir) -lpgcommon -lpgport $(libpq) -lm -o $@

install: install-bin
uninstall: uninstall-bin

install-bin: coord-mcp$(X)
	$(MKDIR_P) '$(DESTDIR)$(bindir)' '$(DESTDIR)$(mandir)/man1'
	$(INSTALL_PROGRAM) coord-mcp$(X) '$(DESTDIR)$(bindir)/coord-mcp$(X)'
	$(INSTALL_DATA) $(srcdir)/docs/coord-mcp.1 '$(DESTDIR)$(mandir)/man1/coord-mcp.1'

uninstall-bin:
	rm -f '$(DESTDIR)$(bindir)/coord-mcp$(X)' '$(DESTDIR)$(mandir)/man1/coord-mcp.1'

else

all install uninstall installcheck:
	@echo 'coord: $(PG_CONFIG) finds no PGXS. Install the development package of your PostgreSQL' >&2
	@echo '(Debian: postgresql-server-dev-all), or name it: make PG_CONFIG=/path/to/pg_config' >&2
	@false

clean distclean maintainer-clean:
	rm -rf $(OBJS) $(EXTRA_CLEAN) coord.so

endif

demo:
	@test/harness/with-cluster -- /usr/bin/python3 examples/demo/demo.py

# The cluster's user cannot write in the tree, hence the open files: a result
# takes its place only when it is complete.
BENCH_CLUSTER = COORD_COMMIT=$$(git describe --always --dirty 2>/dev/null) test/harness/with-cluster \
	-o fsync=on -o synchronous_commit=on -o shared_buffers=1GB -o max_wal_size=8GB -o max_connections=200 \
	-- /usr/bin/python3
BENCH_OPTIONS = $(if $(CHECK),--check) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) \
	$(if $(CLIENTS),--clients $(CLIENTS)) $(PARTS)

bench-flat bench-large bench: RESULT = bench/results/$(if $(PARTS)$(CLIENTS)$(COORD_LARGE),part-of-)$(patsubst bench-%,%,$@)

# What is only a part takes no place in bench/README.md.
bench: bench/prepare
bench-large: BENCH_OPTIONS = $(if $(CHECK),--check)
bench-flat bench-large bench:
	@mkdir -p bench/results
	@$(filter bench/prepare,$^)
	@status=0; $(BENCH_CLUSTER) bench/$(patsubst bench-%,%,$@).py --json 3 $(BENCH_OPTIONS) 3>$(RESULT).new || status=$$?; \
		if [ -s $(RESULT).new ]; then mv $(RESULT).new $(RESULT).json && /usr/bin/python3 bench/report.py; \
		else rm -f $(RESULT).new; fi; exit $$status

bench-quick:
	@$(BENCH_CLUSTER) bench/bench.py --quick $(BENCH_OPTIONS)

bench-report:
	@/usr/bin/python3 bench/report.py

bench-deadlines:
	@mkdir -p bench/results
	@test/harness/with-cluster -o fsync=on -o synchronous_commit=on -- \
		/usr/bin/python3 bench/deadlines.py --json 3 $(PARTS) 3>bench/results/deadlines.json

# An hour of all kinds, or KINDS="plain disk"; in short they are in test-tap.
TORTURE = test/harness/with-cluster -- /usr/bin/python3 test/torture/torture.py --keep test/output $(if $(SEED),--seed $(SEED))

torture:
	@$(TORTURE) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(KINDS),--kinds $(subst $() ,$(comma),$(strip $(KINDS))))

torture-queue torture-events:
	@$(TORTURE) --seconds $(or $(SECONDS),60) --kinds $(@:torture-%=%)

# Bugs that are planted, each of which the short form must find.
torture-mutants:
	@test/torture/mutants/run $(MUTANTS)

# In short it is in test-clients.
fuzz-rpc:
	@SEED='$(SEED)' COUNT='$(or $(COUNT),100000)' test/harness/run-suites clients:fuzz

# The tests of the bridge, with each bridge under valgrind.
valgrind-mcp:
	@test/harness/prepare valgrind
	@PG_TEST_TIMEOUT_DEFAULT=300 \
		COORD_MCP_WRAPPER='valgrind -q --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=99' \
		test/harness/run-suites 'tap:03[34]'

# Half an hour, unless SECONDS says otherwise: of the functions, then of sqlsmith.
fuzz: SECONDS ?= 900
fuzz:
	@test/harness/with-cluster -o max_prepared_transactions=10 -o log_statement=none -o "log_line_prefix=%m [%p] %b %d %e " -- \
		/usr/bin/python3 test/fuzz/functions.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
	@test/harness/with-cluster -o max_prepared_transactions=10 -o log_statement=none -o "log_line_prefix=%m [%p] %b %d %e " -- \
		/usr/bin/python3 test/fuzz/sqlsmith.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# What docs/reference.md and the pages that are run show, made anew; the tests compare them.
docs:
	@test/harness/with-cluster -- test/docs/reference.py >docs/reference.md.new && mv docs/reference.md.new docs/reference.md
	@for page in tutorial 'recipes --sections' 'operators --sections'; do \
		set -- $$page; page=docs/$$1.md; shift; \
		test/harness/with-cluster -- test/docs/run_page.py "$$@" --write $$page >$$page.new && mv $$page.new $$page || exit 1; \
	done

test:
	@test/harness/run-suites

test-regress test-isolation test-pgtap test-tap test-clients:
	@test/harness/run-suites $(@:test-%=%)

# Not in "make test", since they want a browser, of 300 MB, and postgres_exporter.
test-dashboard:
	@test/harness/prepare chromium fonts-dejavu-core python3-html5lib prometheus-postgres-exporter
	@test/harness/run-suites dashboard

# Not in "make test": three servers and etcd, some minutes.
test-patroni:
	@test/harness/prepare patroni etcd-server
	@COORD_TIMEOUT=$${COORD_TIMEOUT:-1800} test/harness/with-cluster -- /usr/bin/python3 test/patroni/test.py

# Servers that check more, which the first run builds (see test/harness/build-server).
test-assert test-asan test-valgrind:
	@test/harness/on-server $(@:test-%=%) test/harness/run-suites $(SUITES)

# Each supported version in a chroot of its own (see test/harness/matrix).
matrix:
	@test/harness/matrix $(if $(VERSIONS),-v "$(VERSIONS)") $(SUITES)

# What PGXN takes: all that is committed, and named after the version in META.json.
dist:
	@version=$$(sed -n 's/^  "version": "\(.*\)",$$/\1/p' META.json); \
		git archive --format=zip --prefix=coord-$$version/ -o coord-$$version.zip HEAD && echo coord-$$version.zip

# The packages of debian/, in test/output-deb (see test/harness/deb).
deb:
	@test/harness/deb build

test-deb:
	@test/harness/deb test $(POSTGRESQL)

lint:
	@test/harness/lint $(FILES)

help:
	@echo 'make                 build the extension (PG_CONFIG=… names another PostgreSQL)'
	@echo 'make install         install it; then: make installcheck'
	@echo 'make demo            the audit replayed on a throw-away cluster (DEMO_TTL=20: its own TTLs)'
	@echo 'make bench           coord beside its yardsticks; writes bench/README.md (CHECK=1: fails when a goal is'
	@echo '                     missed; PARTS="queue lease" ROUNDS=3 SECONDS=4 CLIENTS=1,16: part of it)'
	@echo 'make bench-quick     its core at 16 clients, in 2 to 4 minutes'
	@echo 'make bench-flat      cost with depth, queues, a held snapshot, a million tasks (CHECK=1 PARTS="depth snapshot")'
	@echo 'make bench-large     what people and agents call, with ten million tasks and events stored (COORD_LARGE=100000: fewer)'
	@echo 'make bench-report    writes bench/README.md anew from bench/results'
	@echo 'make bench-deadlines how promptly what falls due is done (PARTS="locks idle": only those)'
	@echo 'make torture         an hour of random load, nemeses, and a check of the history (SECONDS=60 SEED=1 KINDS="plain disk")'
	@echo 'make torture-queue   a minute of it, for queues: no task is stranded, passed over or claimed twice'
	@echo 'make torture-events  the same for events: none is missed, doubled or out of order, in spite of crashes'
	@echo 'make torture-mutants bugs that are planted, each of which a minute of it must find (MUTANTS="stale-token")'
	@echo 'make fuzz            hostile arguments to every function, then sqlsmith (SECONDS=900, of each; SEED=1)'
	@echo 'make test            all suites, on throw-away clusters'
	@echo 'make test-regress    only pg_regress; likewise test-isolation, test-pgtap, test-tap, test-clients'
	@echo 'make test-dashboard  the dashboard in headless Chromium, the queries of postgres_exporter in it; it installs both'
	@echo 'make test-patroni    failover under Patroni with etcd, both of which it installs'
	@echo 'make fuzz-rpc        mutated requests to coord.rpc, coord.mcp and coord-mcp (SEED=1 COUNT=100000)'
	@echo 'make valgrind-mcp    the tests of coord-mcp, under valgrind'
	@echo 'make test-assert     all suites on a server with assertions, which the first run builds; likewise test-asan'
	@echo '                     and test-valgrind (SUITES="regress tap:018": those; for others see test/harness/on-server)'
	@echo 'make matrix          all suites on each supported version of PostgreSQL, in chroots with the Debian that has it,'
	@echo '                     which the first run makes; as root (VERSIONS="17 18" SUITES="regress tap:018": those)'
	@echo 'make docs            docs/reference.md from the comments in the catalog; the answers in the tutorial and'
	@echo '                     other pages that the tests run'
	@echo 'make dist            the archive for PGXN: coord-VERSION.zip'
	@echo 'make deb             Debian packages, in test/output-deb'
	@echo 'make test-deb        builds them in a new chroot, and installs and tests them in another one; as root'
	@echo '                     (POSTGRESQL=17: with the Debian that has that PostgreSQL)'
	@echo 'make lint            static analysis: cppcheck, gcc -fanalyzer, clang-tidy (FILES="src/lease.c": of those)'
	@echo 'make clean           remove what was built'

.PHONY: all install uninstall install-bin uninstall-bin installcheck clean distclean maintainer-clean
.PHONY: demo bench bench-quick bench-flat bench-large bench-report bench-deadlines
.PHONY: torture torture-queue torture-events torture-mutants fuzz fuzz-rpc valgrind-mcp test test-regress test-isolation test-pgtap test-tap test-clients test-dashboard test-patroni help
.PHONY: test-assert test-asan test-valgrind matrix lint docs dist deb test-deb
