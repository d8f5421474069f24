# The parts of a check: each function part_NAME runs one and writes "PASSED FAILED" into
# $RUN/counts/NAME. Sourced by test/bin/check; uses common.sh.

# Longest time of a part in seconds, on a machine with other work. A whole check needs less than 20
# minutes on a quiet one.
limit_of() {
  case $1 in
    build) echo 900 ;;
    tap) echo 1800 ;;
    soak | bench | valgrind | valgrind-tap) echo 14400 ;;
    *) echo 300 ;;
  esac
}

run_part() {
  local part=$1 start=$SECONDS passed failed
  say "$part"
  # parts of the shell's own: what may hang is run under "limited"
  "part_$part"
  if ! read -r passed failed 2>/dev/null < "$RUN/counts/$part"; then
    passed=0 failed=1
    echo "$part: gave no result"
  elif [ "$((passed + failed))" = 0 ]; then
    failed=1
    echo "$part: there was nothing to run"
  fi
  echo "$part $passed $failed $((SECONDS - start))" >> "$RUN/results"
}

# Runs a command as the test user within the time of a part: limited PART DIRECTORY COMMAND... Prefix of
# everything that may hang. timeout(1) ends the whole process group. Waited for in this shell and
# not in another, so that a signal is acted upon at once; see stop_limited.
limited() {
  local part=$1 dir=$2 status; shift 2
  "${RUN_AS[@]}" timeout -k 30 "$(limit_of "$part")" env -C "$dir" "$@" 9>&- &
  LIMITED=$!
  wait "$LIMITED"
  status=$?
  LIMITED=
  [ $status != 124 ] || echo "$part: not done in $(limit_of "$part") s"
  return $status
}

# Ends what limited() waits for, so that tests can clean up behind themselves.
stop_limited() {
  [ -n "${LIMITED:-}" ] || return 0
  kill -TERM "$LIMITED"
  wait "$LIMITED"
}

# Writes the counts of a part.
counted() { echo "$2 $3" > "$RUN/counts/$1"; }

summary() {
  local part passed failed seconds all_passed=0 all_failed=0
  echo
  printf '%-10s %8s %8s %8s\n' part passed failed seconds
  while read -r part passed failed seconds; do
    printf '%-10s %8d %8d %8d\n' "$part" "$passed" "$failed" "$seconds"
    all_passed=$((all_passed + passed)) all_failed=$((all_failed + failed))
  done < "$RUN/results"
  printf '%-10s %8s %8s %8d\n\n' all "$all_passed" "$all_failed" "$((SECONDS - started))"
  if [ "$all_failed" != 0 ]; then
    echo "logs: $RUN"
    LAST_LINE_STATUS=1
  fi
  echo "$all_passed passed, $all_failed failed"
  exit "${LAST_LINE_STATUS:-0}"
}

# ---- what several parts need, made once ----

# The test build, installed into the private copy of PostgreSQL.
need_build() {
  [ -z "${BUILD_DONE:-}" ] || return "$BUILD_DONE"
  BUILD_DONE=1
  copy_postgres "${POSTGRES:-pg}"
  copy_tree "${TREE:-build}"
  BUILD=$DIR/${TREE:-build}
  make_in "${TREE:-build}" test ${HOOKS-ANGLES_TEST=1} PG_CONFIG="$PG_BIN/pg_config" all install || return 1
  BUILD_DONE=0
}

# Runs make in a copy of the tree: name of the copy, name of the log, arguments. Shows errors.
make_in() {
  local where=$DIR/$1 log=$RUN/make-$2.log; shift 2
  limited build "$where" make -k "$@" > "$log" 2>&1 && return 0
  # compiler's command lines have these words in their switches
  grep -vE '^[^ ]*(gcc|clang|cc)[^ ]* -' "$log" | grep -E -A 3 'error|warning|Error|undefined' |
    head -n 60 | grep . || tail -n 40 "$log"
  echo "(all of it: $log)"
  return 1
}

# A server with angles for regress, isolation and pgtap. It finds no Notion: those tests ask nothing
# of one, and a wrong setting here must not reach the internet.
need_server() {
  need_build || return 1
  [ -z "${SERVER_DONE:-}" ] || return "$SERVER_DONE"
  SERVER_DONE=1
  export PATH=$PG_BIN:$PATH
  start_server server shared_preload_libraries=pg_cron,angles cron.database_name=postgres \
    cron.use_background_workers=on max_prepared_transactions=10 max_worker_processes=24 \
    angles.notion_url=http://127.0.0.1:9 angles.notion_token=ntn_test || return 1
  SERVER_DONE=0
}

# The names that TESTS picks among files of a kind, without folder and suffix; all when TESTS is not set.
picked() {
  local dir=$1 suffix=$2 file
  for file in "$BUILD/$dir"/*"$suffix"; do
    [ -f "$file" ] || continue
    if [ -z "$TESTS" ] || printf '%s\n' $TESTS | grep -qxF -e "$dir/$(basename "$file")" \
      -e "$(basename "$file")" -e "$(basename "$file" "$suffix")"; then
      basename "$file" "$suffix"
    fi
  done
}

# Returns where PGXS keeps the programs and modules of its tests.
pgxs_tests() { realpath "$(dirname "$("$PG_BIN/pg_config" --pgxs)")/../test"; }

# ---- the parts ----

# Four builds without a warning: tests, production with gcc, production with clang, and that the
# production library carries nothing of the tests.
part_build() {
  local passed=0 failed=0 clang
  verdict() { if "${@:2}"; then passed=$((passed + 1)); echo "ok     $1"; else failed=$((failed + 1)); echo "FAILED $1"; fi; }
  verdict "gcc, with test hooks" need_build
  copy_tree prod
  rm -f "$DIR/prod/angles.so"
  verdict "gcc, production" make_in prod prod PG_CONFIG="$PG_BIN/pg_config" all
  verdict "production has no test hooks" no_test_hooks "$DIR/prod/angles.so"
  clang=$(command -v clang || ls /usr/bin/clang-[0-9]* 2>/dev/null | head -n 1)
  copy_tree clang
  verdict "clang, with test hooks" make_in clang clang ANGLES_TEST=1 CC="${clang:-no-clang-here}" \
    PG_CONFIG="$PG_BIN/pg_config" all
  counted build $passed $failed
}

no_test_hooks() {
  [ -f "$1" ] || return 1
  ! grep -aqE 'angles_kill_once|angles\.test_|angles_testhook' "$1"
}

part_lint() {
  copy_tree build
  limited lint "$DIR/build" perl "$DIR/build/test/lint/lint" --counts "$RUN/counts/lint"
}

part_regress() {
  need_server || return
  run_pg_regress regress regress/pg_regress test/sql .sql regression.diffs
}

part_isolation() {
  need_server || return
  run_pg_regress isolation isolation/pg_isolation_regress test/specs .spec regression.diffs
}

# pg_regress prints "test NAME ... ok" up to 15 and TAP from 16 on.
run_pg_regress() {
  local part=$1 program=$2 names passed failed out=$RUN/$1
  names=$(picked "$3" "$4")
  [ -n "$names" ] || { counted "$part" 0 0; return; }
  as_user mkdir -p "$out"
  # both look for the wanted outputs below their output directory first
  as_user ln -sfn "$BUILD/expected" "$out/expected"
  limited "$part" "$out" "$(pgxs_tests)/$program" \
    --inputdir="$BUILD/test" --outputdir="$out" --bindir="$PG_BIN" --dbname=angles_regress --load-extension=angles \
    $names > "$out/out" 2>&1
  passed=$(grep -cE '^(test .*\.\.\. ok|ok [0-9]+)' "$out/out")
  failed=$(grep -cE '^(test .*\.\.\. FAILED|not ok [0-9]+)' "$out/out")
  if [ "$failed" != 0 ] || [ "$passed" != "$(echo "$names" | wc -w)" ]; then
    cat "$out/out"
    [ ! -f "$out/$5" ] || head -n 400 "$out/$5"
    [ "$failed" != 0 ] || failed=1
  fi
  counted "$part" "$passed" "$failed"
}

part_pgtap() {
  local names
  need_server || return
  names=$(picked test/pgtap .sql)
  [ -n "$names" ] || { counted pgtap 0 0; return; }
  limited pgtap "$BUILD" env COUNTS="$RUN/counts/pgtap" \
    "$BUILD/test/bin/pgtap" $(printf "$BUILD/test/pgtap/%s.sql " $names)
}

part_tap() { run_tap tap test/t; }

# Runs Perl tests of a folder; more arguments are settings for them.
run_tap() {
  local part=$1 dir=$2 names limit; shift 2
  need_build || return
  names=$(picked "$dir" .pl)
  [ -n "$names" ] || { counted "$part" 0 0; return; }
  limit=$(( $(limit_of "$part") * 2 / 3 ))
  # 15 looks at TESTDIR, later versions at the two names that follow
  limited "$part" "$BUILD" env PATH="$PG_BIN:$PATH" TMPDIR="$SOCKETS" TESTDIR="$RUN" \
    TESTDATADIR="$RUN/tmp_check" TESTLOGDIR="$RUN/tmp_check/log" \
    PG_TEST_PORT_DIR="$RUN/ports" PG_REGRESS="$(pgxs_tests)/regress/pg_regress" \
    ANGLES_TOP="$BUILD" ANGLES_RECORD_DIR="$RUN/record" ANGLES_PID_DIR="$RUN/pids" "$@" \
    perl test/bin/tap ${COMMENTS:-} --jobs "$JOBS" --limit "$limit" --counts "$RUN/counts/$part" \
    --words perl -I "$(pgxs_tests)/perl" -I test/lib -- $(printf "$dir/%s.pl " $names)
  end_leftovers
}

# The simulator's own tests.
part_node() {
  copy_tree build
  BUILD=$DIR/build
  local files=("$BUILD"/test/notion/*.test.mjs)
  [ -f "${files[0]}" ] || { counted node 0 0; return; }
  limited node "$BUILD" node --test --test-reporter=tap "${files[@]}" > "$RUN/node.tap" 2>&1
  node_counts node "$RUN/node.tap"
}

node_counts() {
  local passed failed
  passed=$(sed -n 's/^# pass //p' "$2" | tail -n 1)
  failed=$(sed -n 's/^# \(fail\|cancelled\) //p' "$2" | awk '{ n += $1 } END { print n + 0 }')
  [ "$failed" = 0 ] || grep -A 25 -E '^ *not ok' "$2" | head -n 200
  [ -n "$passed" ] || { tail -n 40 "$2"; return; }
  counted "$1" "$passed" "$failed"
}

# The packages of the judge. Installed by who calls, whose npm settings hold; no scripts are run.
need_judge() {
  copy_tree build
  BUILD=$DIR/build
  local judge=$BUILD/test/notion/judge sum
  [ -f "$judge/package-lock.json" ] || { echo "there is no test/notion/judge"; return 1; }
  sum=$(sha256sum < "$judge/package-lock.json")
  if [ "$(cat "$judge/node_modules/.lock-sum" 2>/dev/null)" != "$sum" ]; then
    (cd "$judge" && timeout -k 30 280 npm ci --ignore-scripts --no-audit --no-fund \
      --cache "$DIR/npm") > "$RUN/npm.log" 2>&1 || { tail -n 40 "$RUN/npm.log"; return 1; }
    echo "$sum" > "$judge/node_modules/.lock-sum"
    [ -z "${TEST_USER:-}" ] || chown -R "$TEST_USER:" "$judge/node_modules"
  fi
}

# What the official client says about the simulator.
part_judge() {
  need_judge || return
  limited judge "$BUILD/test/notion/judge" node judge.mjs > "$RUN/judge.log" 2>&1
  last_line_counts judge "$RUN/judge.log" $?
}

# What the official client's types say about every request that angles sent in the suite.
part_requests() {
  need_judge || return
  local files=("$RUN"/record/*)
  [ -f "${files[0]}" ] || { echo "no requests were recorded"; counted requests 0 0; return; }
  limited requests "$BUILD/test/notion/judge" node validate-requests.mjs "${files[@]}" \
    > "$RUN/requests.log" 2>&1
  last_line_counts requests "$RUN/requests.log" $?
}

# Takes the counts from a last line "N passed, N failed".
last_line_counts() {
  local part=$1 log=$2 status=$3 passed failed
  read -r passed failed < <(sed -n 's/.*\b\([0-9]\+\) passed, \([0-9]\+\) failed.*/\1 \2/p' "$log" | tail -n 1)
  if [ -z "${passed:-}" ] || [ "$status" != 0 ] || [ "$failed" != 0 ]; then
    tail -n 100 "$log"
    [ -n "${passed:-}" ] || return
    [ "$failed" != 0 ] || failed=1
  fi
  counted "$part" "$passed" "$failed"
}

# ---- parts on demand ----

# The TAP tests with their long settings, and the tests that exist for that alone.
part_soak() {
  [ -z "$TESTS" ] && [ -d "$TOP/test/soak" ] && { run_tap soak test/soak ANGLES_SOAK=1; return; }
  run_tap soak test/t ANGLES_SOAK=1
}

# Figures, with the production build and nothing beside it.
part_bench() {
  local POSTGRES=pg-bench TREE=build-bench HOOKS= JOBS=1 COMMENTS=--comments BUILD_DONE= BUILD PG_BIN
  run_tap bench test/bench
}

# A server under valgrind: pgtap and regress contracts, isolation, and the TAP tests that say
# "# valgrind: yes" (or TESTS). Each process of the server that valgrind complains about counts as one
# failure; the sum of the tests counts as well.
part_valgrind() {
  local name log errors=0 processes=0 passed=0 failed=0 marked a b
  # a copy of its own, whose postgres is a script
  stop_server server
  SERVER_DONE=
  local POSTGRES=pg-valgrind TREE=build-valgrind BUILD_DONE= SERVER_DONE= BUILD PG_BIN PATH=$PATH
  need_build || return
  as_user mkdir -p "$RUN/valgrind"
  rm -f "$RUN"/counts/{regress,isolation,pgtap}
  wrap_postgres || return
  marked=$(grep -lE '^# valgrind: yes' "$BUILD"/test/t/*.pl 2>/dev/null | sed 's|.*/||' | tr '\n' ' ')
  export ANGLES_SLOW_FACTOR=20 PGCTLTIMEOUT=600 PG_TEST_TIMEOUT_DEFAULT=3600
  for name in regress isolation pgtap; do
    [ -n "$TESTS" ] || { say "valgrind: $name"; "part_$name"; }
  done
  stop_server server
  say "valgrind: tap"
  TESTS=${TESTS:-${marked:-none}} JOBS=1 run_tap valgrind-tap test/t ANGLES_SLOW_FACTOR=20
  for name in regress isolation pgtap valgrind-tap; do
    [ -f "$RUN/counts/$name" ] || { [ -n "$TESTS" ] && [ "$name" != valgrind-tap ] || failed=$((failed + 1)); continue; }
    read -r a b < "$RUN/counts/$name"
    passed=$((passed + a)) failed=$((failed + b))
  done
  for log in "$RUN"/valgrind/*.log; do
    [ -f "$log" ] || continue
    processes=$((processes + 1))
    # -q: valgrind writes only what it complains about
    grep -qE '^==[0-9]+==' "$log" || continue
    errors=$((errors + 1))
    [ "$errors" -gt 10 ] || { echo "--- $log"; head -n 60 "$log"; }
  done
  echo "valgrind: $processes processes, $errors with complaints; passed and failed tests: $passed, $failed"
  [ "$processes" -gt 0 ] || failed=$((failed + 1))
  counted valgrind $((passed + processes - errors)) $((failed + errors))
}

# Puts a script in the place of postgres in the private copy. Setting up a data directory runs as it is:
# that code is PostgreSQL's alone.
wrap_postgres() {
  [ -f "$PG_BIN/postgres.real" ] || as_user mv "$PG_BIN/postgres" "$PG_BIN/postgres.real" || return
  as_user tee "$PG_BIN/postgres" > /dev/null <<SCRIPT
#!/bin/sh
case " \$* " in
  *" --boot "* | *" --single "* | *" -V "* | *" --version "* | *" -C "* | *" --describe-config "*)
    exec "$PG_BIN/postgres.real" "\$@" ;;
esac
exec valgrind -q --vgdb=no --leak-check=no --gen-suppressions=all --trace-children=yes \\
  --error-limit=no --num-callers=30 --read-var-info=no \\
  --suppressions="$BUILD/test/valgrind/postgres.supp" --log-file="$RUN/valgrind/%p.log" \\
  "$PG_BIN/postgres.real" "\$@"
SCRIPT
  as_user chmod 755 "$PG_BIN/postgres"
}
