#!/usr/bin/env bash
# Runs a command in a clone of HEAD inside another release of Debian or Ubuntu, with nothing installed but python3, make and git. As root.
#   scripts/try_distribution.sh trixie 'make build && make test'
#   TRY_DIR     where the systems are kept (default CACHE/distributions): the base is made once, what a command installs stays in SUITE/ until it is removed
#   TRY_MIRROR  the archive (default: debootstrap's own choice for the suite)
# The clone is /ithaca in there, built trees of earlier calls stay; the cache folder is the system's own, since its Python may be another.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
suite=${1:?a suite, such as trixie or noble}
command=${2:?a command to run in the clone}
[ "$(id -u)" -eq 0 ] || die "only root can make another system"
command -v debootstrap >/dev/null || die "no debootstrap: apt-get install debootstrap"
folder=${TRY_DIR:-$ITHACA_CACHE/distributions}
root=$folder/$suite
mkdir -p "$folder"
if [ ! -e "$root/ithaca" ]; then
  say "making $root (log: $folder/$suite.log)"
  rm -rf "$root"
  debootstrap --variant=minbase --include=python3,make,git,ca-certificates "$suite" "$root" ${TRY_MIRROR:+"$TRY_MIRROR"} >"$folder/$suite.log" 2>&1 ||
    die "debootstrap failed: $(tail -n 1 "$folder/$suite.log")"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp -L /etc/resolv.conf "$root/etc/"
  git clone -q "$ROOT" "$root/ithaca"
fi
git -C "$root/ithaca" fetch -q "$ROOT" HEAD
git -C "$root/ithaca" checkout -q --detach FETCH_HEAD

# Mounts in a namespace of their own go away with it. pip's and the proxy's settings are the only ones taken along.
mapfile -t kept < <(env | grep -E '^(PIP_|SSL_CERT|http_proxy|https_proxy|no_proxy)' | grep -v '^PIP_FIND_LINKS')
exec unshare --mount bash -c '
  root=$1 command=$2
  shift 2
  mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount -t sysfs sysfs "$root/sys" && mount -t tmpfs tmpfs "$root/dev/shm" || exit 1
  exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb "$@" \
    bash -c "cd /ithaca && $command"' _ "$root" "$command" "${kept[@]}"
