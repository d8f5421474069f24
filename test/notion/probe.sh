#!/bin/sh
# Settles the open questions about the live Notion service (make probe-notion), for a person with a token:
#
#	NOTION_TOKEN=ntn_... NOTION_PARENT=https://www.notion.so/Page-... make probe-notion
#
# It makes one database under that page, asks its questions there (about 40 requests), and puts the
# database into the trash. NOTION_URL points it at a simulator instead.
set -eu
here=$(dirname "$0")
if [ -z "${NOTION_TOKEN:-}" ] || [ -z "${NOTION_PARENT:-}" ]; then
  sed -n 's/^# \{0,1\}//p' "$0" | sed -n 2,7p
  exit 2
fi
exec "${NODE:-node}" "$here/probe.mjs"
