# Functions that the scripts of test/bin share. Sourced by bash; the caller sets TOP (the tree) and
# calls use_check_dir before anything else.

say() { echo "=== $*"; }
die() { echo "check: $*" >&2; exit 1; }

# Sets DIR, where everything that the tests make is kept, and RUN_AS, the words that run a command
# as the user who owns it. A server refuses root, so root hands over to user postgres.
use_check_dir() {
  DIR=${CHECK_DIR:-$TOP/.check}
  RUN_AS=()
  mkdir -p "$DIR"
  DIR=$(cd "$DIR" && pwd -P)
  [ "$(id -u)" = 0 ] || return 0

  TEST_USER=${ANGLES_CHECK_USER:-postgres}
  id -u "$TEST_USER" >/dev/null || die "there is no user $TEST_USER"
  RUN_AS=(setpriv "--reuid=$TEST_USER" "--regid=$(id -g "$TEST_USER")" --init-groups
    env "USER=$TEST_USER" "LOGNAME=$TEST_USER" "HOME=$DIR/home")
  # the tree may stand where that user cannot go, as in /root
  if ! "${RUN_AS[@]}" test -x "$DIR" 2>/dev/null; then
    DIR=/var/tmp/angles-check.$(printf '%s' "$DIR" | sha256sum | cut -c1-12)
    mkdir -p "$DIR"
    echo "(works in $DIR: $TEST_USER cannot reach ${CHECK_DIR:-$TOP/.check})"
    RUN_AS[-1]=HOME=$DIR/home
  fi
  mkdir -p "$DIR/home"
  chown "$TEST_USER:" "$DIR" "$DIR/home"
}

# The lock of this run (9) is ours alone: a server that is left over must not hold it.
as_user() { "${RUN_AS[@]}" "$@" 9>&-; }

# Makes DIR/build, or another name, a copy of the tree's sources, untracked ones included, owned by
# the test user. Times are kept, so that make sees what changed; files gone from the tree go.
copy_tree() {
  local to=$DIR/$1 list=$DIR/$1.files
  as_user mkdir -p "$to"
  if git -C "$TOP" -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1; then
    git -C "$TOP" -c safe.directory='*' ls-files -co --exclude-standard
  else
    (cd "$TOP" && find . -name .git -prune -o -name node_modules -prune -o -path ./.check -prune \
      -o -path ./.demo -prune -o -type f -print | sed 's|^\./||')
  fi | sort -u | while IFS= read -r file; do
    # tracked but deleted in the tree
    [ -f "$TOP/$file" ] && printf '%s\n' "$file"
  done > "$list"
  [ -s "$list" ] || die "no sources found in $TOP"

  (cd "$to" && find . -name node_modules -prune -o -name .deps -prune -o -type f \
    ! -name '*.o' ! -name '*.bc' ! -name '*.so' ! -name 'angles--*.sql' -print |
    sed 's|^\./||' | sort) | comm -23 - "$list" | (cd "$to" && tr '\n' '\0' | xargs -0 -r rm -f)
  # an object whose source is gone would not be linked, but would be found by mistake
  (cd "$to" && find src -name '*.[ob]*' -type f 2>/dev/null | while IFS= read -r object; do
    [ -f "$TOP/${object%.*}.c" ] || rm -f "$object"
  done)
  tar -C "$TOP" -cf - -T "$list" | tar -C "$to" --no-same-owner -xf -
  [ -z "${TEST_USER:-}" ] || chown -R "$TEST_USER:" "$to"
}

# Makes DIR/$1 a private copy of the PostgreSQL that PG_CONFIG names, without any angles in it, and
# sets PG_BIN to its programs. PostgreSQL finds its files relative to the program that runs, so the
# copy knows nothing of the original, and angles can be installed there without touching the system.
copy_postgres() {
  local to=$DIR/$1 config prefix part stamp
  # looked for once: later on, that of a copy stands first in PATH
  : "${SYSTEM_PG_CONFIG:=$(command -v "${PG_CONFIG:-pg_config}")}"
  config=$SYSTEM_PG_CONFIG
  [ -n "$config" ] || die "pg_config not found"
  local bin lib share include
  bin=$(realpath "$("$config" --bindir)")
  lib=$(realpath "$("$config" --pkglibdir)")
  share=$(realpath "$("$config" --sharedir)")
  include=$(realpath "$("$config" --includedir-server)")
  prefix=$(printf '%s\n' "$bin" "$lib" "$share" "$include" | sed -e 'N;N;N' \
    -e 's#^\(/.*/\|/\).*\n\1.*\n\1.*\n\1.*$#\1#')
  PG_BIN=$to/${bin#"$prefix"}
  PG_COPY=$to

  stamp=$("$config" --version; stat -c '%n %Y %i' "$bin/postgres" "$lib" "$share/extension" \
    "$lib/pgxs/src/makefiles/pgxs.mk")
  if [ "$(cat "$to/.stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$to"
    for part in "$bin" "$lib" "$share"; do
      mkdir -p "$to/$(dirname "${part#"$prefix"}")"
      # one may lie within another
      [ -d "$to/${part#"$prefix"}" ] || cp -a --reflink=auto "$part" "$to/${part#"$prefix"}"
    done
    # headers are read only
    mkdir -p "$to/$(dirname "${include#"$prefix"}")"
    ln -s "$include" "$to/${include#"$prefix"}"
    rm -rf "$to/${share#"$prefix"}"/extension/angles* "$to/${lib#"$prefix"}"/angles.so \
      "$to/${lib#"$prefix"}"/bitcode/angles*
    [ -z "${TEST_USER:-}" ] || chown -RPh "$TEST_USER:" "$to"
    [ "$(as_user "$PG_BIN/pg_config" --pkglibdir)" = "$to/${lib#"$prefix"}" ] ||
      die "the copy of PostgreSQL in $to does not find its own files"
    printf '%s\n' "$stamp" > "$to/.stamp"
  fi
}

# Starts a server as the test user: name, then settings as name=value. Sets PGHOST and PGPORT.
# It has no TCP port: the number names its socket only.
start_server() {
  local name=$1 data=$RUN/$1 setting; shift
  rm -rf "$data"
  as_user "$PG_BIN/initdb" -D "$data" -U postgres -A trust -N -E UTF8 --locale=C.UTF-8 \
    > "$RUN/$name.initdb.log" 2>&1 || { cat "$RUN/$name.initdb.log"; return 1; }
  {
    echo "listen_addresses = ''"
    echo "unix_socket_directories = '$SOCKETS'"
    echo "port = 5432"
    echo "fsync = off"
    echo "log_line_prefix = '%m [%p] %q%d '"
    for setting; do echo "${setting%%=*} = '${setting#*=}'"; done
  } | as_user tee -a "$data/postgresql.conf" > /dev/null
  # a server must hold none of our files open: whoever reads our output waits for them
  as_user "$PG_BIN/pg_ctl" -D "$data" -l "$RUN/$name.log" -w -t 120 start \
    > "$RUN/$name.start.log" 2>&1 < /dev/null || { cat "$RUN/$name.start.log" "$RUN/$name.log"; return 1; }
  export PGHOST=$SOCKETS PGPORT=5432 PGUSER=postgres
}

stop_server() {
  local data=$RUN/$1
  [ ! -f "$data/postmaster.pid" ] || end_server "$data"
}

end_server() {
  as_user "$PG_BIN/pg_ctl" -D "$1" -m fast -t 60 stop > /dev/null 2>&1 ||
    as_user "$PG_BIN/pg_ctl" -D "$1" -m immediate -t 60 stop > /dev/null 2>&1
}

# Ends what tests left behind after a crash or a time limit: servers and children, each by its pid,
# and only when that process still is what the file says. Looks below $1, default: the TAP tests'.
end_leftovers() {
  local file pid
  [ -d "$RUN" ] || return 0
  find "${1:-$RUN/tmp_check}" -name postmaster.pid -type f 2>/dev/null | while IFS= read -r file; do
    # tests that are ending still may stop it themselves
    pid=$(head -n 1 "$file" 2>/dev/null)
    if [ -n "$pid" ] && [ -d "/proc/$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$(dirname "$file")" ]; then
      echo "(ends a server that was left: $file)"
      kill -QUIT "$pid"
    fi
  done
  for file in "$RUN"/pids/*; do
    [ -f "$file" ] || continue
    pid=$(basename "$file")
    if [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -qF "$RUN"; then
      echo "(ends a program that was left: $(cat "$file"))"
      kill -KILL "$pid"
    fi
  done
}
