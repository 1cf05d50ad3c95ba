#!/usr/bin/env bash
# need.sh THING: installs what a make target cannot do without.
set -euo pipefail
. "$(dirname "$0")/packages.sh"
case ${1:-} in
make) need make make "runs the targets of the Makefile" ;;
gcc)
  need gcc gcc "the race detector is linked by a C compiler"
  [ -e /usr/include/stdlib.h ] || need stdlib.h libc6-dev "the race detector's C headers" ;;
libzstd)
  [ "${CGO_ENABLED:-1}" = 0 ] && exit
  need gcc gcc "libzstd is called through cgo; with CGO_ENABLED=0 zstd is written in Go, without reuse of segments"
  [ -e /usr/include/stdlib.h ] || need stdlib.h libc6-dev "cgo's C headers"
  [ -e /usr/include/zstd.h ] || need zstd.h libzstd-dev "compresses backup volumes; it is linked into the programs" ;;
chromium)
  need chromium chromium "the manual's tests walk through the Temporal UI in it"
  [ -d /usr/share/fonts/truetype ] || need fonts fonts-dejavu-core "pictures of the Temporal UI have letters" ;;
sshd) need_sshd ;;
*) die "need.sh: give make, gcc, libzstd, chromium or sshd" ;;
esac
