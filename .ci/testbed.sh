#!/usr/bin/env bash
# testbed.sh: what the tests with real servers need: PostgreSQL 15, sshd and small tools from Debian's packages,
# PostgreSQL 13, 17 and 18 and Barman from signed packages of other Debian suites, unpacked under
# ${HOLDFAST_TESTBED:-/var/tmp/holdfast-testbed}; and servers of object stores: versitygw (S3) and fake-gcs-server
# (Google), built there from source, and Azurite (Azure), which npm unpacks for Debian's Node.js. What is complete is kept. See internal/pgtest, internal/sshtest, internal/barmantest and internal/objstore/storetest.
set -euo pipefail
umask 022
cd "$(dirname "$(realpath "$0")")"
. ./packages.sh

bed=$(realpath -m "${HOLDFAST_TESTBED:-/var/tmp/holdfast-testbed}")

# in_suite SUITE: prepares an apt of its own for another Debian suite; the system's apt is not touched.
in_suite() {
  local suite=$1 cache=$bed/cache/$1 mirror key=/usr/share/keyrings/debian-archive-keyring.gpg
  archives=$cache/archives
  mkdir -p "$cache/lists/partial" "$archives/partial"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 -E '/debian/?$') ||
    die "no Debian mirror in this machine's apt sources: cannot fetch packages of Debian $suite"
  echo "deb [arch=$(dpkg --print-architecture) signed-by=$key] $mirror $suite main" > "$cache/sources.list"
  : > "$cache/status"
  suite_options=(-qq -o Dir::Etc::sourcelist="$cache/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$cache/lists" -o Dir::State::status="$cache/status"
    -o Dir::Cache="$cache" -o Dir::Cache::archives="$archives" -o APT::Sandbox::User=root
    -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false) # nobody renews an old suite's date
  suite_get update
}
suite_get() { apt-get "${suite_options[@]}" "$@"; }

# closure PACKAGE...: the packages and all that they depend on.
closure() { suite_get -s install --no-install-recommends "$@" | awk '/^Inst/ { print $2 }' | sed 's/:.*//'; }

# unpack DIR PACKAGE...
unpack() {
  local dir=$1 package; shift
  (cd "$archives" && suite_get download "$@")
  for package; do dpkg-deb -x "$(ls -t "$archives/${package}"_*.deb | head -1)" "$dir"; done
}

# unpack_part DIR PACKAGE PATH...: some of a Python package's modules.
unpack_part() {
  local dir=$1 package=$2; shift 2
  dpkg-deb --fsys-tarfile "$(ls -t "$archives/${package}"_*.deb | head -1)" | tar -xC "$dir" "${@/#/./usr/lib/python3/dist-packages/}"
}

# make_postgres VERSION SUITE DIR: a server that runs from DIR with the C library that it was linked to.
make_postgres() {
  local version=$1 suite=$2 dir=$3 bin loader libraries file packages
  in_suite "$suite"
  # The server's shared libraries, without those of its optional languages and of package management.
  packages=$(closure "postgresql-$version" "postgresql-client-$version" |
    grep -E "^(postgresql(-client)?-$version|tzdata|lib.*)$" |
    grep -vE '^lib(llvm|z3|perl|.*-perl|debconf|pam-modules|semanage|sepol|db5|systemd-shared|mount|blkid|proc2|c-bin|c-l10n|text|.*-common|gconv)')
  # shellcheck disable=SC2086
  unpack "$dir" $packages
  bin=$dir/usr/lib/postgresql/$version/bin
  rm -rf "$dir"/usr/share/{doc,man,locale} "$bin"/../lib/{bitcode,llvmjit*}
  loader=$(find "$dir" -type f \( -name 'ld-linux*.so.*' -o -name 'ld-2.*.so' \) | head -1)
  libraries=$(dirname "$loader")
  for file in "$bin"/*; do
    [ "$(head -c4 "$file" | tr -d '\0')" = $'\x7fELF' ] || continue
    # DT_RPATH, unlike DT_RUNPATH, also serves what the libraries themselves need.
    patchelf --force-rpath --set-interpreter "$loader" --set-rpath "$libraries:$dir/usr/lib/$(basename "$libraries")" "$file"
  done
  "$bin/postgres" --version >&2
}

# make_pgbackrest DIR: a pgBackRest that runs from DIR with the C library that it was linked to.
make_pgbackrest() {
  local dir=$1 loader libraries packages
  in_suite sid
  packages=$(closure pgbackrest | grep -E '^(pgbackrest|lib.*)$' | grep -vE '^lib(perl|.*-perl|debconf|pam-modules|semanage|sepol|db5|systemd-shared|mount|blkid|proc2|text|.*-common|gconv)')
  # shellcheck disable=SC2086
  unpack "$dir" $packages
  loader=$(find "$dir" -type f -name 'ld-linux*.so.*' | head -1)
  libraries=$(dirname "$loader")
  patchelf --force-rpath --set-interpreter "$loader" --set-rpath "$libraries:$dir/usr/lib/$(basename "$libraries")" "$dir/usr/bin/pgbackrest"
  "$dir/usr/bin/pgbackrest" version >&2
}

# make_judge DIR: Barman with the clients of PostgreSQL 18, and moto, which plays EC2, in a tree to chroot into.
make_judge() {
  local dir=$1 packages
  in_suite sid
  packages=$(closure base-files bash coreutils barman barman-cli barman-cli-cloud python3-boto3 python3-lz4 \
    python3-zstandard python3-snappy python3-moto python3-flask python3-flask-cors python3-antlr4 python3-isodate \
    python3-typing-extensions rsync tar gzip lz4 zstd openssh-client gpg gpg-agent postgresql-client-18)
  # shellcheck disable=SC2086
  unpack "$dir" $packages
  # What Barman's cloud tools need of Azure's client, which would come with 470 MB of others.
  (cd "$archives" && suite_get download python3-azure python3-azure-storage)
  unpack_part "$dir" python3-azure azure/__init__.py azure/core
  unpack_part "$dir" python3-azure-storage azure/storage/__init__.py azure/storage/blob
  mkdir -p "$dir"/{proc,dev,tmp,run,etc,var/tmp}
  chmod 1777 "$dir/tmp" "$dir/var/tmp"
  getent passwd root postgres nobody > "$dir/etc/passwd"
  getent group > "$dir/etc/group"
  echo '127.0.0.1 localhost' > "$dir/etc/hosts"
  ln -s bash "$dir/usr/bin/sh"   # Barman's restore runs its commands in sh
  rm -rf "$dir"/usr/share/{doc,man,locale}
  say "Barman $(chroot "$dir" /usr/bin/barman --version | head -1)"
}

# make_stores DIR: servers of object stores, of the versions that .ci/stores pins; what they share with the embedded
# engine has its versions, so that it is compiled once for both.
make_stores() {
  go build -C stores -trimpath -ldflags=-s -o "$1/versitygw" github.com/versity/versitygw/cmd/versitygw
  go build -C stores -trimpath -ldflags=-s -o "$1/fake-gcs-server" github.com/fsouza/fake-gcs-server
  "$1/versitygw" --version >&2
}

# make_azurite DIR: an Azure Blob Storage. npm knows where packages come from, by its default or this machine's settings.
make_azurite() {
  cp azurite/package.json azurite/package-lock.json "$1/"
  npm ci --prefix "$1" --cache "$1/cache" --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  rm -rf "$1/cache"
}

# complete NAME RECIPE MAKE ARG...: runs MAKE ARG... DIR once; a higher RECIPE has every machine run it anew. The
# stamp comes last, so that a directory without it is the remains of an interrupted run; DIR is final from the
# start, because patchelf writes it into programs.
complete() {
  local name=$1 recipe=$2 dir=$bed/$1; shift 2
  if [ "$(cat "$dir.complete" 2>/dev/null)" = "$recipe" ]; then return; fi
  [ "$(id -u)" = 0 ] || die "the testbed lacks $name: run 'make testbed' as root, then try again"
  say "building $dir"
  rm -rf "$dir.complete" "$dir"
  mkdir -p "$dir"
  "$@" "$dir"
  rm -rf "$bed/cache"
  echo "$recipe" > "$dir.complete.new"
  mv "$dir.complete.new" "$dir.complete"
}

need_postgres 15
need rsync rsync "copies files in backups of method rsync"
need patchelf patchelf "lets PostgreSQL run from the testbed's directory"
need_sshd
need mkfs.xfs xfsprogs "a test restores onto a file system that can clone files"
need mkfs.btrfs btrfs-progs "makes the snapshots of backup_method = snapshot"
need gpg-agent gnupg "encrypts backups and WAL"
need node nodejs "runs Azurite, which stands in for Azure Blob Storage"
need npm npm "unpacks Azurite"
[ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates.crt ca-certificates "npm knows the registry by them"
need ip iproute2 "a test of rsync over ssh cuts a network of its own"
mkdir -p "$bed" 2>/dev/null || die "cannot create $bed: choose another place with HOLDFAST_TESTBED"
if [ -w "$bed" ]; then exec 9>"$bed/lock"; flock 9; fi
complete pg13 1 make_postgres 13 bullseye
complete pg17 1 make_postgres 17 trixie
complete pg18 2 make_postgres 18 sid
complete judge 6 make_judge
complete azurite 1 make_azurite
complete stores 2 make_stores
if [ "${1:-}" = rivals ]; then complete pgbackrest 1 make_pgbackrest; fi
