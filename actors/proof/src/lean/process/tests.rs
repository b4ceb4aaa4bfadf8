//! Ordinary programs in Lean's place, behaving badly.

use super::*;

fn limits() -> Limits {
    Limits {
        quiet: Duration::from_secs(20),
        total: Duration::from_secs(20),
        memory_bytes: 1 << 30,
        output_bytes: 1 << 16,
    }
}

fn is_enclosed() -> bool {
    can_enclose(Path::new("/bin/true"))
}

fn shell(script: &str, limits: &Limits, scratch: Option<&Path>) -> Finished {
    let sandbox = scratch.map(|scratch| Sandbox::new(vec!["/bin".into(), "/usr/bin".into()], scratch));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("OUT", scratch.unwrap_or(Path::new("/nowhere")));
    run(&mut command, limits, &Walls { sandbox, is_enclosed: is_enclosed() }).unwrap()
}

fn skip(what: &str) {
    io::Write::write_all(&mut io::stderr(), format!("SKIP {what}\n").as_bytes()).unwrap();
}

/// How many processes have `word` among their arguments.
fn n_alive(word: &str) -> usize {
    let has_word = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(has_word).count()
}

/// Waits until no process has `word` among its arguments.
fn assert_gone(word: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while n_alive(word) > 0 {
        assert!(Instant::now() < deadline, "{} of `{word}` outlived their process", n_alive(word));
        std::thread::yield_now();
    }
}

#[test]
fn output_and_status_come_back_whole() {
    let finished = shell("echo out; echo err >&2; read line; exit 3", &limits(), None);
    assert_eq!(finished.end, End::Exited(3));
    assert_eq!((finished.stdout.as_slice(), finished.stderr.as_str()), (b"out\n".as_slice(), "err\n"));
    assert!(finished.peak_rss_bytes > 100_000 && finished.wall > Duration::ZERO);
    assert_eq!(shell("kill -SEGV $$", &limits(), None).end, End::Signalled(libc::SIGSEGV));
}

#[test]
fn what_a_killed_process_cost_is_known() {
    let limits = Limits { total: Duration::from_millis(600), ..limits() };
    let finished = shell("while :; do :; done", &limits, None);
    assert_eq!(finished.end, End::TimedOut);
    assert!(finished.cpu > Duration::from_millis(50) && finished.peak_rss_bytes > 100_000, "{finished:?}");
}

#[test]
fn a_silent_process_is_killed_with_its_children() {
    let short = Limits { quiet: Duration::from_millis(300), ..limits() };
    let finished = shell("sleep 1000.51 & echo started; wait", &short, None);
    assert_eq!((finished.end, finished.stdout.as_slice()), (End::TimedOut, b"started\n".as_slice()));
    assert_gone("1000.51");
}

#[test]
fn what_leaves_its_process_group_dies_all_the_same() {
    if !is_enclosed() {
        return skip("setsid: this system lets nobody make user namespaces");
    }
    // the group is left, the parent is left, and the pipes are closed
    let script = "setsid sh -c 'sleep 1000.52 </dev/null >/dev/null 2>&1 & sleep 1000.52' </dev/null >/dev/null 2>&1 & \
                  while ! grep -qs 1000.52 /proc/[0-9]*/cmdline; do :; done; echo left";
    let finished = shell(script, &limits(), None);
    assert_eq!(
        (finished.end, finished.stdout.as_slice()),
        (End::Exited(0), b"left\n".as_slice()),
        "{}",
        finished.stderr
    );
    assert_gone("1000.52");
}

#[test]
fn a_fork_bomb_is_held_and_killed() {
    if !is_enclosed() {
        return skip("fork bomb: this system lets nobody make user namespaces");
    }
    // rlimits do not bind root: there it is the ids of the namespace, and on older kernels the count
    let script = "i=0; while [ $i -lt 10000 ]; do sleep 1000.53 & i=$((i+1)); done; wait";
    let finished = shell(script, &limits(), None);
    assert_ne!(finished.end, End::Exited(0), "it was let do all of it");
    assert_gone("1000.53");
}

#[test]
fn a_process_cannot_kill_those_above_it() {
    if !is_enclosed() {
        return skip("kill: this system lets nobody make user namespaces");
    }
    let finished = shell("kill -9 $PPID; kill -9 1; kill -TERM $PPID; echo still here", &limits(), None);
    assert_eq!((finished.end, finished.stdout.as_slice()), (End::Exited(0), b"still here\n".as_slice()));
    let own = std::process::id();
    let finished = shell(&format!("kill -9 {own} || echo none"), &limits(), None);
    assert_eq!(finished.stdout, b"none\n");
    let listed = shell("ls /proc | grep -c '^[0-9]'", &limits(), None).stdout;
    let n: usize = String::from_utf8(listed).unwrap().trim().parse().unwrap();
    // the first, the shell, and the two that it runs
    assert!((2..=4).contains(&n), "{n} processes are in sight");
}

#[test]
fn what_runs_dies_with_a_process_that_is_killed() {
    const NAME: &str = "lean::process::tests::what_runs_dies_with_a_process_that_is_killed";
    if std::env::var_os("TRACKER_TEST_KILLED").is_some() {
        // the process that will be killed: this test once more
        shell("sleep 1000.56; sleep 1000.56", &limits(), None);
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME]).env("TRACKER_TEST_KILLED", "1").stdout(Stdio::null()).stderr(Stdio::null());
    let mut doomed = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    while n_alive("1000.56") == 0 {
        assert!(Instant::now() < deadline, "it never ran");
        std::thread::yield_now();
    }
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    assert_gone("1000.56");
}

#[test]
fn a_child_that_keeps_the_pipe_open_does_not_keep_us() {
    let finished = shell("sleep 1000.54 & echo done", &limits(), None);
    assert_eq!(finished.end, End::Exited(0));
    assert_eq!(finished.stdout, b"done\n");
    assert!(finished.wall < Duration::from_secs(15));
    assert_gone("1000.54");
}

#[test]
fn printing_without_end_is_stopped() {
    let finished = shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", &limits(), None);
    assert_eq!(finished.end, End::TooMuchOutput);
    assert_eq!(finished.stdout.len(), 1 << 16);
    let short = Limits { quiet: Duration::from_millis(300), ..limits() };
    let finished = shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2; done", &short, None);
    assert_eq!((finished.end, finished.stderr.len()), (End::TimedOut, 64 << 10));
}

#[test]
fn memory_and_files_are_limited() {
    let finished = shell("head -c 100000000000 /dev/zero | tail -c 99000000000 | wc -c", &limits(), None);
    assert_ne!(finished.stdout, b"99000000000\n", "the process had more memory than allowed");
    let folder = tempfile::tempdir().unwrap();
    let script = format!("head -c 100000000 /dev/zero > {}/big; exit 0", folder.path().display());
    shell(&script, &limits(), None);
    assert!(std::fs::metadata(folder.path().join("big")).unwrap().len() <= FILE_BYTES);
}

#[test]
fn memory_spread_over_many_processes_is_limited_too() {
    // each stays below the limit of the kernel; together they would hold 20 GB
    let one = "(head -c 400000000 /dev/zero; sleep 1000.55) | tail -c 400000000 &";
    let script = format!("i=0; while [ $i -lt 50 ]; do {one} i=$((i+1)); done; wait");
    let finished = shell(&script, &Limits { memory_bytes: 512 << 20, ..limits() }, None);
    assert_eq!(finished.end, End::TooMuchMemory);
    assert_gone("1000.55");
}

#[test]
fn the_sandbox_keeps_a_process_from_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(Vec::new(), folder.path());
    if sandbox.strength() == super::super::sandbox::Strength::Absent {
        return skip("sandbox: this kernel has no Landlock");
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let script = format!(
        "cat /etc/passwd; cat {0}/secret; echo x > {0}/made; ls {0}; echo inside > $OUT/made; cat $OUT/made; \
         ln $OUT/made {0}/linked; ln -s {0}/secret $OUT/link; cat $OUT/link; echo 1 > /proc/self/oom_score_adj || echo no",
        outside.path().display()
    );
    let finished = shell(&script, &limits(), Some(folder.path()));
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "inside\nno\n", "{}", finished.stderr);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn nothing_connects_out() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = || Some(Sandbox::new(vec!["/".into()], folder.path()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let script = format!(
        "echo hello > /dev/tcp/{} && echo connected",
        listener.local_addr().unwrap().to_string().replace(':', "/")
    );
    let reached = |walls: &Walls| {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", &script]);
        let finished = run(&mut command, &limits(), walls).unwrap();
        let is_seen = listener.accept().is_ok();
        assert_eq!(finished.stdout == b"connected\n", is_seen);
        is_seen
    };
    if !reached(&Walls::default()) {
        return skip("network: no bash with /dev/tcp");
    }
    // Landlock does it by itself since Linux 6.7, namespaces always
    assert!(!reached(&Walls { sandbox: sandbox(), is_enclosed: false }), "a sandboxed process connected");
    if is_enclosed() {
        assert!(!reached(&Walls { sandbox: None, is_enclosed: true }), "an enclosed process connected");
    }
}
