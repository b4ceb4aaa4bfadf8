//! One foreign process from start to end: limited, alone in its process group, its output capped, killed whole.
//!
//! Invariants: `run` returns within the limits whatever the process does; when it returns, the group is dead and
//! reaped. A process that leaves its group (`setsid`) is still held by the sandbox and the limits, which it inherits.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, setrlimit},
};

use super::sandbox::Sandbox;

/// What a process may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Time without a byte of output after which it is killed.
    pub(super) quiet: Duration,
    /// Time after which it is killed in any case.
    pub(super) total: Duration,
    /// Address space, mapped files included. Lean's own `-M` is not used: Lean 4.35 hung once it was reached.
    pub(super) memory_bytes: u64,
    /// Output read before it is killed.
    pub(super) output_bytes: usize,
}

/// Largest file a process may write.
const FILE_BYTES: u64 = 64 << 20;
/// Processes and threads its user may have; no limit for root.
const PROCESSES: u64 = 8192;

/// Processes and threads that one Lean may have at once.
pub(super) const fn max_processes() -> u64 {
    PROCESSES
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    Signalled(i32),
    TimedOut,
    TooMuchOutput,
}

/// What a process left behind.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) end: End,
    pub(super) stdout: Vec<u8>,
    /// The first 64 KiB.
    pub(super) stderr: String,
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
    pub(super) peak_rss_bytes: u64,
}

/// Runs `command` to its end.
pub(super) fn run(command: &mut Command, limits: &Limits, sandbox: Option<&Sandbox>) -> io::Result<Finished> {
    let start = Instant::now();
    let mut child = spawn(command, limits, sandbox)?;
    let (pid, end_and_output) = (Pid::from_child(&child), watch(&mut child, limits, start));
    // whatever happened: the whole group goes; it may be gone already
    kill_process_group(pid, Signal::KILL)
        .or_else(|error| if error == rustix::io::Errno::SRCH { Ok(()) } else { Err(error) })?;
    let (status, usage) = reap(&child)?;
    let (killed, mut stdout, mut stderr) = end_and_output?;
    drain(&mut child, &mut stdout, &mut stderr, limits);
    let exited = if libc::WIFEXITED(status) {
        End::Exited(libc::WEXITSTATUS(status))
    } else {
        End::Signalled(libc::WTERMSIG(status))
    };
    let seconds = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Ok(Finished {
        end: killed.unwrap_or(exited),
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        wall: start.elapsed(),
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        // Linux counts in KiB
        peak_rss_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
    })
}

fn spawn(command: &mut Command, limits: &Limits, sandbox: Option<&Sandbox>) -> io::Result<Child> {
    let mut ruleset = sandbox.map(Sandbox::ruleset).transpose()?;
    let cpu_secs = limits.total.as_secs().saturating_mul(8).max(1);
    let rlimits = [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, cpu_secs),
        (Resource::Fsize, FILE_BYTES),
        (Resource::Nproc, PROCESSES),
        (Resource::Core, 0),
    ];
    let confine = move || {
        for (resource, limit) in rlimits {
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        match ruleset.take() {
            Some(ruleset) => ruleset.restrict_self().map(|_| ()).map_err(io::Error::other),
            None => Ok(()),
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    #[expect(unsafe_code, reason = "limits and sandbox must be in force before the program's first instruction")]
    // SAFETY: the closure makes system calls only (setrlimit, prctl, landlock_restrict_self, close); it takes no lock
    // and allocates on failure alone, where glibc's allocator is usable after fork.
    unsafe {
        command.pre_exec(confine);
    }
    command.spawn()
}

type Watched = (Option<End>, Vec<u8>, Vec<u8>);

/// Reads until the process has ended or must be killed.
fn watch(child: &mut Child, limits: &Limits, start: Instant) -> io::Result<Watched> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for pipe in pipes(child) {
        fcntl_setfl(pipe, OFlags::NONBLOCK)?;
    }
    let mut last_heard = start;
    loop {
        let now = Instant::now();
        let deadline = (last_heard + limits.quiet).min(start + limits.total);
        if now >= deadline {
            return Ok((Some(End::TimedOut), stdout, stderr));
        }
        let mut fds: Vec<BorrowedFd> = vec![ended.as_fd()];
        fds.extend(pipes(child));
        if poll(&fds, deadline - now)? {
            return Ok((None, stdout, stderr));
        }
        let before = stdout.len();
        drain(child, &mut stdout, &mut stderr, limits);
        if stdout.len() > before {
            last_heard = Instant::now();
        }
        if stdout.len() >= limits.output_bytes {
            return Ok((Some(End::TooMuchOutput), stdout, stderr));
        }
    }
}

fn pipes(child: &Child) -> impl Iterator<Item = BorrowedFd<'_>> {
    let stdout = child.stdout.as_ref().map(std::os::fd::AsFd::as_fd);
    stdout.into_iter().chain(child.stderr.as_ref().map(std::os::fd::AsFd::as_fd))
}

/// Reads what there is, up to the limits; a pipe at its end is closed, so that it no longer wakes anyone.
fn drain(child: &mut Child, stdout: &mut Vec<u8>, stderr: &mut Vec<u8>, limits: &Limits) {
    if child.stdout.as_mut().is_some_and(|pipe| !drain_one(pipe, stdout, limits.output_bytes)) {
        child.stdout = None;
    }
    if child.stderr.as_mut().is_some_and(|pipe| !drain_one(pipe, stderr, 64 << 10)) {
        child.stderr = None;
    }
}

/// Reads what there is; false at the end of the pipe. What exceeds `limit` is read and dropped.
fn drain_one(pipe: &mut impl io::Read, kept: &mut Vec<u8>, limit: usize) -> bool {
    let mut buffer = [0; 16 << 10];
    let mut dropped = 0;
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => {
                let room = limit.saturating_sub(kept.len()).min(n);
                kept.extend_from_slice(&buffer[..room]);
                dropped += n - room;
                // a process that never stops writing must not keep us here
                if dropped > 1 << 20 {
                    return true;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// Waits for any of `fds`; tells whether the first is ready.
fn poll(fds: &[BorrowedFd], timeout: Duration) -> io::Result<bool> {
    let entry = |fd: &BorrowedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<libc::pollfd> = fds.iter().map(entry).collect();
    let millis = i32::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    #[expect(unsafe_code, reason = "rustix is built without its `event` feature, and the standard library has no poll")]
    // SAFETY: `entries` is a live array of `entries.len()` initialised entries, whose descriptors are borrowed.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
    }
    Ok(entries[0].revents != 0)
}

/// Waits for the process and takes its exit status and resource usage.
fn reap(child: &Child) -> io::Result<(i32, libc::rusage)> {
    let mut status = 0;
    let pid = Pid::from_child(child).as_raw_nonzero().get();
    loop {
        #[expect(unsafe_code, reason = "no safe wrapper gives the resource usage of one child")]
        // SAFETY: rusage is a plain C struct for which all zeroes is a value, and both pointers are to live locals.
        // The child has not been waited for, so its id is still its own; `Child` is not asked for its status later.
        let (result, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
        };
        if result == pid {
            return Ok((status, usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests;
