#!/usr/bin/env bash
# Installs the Debian 12 packages that are missing, and nothing else.
#   bash server/install-dependencies.sh build    what building and running numberd needs
#   bash server/install-dependencies.sh test     and what its tests need
#   bash server/install-dependencies.sh package  what building and trying the Debian package needs
set -euo pipefail

packages=(gcc cmake ninja-build pkg-config curl libc6-dev libevent-dev libjemalloc-dev libxxhash-dev libhiredis-dev
    libjansson-dev libinih-dev libcsv-dev libzstd-dev zlib1g-dev libsodium-dev libssl-dev libsystemd-dev libcurl4-openssl-dev libcmocka-dev libjs-chart.js)
case "${1:-build}" in
build) ;;
test) packages+=(git faketime python3 python3-phonenumbers redis-server redis-tools memcached libck-dev prometheus clang clang-format clang-tidy cppcheck llvm
    libclang-rt-14-dev util-linux strace spin g++ libboost1.81-dev
    openssl haproxy iproute2 systemd tshark chromium chromium-driver python3-selenium)
    # The tests of the other processor, run by an emulator (tests/arm64.sh); one library of that architecture.
    [ "$(dpkg --print-architecture)" = arm64 ] ||
        packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libcmocka-dev:arm64) ;;
package) packages+=(scdoc lintian dpkg-dev debootstrap procps) ;;
*)
    echo "usage: $0 build|test|package" >&2
    exit 64
    ;;
esac

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "packages: all there"
    exit 0
fi
echo "packages: installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "$0: run as root, or install sudo, or install yourself: ${missing[*]}" >&2; exit 77; }
    as_root=(sudo)
fi
if [[ " ${missing[*]} " == *:arm64* ]] && ! dpkg --print-foreign-architectures | grep -qx arm64; then
    "${as_root[@]}" dpkg --add-architecture arm64
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "$0: apt-get failed; the lines above say why" >&2
    exit 69
fi
