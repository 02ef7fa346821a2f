#!/usr/bin/env bash
# The Debian package: built, looked at by lintian, and in a fresh Debian 12 (debootstrap) installed, used, upgraded, removed, purged.
#   tests/package.sh [--mirror URL]     as root; some minutes, and 700 MB in a temporary folder
set -euo pipefail
cd "$(dirname "$0")/.."
mirror=http://deb.debian.org/debian
case ${1:-} in
--mirror) mirror=${2:?"--mirror URL"} ;;
"") ;;
*) echo "usage: $0 [--mirror URL]" >&2; exit 64 ;;
esac
[ "$(id -u)" -eq 0 ] || { echo "$0: run as root: it makes a system of its own to install into" >&2; exit 77; }
work=$(mktemp -d /var/tmp/numberd-package-XXXXXX) guest=$work/guest passed=0 failed=0
trap 'umount -q "$guest/proc" 2>/dev/null || true; rm -rf "$work"' EXIT
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then passed=$((passed + 1)); echo "ok    $name"
    else failed=$((failed + 1)); echo "FAIL  $name"; tail -n 20 "$work/out"; fi
}
inside() { chroot "$guest" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
installed() { [ "$(inside dpkg-query -W -f '${Status} ${Version}' numberd)" = "install ok installed $1" ]; }
gone() { for path in "$@"; do [ ! -e "$guest$path" ] || { echo "$path is still there"; return 1; }; done; }
there() { for path in "$@"; do [ -e "$guest$path" ] || { echo "$path is not there"; return 1; }; done; }
# A server as the unit starts it, asked for a number, stopped in order.
serves() {
    chroot --userspec=numberd:numberd "$guest" numberd --config /etc/numberd/numberd.conf --data-dir /var/lib/numberd \
        --listen 127.0.0.1:0 --stats-listen 127.0.0.1:0 2>"$work/log" &
    local server=$! status=0 port
    for _ in $(seq 100); do ! grep -q "ready: " "$work/log" || break; sleep 0.1; done
    port=$(sed -nE 's/.*lookups on [0-9.]+:([0-9]+),.*/\1/p' "$work/log")
    inside numberctl register +447700900123 --account 1 --server "127.0.0.1:$port" &&
        inside numberctl lookup +447700900123 --server "127.0.0.1:$port" | grep -qx "+447700900123.registered" || status=1
    kill -TERM "$server"
    wait "$server" && [ "$status" -eq 0 ]
}
private() { [ "$(stat -c '%a %g' "$guest/etc/numberd")" = "750 $(inside getent group numberd | cut -d: -f3)" ]; }

bash server/install-dependencies.sh package
# As whoever publishes it would: with an address. Afterwards there is none again.
cmake --preset release -D NUMBERD_MAINTAINER="Who tries the package <package@debian.org>" >/dev/null
trap 'umount -q "$guest/proc" 2>/dev/null || true; rm -rf "$work"; cmake --preset release -U NUMBERD_MAINTAINER >/dev/null' EXIT
cmake --build --preset release --target numberd_package | tail -n 1
first=$(ls -t build/release/numberd_*.deb | head -n 1)
cp "$first" "$work/first.deb"
# The same once more, as the next version.
(cd build/release && cpack -G DEB -D CPACK_PACKAGE_VERSION=0.1.1 -D CPACK_PACKAGE_FILE_NAME=next -D CPACK_DEBIAN_FILE_NAME=next.deb \
    -B "$work" >/dev/null)
check "lintian" lintian --fail-on error "$work/first.deb"
check "debootstrap" debootstrap --variant=minbase bookworm "$guest" "$mirror"
mount -t proc proc "$guest/proc"
cp "$work/first.deb" "$work/next.deb" "$guest/tmp/"
inside apt-get update >/dev/null
check "install" inside apt-get install -y --no-install-recommends /tmp/first.deb
check "is installed" installed 0.1.0
check "the user" inside getent passwd numberd
check "the configuration is good" inside numberd --check-config --config /etc/numberd/numberd.conf
check "its files" there /usr/lib/systemd/system/numberd.service /usr/lib/systemd/system/numberd.socket /usr/share/man/man8/numberd.8.gz \
    /usr/share/man/man5/numberd.conf.5.gz /usr/share/man/man1/numberctl.1.gz /usr/share/man/man1/numberload.1.gz \
    /usr/share/bash-completion/completions/numberctl /usr/share/doc/numberd/server/PROTOCOL.md
check "nobody else reads the configuration" private
inside install -d -o numberd -g numberd -m 700 /var/lib/numberd
check "it serves" serves
echo "cache-seconds = 77" >>"$guest/etc/numberd/numberd.conf"
check "upgrade" inside apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold /tmp/next.deb
check "is upgraded" installed 0.1.1
check "the changed configuration is kept" grep -qx "cache-seconds = 77" "$guest/etc/numberd/numberd.conf"
check "it serves what it had" serves
check "remove" inside apt-get remove -y numberd
check "programs are gone, data and configuration are not" sh -c "[ ! -e $guest/usr/bin/numberd ] && [ -e $guest/etc/numberd/numberd.conf ] && [ -d $guest/var/lib/numberd/journal ]"
check "purge" inside apt-get purge -y numberd
check "the configuration is gone, too" gone /etc/numberd/numberd.conf /usr/lib/systemd/system/numberd.service
check "what was registered is not" there /var/lib/numberd/journal
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
