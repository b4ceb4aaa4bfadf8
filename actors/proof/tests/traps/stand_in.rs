//! A script in Lean's place.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// A program that answers like Lean, and misbehaves where a proof tells it to.
pub(crate) fn stand_in(folder: &Path) -> PathBuf {
    let script = r#"#!/bin/sh
case "$1" in
--print-prefix) echo /; exit ;;
--version) echo 'Lean (version 4.0.0, stand-in, commit 0, Release)'; exit ;;
esac
for file; do :; done
exec awk '
function say(severity, data) {
    printf "{\"severity\":\"%s\",\"pos\":{\"line\":%d,\"column\":0},\"data\":\"%s\"}\n", severity, NR, data
}
/SLOW/ { system("sleep 1") }
/HANG/ { fflush(); system("exec sleep 1000") }
/CRASH/ { fflush(); system("kill -SEGV $PPID") }
/MEMORY/ { print "out of memory" > "/dev/stderr"; exit 134 }
/FLOOD/ { while (1) say("information", "flood") }
/OBJECT/ { print "{\"message\": \"unknown environment\"}"; exit 0 }
/SILENT/ { exit 0 }
/HOLE/ { say("warning", "declaration uses `sorry`") }
/QUOTED/ { say("warning", "declaration uses '\''sorry'\''") }
/UNWARNED/ { axioms = "sorryAx" }
/NATIVE/ { axioms = "Lean.ofReduceBool, propext" }
/RENAMED/ { axioms = "t._native.native_decide.ax_1_1" }
/WRONG/ { say("error", "type mismatch") }
/HEARTBEATS/ { say("error", "(deterministic) timeout at `whnf`, maximum number of heartbeats (200000) has been reached") }
/SWAP/ { swapped = 1 }
swapped && /_use/ { say("error", "type mismatch") }
/^#print axioms/ {
    if (axioms) say("information", "'\''" $3 "'\'' depends on axioms: [" axioms "]")
    else say("information", "'\''" $3 "'\'' does not depend on any axioms")
    axioms = ""
    swapped = 0
}' "$file"
"#;
    let path = folder.join("lean");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
