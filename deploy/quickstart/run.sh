#!/usr/bin/env bash
# run.sh: the main job, for real. A throw-away PostgreSQL, the embedded engine, a backup, WAL, a restore into a
# new directory, and proof that the rows match. It leaves nothing running.
set -euo pipefail
umask 022
here=$(dirname "$(realpath "$0")")
built=$(realpath "$here/../../bin")
. "$here/../../.ci/packages.sh"

newest_postgres() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
free_port() {
  local port
  while port=$((12000 + RANDOM % 18000)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

pg=$(newest_postgres)
if [ -z "$pg" ] || [ ! -x "$pg/initdb" ]; then need_postgres 15; pg=$(newest_postgres); fi

# PostgreSQL refuses to run as root.
owner=$(id -un)
if [ "$owner" = root ]; then owner=postgres; fi
as_owner() { if [ "$(id -un)" = "$owner" ]; then "$@"; else runuser -u "$owner" -- "$@"; fi; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/holdfast-quickstart-XXXXXX")
chmod 755 "$dir"
if [ "$(id -u)" = 0 ]; then chown "$owner" "$dir"; fi
cd "$dir"
# The server's user runs them too, and may not enter the directory that they were built in.
bin=$dir/bin
mkdir "$bin"
cp --reflink=auto "$built"/holdfast{,-cli,-worker,-engine} "$bin"

up=
stop() {
  local code=$?
  if [ -n "$up" ]; then kill "$up" 2>/dev/null || true; wait "$up" 2>/dev/null || true; fi
  for data in "$dir/source" "$dir/restored"; do
    if [ -f "$data/postmaster.pid" ]; then as_owner "$pg/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1 || true; fi
  done
  if [ "$code" = 0 ]; then rm -rf "$dir"; else echo "quickstart failed (exit code $code); what it made is in $dir" >&2; fi
}
trap stop EXIT
trap 'exit 130' INT TERM

port=$(free_port) restored_port=$(free_port) engine_port=$(free_port) ui_port=$(free_port)
config=$dir/barman.conf
holdfast=("$bin/holdfast" -c "$config")
query() { "$pg/psql" -h "$dir" -U "$owner" -d postgres -XAtq -p "$1" -c "$2"; }
fingerprint() { query "$1" "select count(*) || ' rows, md5 ' || md5(string_agg(t::text, ',' order by id)) from accounts t"; }

step "a throw-away PostgreSQL $("$pg/postgres" -V | grep -oE '[0-9.]+' | head -1) in $dir"
cat > "$config" <<CONF
[barman]
barman_home = $dir/backups
barman_user = $owner

[main]
description = the cluster of the quickstart
conninfo = host=$dir port=$port user=$owner dbname=postgres
backup_method = postgres
archiver = on
immediate_checkpoint = true
CONF
as_owner mkdir "$dir/backups"
as_owner "$pg/initdb" -D "$dir/source" -A trust --no-sync >"$dir/initdb.log"
as_owner tee -a "$dir/source/postgresql.conf" >/dev/null <<CONF
port = $port
listen_addresses = ''
unix_socket_directories = '$dir'
archive_mode = on
archive_command = '$bin/holdfast -c $config wal-archive main %p'
CONF
as_owner "$pg/pg_ctl" -D "$dir/source" -l "$dir/postgres.log" -w start >/dev/null
query "$port" "create table accounts as select id, md5(id::text) as owner, id % 100000 as balance from generate_series(1, 300000) id"
echo "300000 rows; WAL is archived by: holdfast wal-archive main %p"

step "holdfast up: the engine and the workers"
"${holdfast[@]}" up --port "$engine_port" --ui-port "$ui_port" >"$dir/up.log" 2>&1 &
up=$!
for _ in $(seq 300); do
  if grep -q 'Temporal UI' "$dir/up.log"; then break; fi
  kill -0 "$up" 2>/dev/null || { cat "$dir/up.log" >&2; exit 1; }
  sleep 0.1
done
grep 'Temporal UI' "$dir/up.log"

step "holdfast backup main"
"${holdfast[@]}" backup main --wait --name quickstart

step "holdfast list-backups main"
"${holdfast[@]}" list-backups main

step "more rows after the backup, which only the WAL has"
query "$port" "update accounts set balance = balance + 1 where id % 3 = 0; insert into accounts select id, 'late', 0 from generate_series(300001, 300100) id"
before=$(fingerprint "$port")
"${holdfast[@]}" switch-wal main --force --archive
echo "$before"

step "holdfast restore main quickstart"
"${holdfast[@]}" restore main quickstart "$dir/restored"
as_owner tee -a "$dir/restored/postgresql.auto.conf" >/dev/null <<CONF
port = $restored_port
archive_command = '/bin/true'
CONF
as_owner "$pg/pg_ctl" -D "$dir/restored" -l "$dir/restored.log" -w start >/dev/null
after=$(fingerprint "$restored_port")
echo "$after"
[ "$before" = "$after" ] || { echo "the rows differ: $before before, $after after" >&2; exit 1; }

step "The restored rows are those of the source."
cat <<NEXT
What to try next:
  - your own server: put it into /etc/barman.conf (docs/configuration.md), then
      $built/holdfast config check
      $built/holdfast up
      $built/holdfast backup SERVER
  - kill -9 anything while a backup runs, and watch it finish all the same
  - a point in time:  $built/holdfast restore SERVER latest DIR --target-time '2026-01-31 12:00:00+00'
  - all commands:     $built/holdfast --help, and docs/commands.md
NEXT
