#!/bin/bash
# The demo: a private server and a simulated Notion, filled, linked, changed, and left running.
#
#	demo.sh start	installs what is missing, builds, shows it; a demo that runs is replaced
#	demo.sh stop	ends it
#
# Everything is below DEMO_DIR (default .demo): the build, a copy of PostgreSQL, the data. No server or
# installed angles of this machine is touched; but for missing packages nothing is installed.
set -uo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
. "$TOP/test/lib/common.sh"
CHECK_DIR=${DEMO_DIR:-$TOP/.demo}
HERE=$CHECK_DIR
export LC_ALL=C.UTF-8
unset PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGDATA PERL5LIB NODE_OPTIONS MAKEFLAGS MFLAGS
unset NOTION_TOKEN NOTION_DATABASE_ID

say() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
sql() { "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -d demo "$@" 9>&-; }
ask() { sql -At -c "$1"; }

# Waits for a query to answer t; shows the answer of another one meanwhile, when it changes.
wait_for() {
  local question=$1 progress=$2 seen= now
  for ((i = 0; i < 600; i++)); do
    [ "$(ask "$question")" = t ] && return 0
    now=$(ask "$progress")
    [ "$now" = "$seen" ] || note "$now"
    seen=$now
    ask 'SELECT pg_sleep(0.1)' > /dev/null
  done
  die "this takes too long; look at $RUN/demo.log"
}

stop_demo() {
  local pid
  if [ -d "$DIR/pg" ]; then copy_postgres pg; fi
  if [ -f "$DIR/sim.pid" ]; then
    pid=$(cat "$DIR/sim.pid")
    # only when that process still is the simulator
    if [ -r "/proc/$pid/cmdline" ] &&
      tr '\0' ' ' < "/proc/$pid/cmdline" | grep -q 'notion/server.mjs'; then
      kill "$pid"
    fi
    rm -f "$DIR/sim.pid"
  fi
  [ ! -f "$RUN/demo/postmaster.pid" ] || end_server "$RUN/demo"
  [ ! -f "$DIR/sockets" ] || rm -rf "$(cat "$DIR/sockets")"
  rm -f "$DIR/sockets" "$HERE/env"
}

build() {
  copy_tree build
  copy_postgres pg
  as_user make -s -C "$DIR/build" PG_CONFIG="$PG_BIN/pg_config" all install \
    > "$DIR/build.log" 2>&1 || { tail -n 30 "$DIR/build.log"; die "the build failed; see $DIR/build.log"; }
}

start_simulator() {
  local node
  node=$(command -v node) || die "node is missing"
  rm -f "$DIR/sim.port"
  # root's node may stand where the other user cannot go; a copy of the simulator is in the build
  # exec: the process that is waited for is the simulator itself, and it does not hold our lock
  (exec ${RUN_AS[@]+"${RUN_AS[@]}"} "$node" "$DIR/build/test/notion/server.mjs" --port 0 \
    --port-file "$DIR/sim.port" --limit 0 < /dev/null > "$RUN/notion.log" 2>&1 9>&-) &
  echo $! > "$DIR/sim.pid"
  disown
  for ((i = 0; i < 200; i++)); do
    [ -s "$DIR/sim.port" ] && break
    kill -0 "$(cat "$DIR/sim.pid")" 2>/dev/null || { cat "$RUN/notion.log"; die "the simulator ended"; }
    read -rt 0.05 < <(:) || true
  done
  NOTION_URL=http://127.0.0.1:$(tr -dc 0-9 < "$DIR/sim.port")
}

start_demo() {
  "$TOP/test/bin/deps" iso-codes || exit 1
  use_check_dir
  RUN=$DIR/run
  as_user mkdir -p "$RUN"
  exec 9> "$DIR/lock"
  flock -n 9 || die "another demo is being started"
  stop_demo
  say "building"
  build
  SECONDS=0

  say "starting a server and a simulated Notion of our own"
  SOCKETS=$(as_user mktemp -d /tmp/angles-demo.XXXXXX)
  echo "$SOCKETS" > "$DIR/sockets"
  start_simulator
  note "Notion: $NOTION_URL (its rate limits are lifted; the real service allows 180 or 600 requests a minute)"
  start_server demo shared_preload_libraries=pg_cron,angles cron.database_name=demo \
    cron.use_background_workers=on angles.notion_url="$NOTION_URL" angles.notion_token=ntn_demo \
    angles.notion_rate_limit=0 angles.notion_query_lag=0 angles.notion_parent=00000000-0000-4000-8000-000000000001 ||
    die "the server did not start"
  as_user "$PG_BIN/createdb" demo || die "could not make the database"
  fill
  show
  write_env
  say "done in $SECONDS s. It is left running:"
  note "the Notion side   $NOTION_URL"
  note "the PostgreSQL    . $HERE/env && $PG_BIN/psql"
  note "try               UPDATE decisions SET status = 'decided' WHERE id = 1;"
  note "the end           make demo-stop"
}

fill() {
  local json=/usr/share/iso-codes/json

  say "making the starter tables, and loading countries and their subdivisions"
  note "(Debian's iso-codes, LGPL 2.1 or later)"
  sql -c 'CREATE EXTENSION pg_cron' -c 'CREATE EXTENSION angles' || exit 1
  sql -c "SELECT angles.create_tables('public')" > /dev/null || exit 1
  sql -v countries="$(cat "$json/iso_3166-1.json")" -v parts="$(subdivisions "$json")" \
    -f "$TOP/test/demo/fill.sql" || die "could not load the data"
}

# Only those of a few countries: at most 500 rows shall be linked.
subdivisions() {
  node -e '
    const all = JSON.parse(require("fs").readFileSync(process.argv[1] + "/iso_3166-2.json"))["3166-2"];
    console.log(JSON.stringify(all.filter(s => /^(AT|BE|CH|DE|NL)-/.test(s.code))));' "$1"
}

show() {
  say "what a link of \"subdivisions\" would be (dry run; nothing is sent)"
  sql -c "SELECT * FROM angles.link('subdivisions', dry_run => true)"
  say "linking five tables, parents first"
  for table in decisions memories activities countries subdivisions; do
    ask "SELECT count(*) FROM angles.link('$table')" > /dev/null || exit 1
    note "$table"
  done
  wait_for "SELECT bool_and(state = 'active') AND NOT EXISTS (SELECT FROM angles.queue) FROM angles.links" \
    "SELECT format('%s pages made, %s changes waiting', (SELECT count(*) FROM angles.pages WHERE state = 'live'), (SELECT count(*) FROM angles.queue))"
  note "$(ask "SELECT count(*) || ' rows are pages now' FROM angles.pages WHERE state = 'live'")"

  say "changing rows: one decided, one added with two activities, one deleted"
  sql -c "UPDATE decisions SET status = 'decided', decided_on = current_date WHERE id = 1" \
    -c "WITH d AS (INSERT INTO decisions (title, tags) VALUES ('Keep everything in PostgreSQL', '{architecture}') RETURNING id)
        INSERT INTO activities (title, decision, minutes) SELECT a, id, 30 FROM d, unnest(ARRAY['Write it down', 'Tell everybody']) a" \
    -c "DELETE FROM memories WHERE id = 2" || exit 1
  ask 'SELECT count(*) FROM angles.sync_notion()' > /dev/null || exit 1
  say "what Notion received by itself meanwhile (the end of its ledger)"
  node -e '
    fetch(process.argv[1] + "/_sim/ledger").then(r => r.text()).then(t => {
      const l = t.trim().split("\n").map(JSON.parse).slice(-5);
      for (const e of l) console.log("   " + new Date(e.t_us / 1000).toISOString().slice(11, 23), e.method,
        e.path.slice(0, 52).padEnd(52), e.status, JSON.stringify(e.body.properties ?? e.body).slice(0, 90));
    });' "$NOTION_URL"
  show_the_way_back || exit 1
  show_pages || exit 1
  show_backup || exit 1
  say "angles.status"
  sql -c "SELECT * FROM angles.status"
}

# A person edits a page, and then both sides change the same value.
show_the_way_back() {
  local page
  page=$(ask "SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
    WHERE l.relid = 'decisions'::regclass AND p.key = '1'")
  say "a colleague edits the first decision in Notion; angles asks for changes every 5 s"
  simulate edit "{\"op\":\"set\",\"page_id\":\"$page\",\"properties\":{\"reason\":\"So wrote a colleague in Notion\"}}"
  wait_for "SELECT reason LIKE 'So wrote%' FROM decisions WHERE id = 1" "SELECT 'it is on its way'" || return 1
  sql -c "SELECT id, title, reason FROM decisions WHERE id = 1"

  say "while Notion takes no writes, both sides change the same value"
  sql -c "SELECT count(*) FROM angles.alter_link('decisions', conflict => 'manual')" > /dev/null || return 1
  wait_for "SELECT state = 'active' FROM angles.links WHERE relid = 'decisions'::regclass" "SELECT 'conflicts: manual'" || return 1
  simulate faults '{"method":"PATCH","path":"^/v1/pages","count":100000,"action":"503"}'
  sql -c "UPDATE decisions SET reason = 'So wrote the database' WHERE id = 1" || return 1
  simulate edit "{\"op\":\"set\",\"page_id\":\"$page\",\"properties\":{\"reason\":\"So wrote the colleague again\"}}"
  wait_for "SELECT count(*) > 0 FROM angles.conflicts" "SELECT 'no conflict seen yet'" || return 1
  simulate clear
  sql -c 'SELECT id, "table", key, "column", postgres, notion, policy, winner FROM angles.conflicts' \
    -c "SELECT angles.resolve(max(id), 'notion') FROM angles.conflicts" || return 1
  wait_for "SELECT reason LIKE '%again' FROM decisions WHERE id = 1" "SELECT 'resolved in favour of Notion'" || return 1
  sql -c "SELECT id, title, reason FROM decisions WHERE id = 1"
}

# A person adds a page, and puts another one into the trash.
show_pages() {
  local source page
  source=$(ask "SELECT data_source_id FROM angles.links WHERE relid = 'memories'::regclass")
  page=$(ask "SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
    WHERE l.relid = 'memories'::regclass AND p.key = '1'")
  say "a colleague adds a page to the memories, and it becomes a row"
  simulate edit "{\"op\":\"add\",\"data_source_id\":\"$source\",\"properties\":{\"title\":\"Added by a colleague\"}}"
  wait_for "SELECT count(*) > 0 FROM memories WHERE title = 'Added by a colleague'" "SELECT 'it is on its way'" || return 1
  sql -c "SELECT id, title FROM memories ORDER BY id"

  say "another page goes into the trash: its row waits for a person's word"
  simulate edit "{\"op\":\"trash\",\"page_id\":\"$page\"}"
  ask 'SELECT count(*) FROM angles.sync_notion()' > /dev/null || return 1
  wait_for "SELECT count(*) > 0 FROM angles.held_deletes" "SELECT 'not seen yet'" || return 1
  sql -x -c 'SELECT * FROM angles.held_deletes' || return 1
  note "angles.refuse('memories', '1') puts the page back, angles.approve('memories', '1') deletes the row"
  sql -c "SELECT angles.refuse('memories', '1')" || return 1
  wait_for "SELECT count(*) = 0 FROM angles.held_deletes" "SELECT 'the page comes back'" || return 1
}

# Two backups, what differs between them, and all of it again in an empty database.
show_backup() {
  local repository="$RUN/demo/angles_backup/$(ask 'SELECT oid FROM pg_database WHERE datname = current_database()').git"
  local copy="$DIR/backup"
  say "a backup into the Git repository of the server"
  sql -c 'SELECT * FROM angles.backup()' || return 1
  say "three rows change, and the next backup has what differs"
  sql -c "UPDATE countries SET official = 'Helvetia' WHERE code = 'CH'" -c "DELETE FROM subdivisions WHERE code = 'CH-ZH'" \
    -c "INSERT INTO memories (title) VALUES ('Backups are text')" || return 1
  sql -c "SELECT commit, rows, chunks_written, chunks_reused FROM angles.backup(message => 'three rows')" || return 1
  as_user git -C "$repository" log --format='   %h %s' -3
  as_user git -C "$repository" diff --unified=0 HEAD~1 HEAD -- 'data/*.copy' | grep '^[-+]' | cut -c1-100 | sed 's/^/   /'
  say "restored by git, sha256sum and psql alone, into an empty database"
  as_user rm -rf "$copy"
  as_user git clone -q "$repository" "$copy" || return 1
  as_user "$PG_BIN/createdb" demo_again || return 1
  note "restore.sh --create -d demo_again"
  as_user env PATH="$PG_BIN:$PATH" "$copy/restore.sh" --create -d demo_again || return 1
  note "$(as_user "$PG_BIN/psql" -XAt -d demo_again -c "SELECT count(*) || ' countries, ' || (SELECT count(*) FROM subdivisions) || ' subdivisions' FROM countries")"
}

# Asks the simulator's control for something; "clear" ends all faults.
simulate() {
  node -e '
    const [url, what, body] = process.argv.slice(1);
    const ask = what === "clear" ? { method: "DELETE" }
      : { method: "POST", body, headers: { "content-type": "application/json" } };
    fetch(`${url}/_sim/${what === "clear" ? "faults" : what}`, ask).then((answer) => {
      if (!answer.ok) { console.error(`the simulator says ${answer.status}`); process.exit(1); }
    });' "$NOTION_URL" "$@"
}

write_env() {
  cat > "$HERE/env" <<ENV
export PGHOST='$SOCKETS' PGPORT=5432 PGUSER=postgres PGDATABASE=demo
export NOTION_URL='$NOTION_URL'
ENV
}

case ${1:-} in
  start) start_demo ;;
  stop)
    use_check_dir
    exec 9> "$DIR/lock"
    RUN=$DIR/run
    stop_demo
    echo "the demo has ended"
    ;;
  *) die "say start or stop" ;;
esac
