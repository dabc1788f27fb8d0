#!/bin/sh
# Installs the Debian packages named as arguments. Needs root.
#
# Packages of servers start them on their default ports when installed. The policy file forbids
# that while we install, and is left alone when the machine has its own.
set -eu

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
apt-get install --yes --quiet --quiet --no-install-recommends "$@"
