#!/bin/bash
# Makes a cluster in an empty volume, then becomes the server.
#
#	POSTGRES_PASSWORD_FILE	file with the password of user postgres (needed for a new cluster)
#	POSTGRES_DB				database that gets the extension, default postgres
#	NOTION_TOKEN_FILE		file with Notion's token
#	NOTION_PARENT			page under which databases are made
#	NOTION_RATE_LIMIT		requests in 60 s, default 180
#	ANGLES_INSTANCE_ID		name of this server: keep it when the container is made anew on the same volume,
#							change it for a copy of the volume (which is then fenced)
set -euo pipefail

quote() { printf "'%s'" "${1//\'/\'\'}"; }

if [ "${1:-postgres}" != postgres ]; then
  exec "$@"
fi

database=${POSTGRES_DB:-postgres}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ ! -r "${POSTGRES_PASSWORD_FILE:-}" ]; then
    echo "angles: set POSTGRES_PASSWORD_FILE to a file with the password for user postgres" >&2
    exit 1
  fi
  initdb -D "$PGDATA" -U postgres -E UTF8 --locale=C.UTF-8 --pwfile="$POSTGRES_PASSWORD_FILE" \
    --auth-local=peer --auth-host=scram-sha-256
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  printf '%s\n' "include '/etc/angles.conf'" "include_if_exists 'container.conf'" >> "$PGDATA/postgresql.conf"
fi

# what the container was started with wins over what it was started with before
{
  echo "cron.database_name = $(quote "$database")"
  [ -z "${NOTION_TOKEN_FILE:-}" ] || echo "angles.notion_token_file = $(quote "$NOTION_TOKEN_FILE")"
  [ -z "${NOTION_PARENT:-}" ] || echo "angles.notion_parent = $(quote "$NOTION_PARENT")"
  [ -z "${NOTION_RATE_LIMIT:-}" ] || echo "angles.notion_rate_limit = $(quote "$NOTION_RATE_LIMIT")"
  [ -z "${NOTION_URL:-}" ] || echo "angles.notion_url = $(quote "$NOTION_URL")"
  [ -z "${ANGLES_INSTANCE_ID:-}" ] || echo "angles.instance_id = $(quote "$ANGLES_INSTANCE_ID")"
} > "$PGDATA/container.conf"

if [ ! -e "$PGDATA/angles.made" ]; then
  # nobody from outside gets in before the database is complete
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
  if [ "$database" != postgres ]; then
    psql -U postgres -d postgres -v ON_ERROR_STOP=1 -v db="$database" <<< 'CREATE DATABASE :"db"'
  fi
  psql -U postgres -d "$database" -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION pg_cron' -c 'CREATE EXTENSION angles'
  pg_ctl -D "$PGDATA" -w -m fast stop
  touch "$PGDATA/angles.made"
fi
exec postgres -D "$PGDATA"
