# Makefile of angles, a PostgreSQL extension (15 to 18), for GNU make.
#
#	make                    builds the library and the install script
#	make install            installs them where pg_config says (as root on Debian)
#	make installcheck       regression and isolation tests against a running server
#	make check              installs what is missing, runs every test against a private copy of
#	                        PostgreSQL; the system's own PostgreSQL is not touched
#	make demo, demo-stop    a running example
#	make help               all targets
#
# ANGLES_TEST=1 builds in the hooks that tests need (kill points, fake clock). Never install that
# build on a server that matters; make check keeps it to its private copy.

# Targets that work before PostgreSQL's build system is installed. Everything else is PGXS.
OWN_GOALS = deps check check-clang check-valgrind lint soak bench demo demo-stop probe-notion \
	pgtap check-clean help

ifneq ($(filter $(OWN_GOALS),$(MAKECMDGOALS)),)

# PARTS, TESTS, JOBS and CHECK_DIR may be given on the command line; see test/README.md.
.NOTPARALLEL:
.PHONY: $(MAKECMDGOALS)

# Asked for in one breath with targets of PGXS: those go to a make of their own, in order.
PGXS_GOALS = $(filter-out $(OWN_GOALS),$(MAKECMDGOALS))
ifneq ($(PGXS_GOALS),)
$(PGXS_GOALS):
	+$(MAKE) $@
endif

deps:
	test/bin/deps
check:
	test/bin/check
check-valgrind:
	PARTS="$(or $(PARTS),valgrind)" test/bin/check
check-clang:
	PARTS=build test/bin/check
check-clean:
	test/bin/check --clean
lint:
	test/lint/lint
pgtap:
	test/bin/pgtap $(TESTS)
soak:
	PARTS="$(or $(PARTS),soak)" test/bin/check
bench:
	test/bin/check --bench
demo:
	test/demo/demo.sh start
demo-stop:
	test/demo/demo.sh stop
probe-notion:
	test/notion/probe.sh
help:
	@echo 'all install uninstall clean   build with PGXS (PG_CONFIG=..., ANGLES_TEST=1, WERROR=)'
	@echo 'installcheck                  regress and isolation tests on a running server'
	@echo 'deps                          install missing Debian packages'
	@echo 'check                         every test (PARTS="lint tap", TESTS=..., JOBS=2, CHECK_DIR=...)'
	@echo 'check-valgrind                a server under valgrind'
	@echo 'check-clang                   all builds, clang included'
	@echo 'check-clean                   remove what check left'
	@echo 'lint                          rules about the source'
	@echo 'pgtap                         contracts on the server that PGHOST, PGPORT name'
	@echo 'soak bench                    long runs, figures'
	@echo 'demo demo-stop                a running example'
	@echo 'probe-notion                  questions to the live service (needs a token)'

else

TOP := $(dir $(lastword $(MAKEFILE_LIST)))

# The version stands in angles.control and nowhere else. (PGXS has a VERSION: PostgreSQL's.)
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(TOP)angles.control)

EXTENSION = angles
MODULE_big = angles
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
SQL_PARTS = $(sort $(wildcard sql/[0-9][0-9]_*.sql))
DATA_built = sql/angles--$(EXTVERSION).sql
DATA = $(sort $(wildcard sql/upgrade/angles--*.sql))
PGFILEDESC = "angles - two-way sync with Notion, backup to Git"

PG_CONFIG ?= pg_config
WERROR ?= -Werror
# PostgreSQL's headers as system headers: their own warnings under -Wextra are not ours to fix.
# Parameters of callbacks and of the fmgr are often unused by nature, and PostgreSQL counts with int up
# to lengthof(), which is unsigned: two warnings of -Wextra that PostgreSQL's ways cannot do without.
PG_CFLAGS = -Wall -Wextra $(WERROR) -Wno-declaration-after-statement -Wno-unused-parameter \
	-Wno-sign-compare
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -I$(TOP)src \
	-DANGLES_VERSION='"$(EXTVERSION)"'
ifdef ANGLES_TEST
PG_CPPFLAGS += -DANGLES_TEST
endif
SHLIB_LINK = -lcurl -lcrypto -lgit2 -lz

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=angles
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=angles
# The TAP tests need node, the simulator and a library built with ANGLES_TEST: make check has all.
ifdef ANGLES_TEST
TAP_TESTS = 1
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))
endif

EXTRA_CLEAN = .deps results output_iso regression.diffs regression.out tmp_check tmp_check_iso \
	$(wildcard sql/angles--*.sql)

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS empties this variable, so it comes after.
PROVE_FLAGS += -I test/lib

# clang does not know all of the flags that a PostgreSQL built by gcc hands on.
ifneq ($(findstring clang,$(notdir $(CC))),)
override CFLAGS := $(filter-out -fexcess-precision=standard -Wimplicit-fallthrough=%,$(CFLAGS)) \
	-Wno-unknown-warning-option
endif

# Headers: each compilation notes what it read.
COMPILE.c = $(CC) $(CFLAGS) $(CPPFLAGS) -MMD -MP -MF .deps/$(subst /,_,$*).d -c
-include $(wildcard .deps/*.d)
ifeq ($(with_llvm),yes)
$(OBJS:.o=.bc): %.bc: %.o
endif

# Objects made with other flags, another PostgreSQL or another version are made again.
BUILD_FLAGS := $(subst ','\'',$(CC) $(CFLAGS) $(CPPFLAGS) $(shell $(PG_CONFIG) --version))
.deps/flags: angles-flags-are-looked-at
	@mkdir -p .deps
	@echo '$(BUILD_FLAGS)' | cmp -s - $@ || echo '$(BUILD_FLAGS)' > $@
.PHONY: angles-flags-are-looked-at
$(OBJS): .deps/flags

# The list is a prerequisite too: a part that was taken away must not live on in the script.
sql/angles--$(EXTVERSION).sql: $(SQL_PARTS) angles.control Makefile .deps/sql-parts
	{ printf '%s\n' '\echo Use "CREATE EXTENSION angles" to load this file. \quit'; \
	  for part in $(SQL_PARTS); do echo; echo "-- $$part"; cat $$part || exit 1; done; } > $@.tmp
	mv $@.tmp $@
.deps/sql-parts: angles-flags-are-looked-at
	@mkdir -p .deps
	@echo '$(SQL_PARTS)' | cmp -s - $@ || echo '$(SQL_PARTS)' > $@

endif
