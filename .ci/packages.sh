# shellcheck shell=bash
# Sourced by scripts that need something which a bare Debian does not have.

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND PACKAGE WHY: installs PACKAGE unless COMMAND (a name, or a path) is there.
need() {
  local command=$1 package=$2 why=$3
  if command -v "$command" >/dev/null; then return; fi
  [ "$(id -u)" = 0 ] || die "$command is missing ($why): run 'apt-get install $package' as root, then try again"
  say "installing the Debian package $package: $why"
  install_package "$package" || die "apt-get could not install $package"
}

# install_package PACKAGE: asks nothing, waits for another apt-get, and renews the package lists if they do not do.
install_package() {
  command -v apt-get >/dev/null || die "apt-get is missing: these scripts know only Debian and its relatives"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  "${apt[@]}" install -y --no-install-recommends "$1" >/dev/null 2>&1 ||
    { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$1" >/dev/null; }
}

# need_postgres VERSION: Debian's own server, without the cluster that its package starts by default.
need_postgres() {
  local conf=/etc/postgresql-common/createcluster.conf
  if [ -x "/usr/lib/postgresql/$1/bin/initdb" ]; then return; fi
  need pg_lsclusters postgresql-common "its setting create_main_cluster keeps postgresql-$1 from starting a server"
  if [ "$(id -u)" = 0 ] && ! grep -q '^create_main_cluster *= *false' "$conf"; then
    echo 'create_main_cluster = false' >> "$conf"
  fi
  need "/usr/lib/postgresql/$1/bin/initdb" "postgresql-$1" "the PostgreSQL $1 that tests back up"
}

# need_sshd: the program, without the daemon that its package starts by default.
need_sshd() {
  if [ -x /usr/sbin/sshd ]; then return; fi
  if [ "$(id -u)" = 0 ]; then
    mkdir -p /etc/ssh
    touch /etc/ssh/sshd_not_to_be_run
  fi
  need /usr/sbin/sshd openssh-server "tests of rsync over ssh log in to one of their own"
}
