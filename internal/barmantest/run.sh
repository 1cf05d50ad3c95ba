# Runs a command inside the judge's tree, in a mount namespace of its own, so that nothing stays mounted.
# Arguments: tree uid gid number-of-binds bind... command...
set -e
tree=$1 uid=$2 gid=$3 binds=$4
shift 4
mount --make-rprivate /
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
for scratch in tmp var/tmp run; do mount -t tmpfs -o mode=1777 scratch "$tree/$scratch"; done
for _ in $(seq "$binds"); do
  mkdir -p "$tree$1"
  mount --rbind "$1" "$tree$1"
  shift
done
exec chroot --userspec="$uid:$gid" "$tree" /usr/bin/env -i LC_ALL=C.UTF-8 HOME=/tmp \
  PATH=/usr/lib/postgresql/18/bin:/usr/bin:/bin "$@"
