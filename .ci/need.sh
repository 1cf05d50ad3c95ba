#!/usr/bin/env bash
# need.sh THING: installs what a make target cannot do without.
set -euo pipefail
. "$(dirname "$0")/packages.sh"
case ${1:-} in
make) need make make "runs the targets of the Makefile" ;;
gcc)
  need gcc gcc "the race detector is linked by a C compiler"
  [ -e /usr/include/stdlib.h ] || need stdlib.h libc6-dev "the race detector's C headers" ;;
chromium)
  need chromium chromium "the manual's tests walk through the Temporal UI in it"
  [ -d /usr/share/fonts/truetype ] || need fonts fonts-dejavu-core "pictures of the Temporal UI have letters" ;;
sshd) need_sshd ;;
*) die "need.sh: give make, gcc, chromium or sshd" ;;
esac
