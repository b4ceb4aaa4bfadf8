//! Ordinary programs in Lean's place, behaving badly.

use std::path::Path;

use super::*;

fn limits() -> Limits {
    Limits {
        quiet: Duration::from_secs(20),
        total: Duration::from_secs(20),
        memory_bytes: 1 << 30,
        output_bytes: 1 << 16,
    }
}

fn shell(script: &str, limits: &Limits, scratch: Option<&Path>) -> Finished {
    let sandbox = scratch.map(|scratch| Sandbox::new(vec!["/bin".into(), "/usr/bin".into()], scratch));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("OUT", scratch.unwrap_or(Path::new("/nowhere")));
    run(&mut command, limits, sandbox.as_ref()).unwrap()
}

#[test]
fn output_and_status_come_back_whole() {
    let finished = shell("echo out; echo err >&2; read line; exit 3", &limits(), None);
    assert_eq!(finished.end, End::Exited(3));
    assert_eq!((finished.stdout.as_slice(), finished.stderr.as_str()), (b"out\n".as_slice(), "err\n"));
    assert!(finished.peak_rss_bytes > 100_000 && finished.wall > Duration::ZERO);
}

#[test]
fn a_silent_process_is_killed_with_its_children() {
    let short = Limits { quiet: Duration::from_millis(300), ..limits() };
    let finished = shell("sleep 1000 & echo $!; wait", &short, None);
    assert_eq!(finished.end, End::TimedOut);
    let child: i32 = String::from_utf8(finished.stdout).unwrap().trim().parse().unwrap();
    let alive = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // a killed process may stay a zombie until its new parent looks
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive(child) {
        assert!(Instant::now() < deadline, "process {child} outlived its group");
        std::thread::yield_now();
    }
}

#[test]
fn a_child_that_keeps_the_pipe_open_does_not_keep_us() {
    let finished = shell("sleep 1000 & echo done", &limits(), None);
    assert_eq!(finished.end, End::Exited(0));
    assert_eq!(finished.stdout, b"done\n");
    assert!(finished.wall < Duration::from_secs(15));
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
    let finished = shell("head -c 3000000000 /dev/zero | tail -c 2900000000 | wc -c", &limits(), None);
    assert_ne!(finished.stdout, b"2900000000\n", "the process had more memory than allowed");
    let folder = tempfile::tempdir().unwrap();
    let script = format!("head -c 100000000 /dev/zero > {}/big; exit 0", folder.path().display());
    shell(&script, &limits(), None);
    assert!(std::fs::metadata(folder.path().join("big")).unwrap().len() <= FILE_BYTES);
}

#[test]
fn the_sandbox_keeps_a_process_from_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(Vec::new(), folder.path());
    if sandbox.strength() == super::super::sandbox::Strength::Absent {
        let skip = "SKIP sandbox: this kernel has no Landlock\n";
        io::Write::write_all(&mut io::stderr(), skip.as_bytes()).unwrap();
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let script = format!(
        "cat /etc/passwd; cat {0}/secret; echo x > {0}/made; ls {0}; echo inside > $OUT/made; cat $OUT/made",
        outside.path().display()
    );
    let finished = shell(&script, &limits(), Some(folder.path()));
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "inside\n", "{}", finished.stderr);
    assert!(!outside.path().join("made").exists());
}

#[test]
fn the_sandbox_forbids_connecting_out() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(vec!["/".into()], folder.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &format!("echo hello > /dev/tcp/127.0.0.1/{port} && echo connected")]);
    let connected = |finished: Finished| finished.stdout == b"connected\n";
    if !connected(run(&mut command, &limits(), None).unwrap()) {
        io::Write::write_all(&mut io::stderr(), b"SKIP sandbox network: no bash with /dev/tcp\n").unwrap();
        return;
    }
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &format!("echo hello > /dev/tcp/127.0.0.1/{port} && echo connected")]);
    let finished = run(&mut command, &limits(), Some(&sandbox)).unwrap();
    // Linux 6.7 and later
    assert!(!connected(finished), "a sandboxed process connected");
}
