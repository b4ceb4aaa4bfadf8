//! One foreign process from start to end: limited, alone in its process group, its output capped, killed whole.
//!
//! Invariants: `run` returns within the limits, or some times later on a machine that has no time for the process,
//! whatever that does; when it returns, the group is dead and reaped, and so is all that it started, where there are
//! namespaces ([`enclosure`]). Where there are none, a process that leaves its group (`setsid`) is still held by the
//! sandbox and the limits, which it inherits.
//!
//! Limits of the kernel hold for each process; what all of them use together is looked at a few times a second.

use std::{
    ffi::CString,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{
        Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, pidfd_open, setrlimit,
    },
};

use super::{enclosure, sandbox::Sandbox, tree};

/// What a process may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Time without a byte of output after which it is killed. What waits for a processor all the while gets more, until
    /// it has computed for so long or [`PATIENCE`] is at its end: how busy a machine is says nothing of a proof.
    pub(super) quiet: Duration,
    /// Time after which it is killed in any case, counted in the same way.
    pub(super) total: Duration,
    /// Address space, mapped files included. Lean's own `-M` is not used: Lean 4.35 hung once it was reached.
    pub(super) memory_bytes: u64,
    /// Output read before it is killed.
    pub(super) output_bytes: usize,
}

/// What stands between a process and the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Walls {
    /// What it may touch; `None` where the kernel has no Landlock.
    pub(super) sandbox: Option<Sandbox>,
    /// Whether it has namespaces of its own.
    pub(super) is_enclosed: bool,
}

/// Largest file a process may write.
const FILE_BYTES: u64 = 64 << 20;
/// Processes and threads at once: of one Lean and all it starts.
const PROCESSES: u64 = 512;
/// The same for all of a user's where the kernel counts no other way; no limit for root.
const USER_PROCESSES: u64 = 8192;
/// How often it is looked at what a process and all it started use together.
const GLANCE: Duration = Duration::from_millis(200);

/// How many times longer than its time a process may be at it that gets no processor.
const PATIENCE: u32 = 8;

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
    /// It and what it started held more memory than allowed.
    TooMuchMemory,
    TooManyProcesses,
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

/// Whether this system lets us make namespaces: tried on a program that, asked for its version, ends well.
pub(super) fn can_enclose(program: &Path) -> bool {
    let moment = Duration::from_mins(1);
    let limits = Limits { quiet: moment, total: moment, memory_bytes: u64::MAX, output_bytes: 1 << 16 };
    let tried = run(Command::new(program).arg("--version"), &limits, &Walls { sandbox: None, is_enclosed: true });
    matches!(tried, Ok(Finished { end: End::Exited(0), .. }))
}

/// Runs `command` to its end.
pub(super) fn run(command: &mut Command, limits: &Limits, walls: &Walls) -> io::Result<Finished> {
    let start = Instant::now();
    let (mut reporter, report) = io::pipe()?;
    fcntl_setfl(&reporter, OFlags::NONBLOCK)?;
    let own_rss = tree::own_rss_bytes();
    let mut child = spawn(command, limits, walls, report.into())?;
    let pid = Pid::from_child(&child);
    // below the keeper and the first process of the namespace, which hold what this process holds
    let depth = if walls.is_enclosed { 2 } else { 0 };
    let reports = walls.is_enclosed.then(|| reporter.as_fd());
    let seen = watch(&mut child, limits, reports, depth);
    let wall = start.elapsed();
    // whatever happened: all that it started goes; it may be gone already
    if walls.is_enclosed {
        // the keeper kills the namespace and waits for its end
        ignore_gone(kill_process(pid, Signal::TERM))?;
    } else {
        ignore_gone(kill_process_group(pid, Signal::KILL))?;
    }
    let (mut status, usage) = reap(&child)?;
    let Watched { killed, mut stdout, mut stderr, usage: last } = seen?;
    drain(&mut child, &mut stdout, &mut stderr, limits);
    if walls.is_enclosed {
        let mut bytes = [0; size_of::<i32>()];
        // no report: it was killed before it ended
        status = reporter.read_exact(&mut bytes).map_or(libc::SIGKILL, |()| i32::from_ne_bytes(bytes));
    }
    let exited = if libc::WIFEXITED(status) {
        End::Exited(libc::WEXITSTATUS(status))
    } else {
        End::Signalled(libc::WTERMSIG(status))
    };
    let seconds = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    // Linux counts in KiB, and counts what the child had of this process before it became another program
    let peak = usage.ru_maxrss.unsigned_abs() * 1024;
    Ok(Finished {
        end: killed.unwrap_or(exited),
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        wall,
        // what is killed with its namespace is waited for by nobody
        cpu: (seconds(usage.ru_utime) + seconds(usage.ru_stime)).max(last.cpu),
        peak_rss_bytes: if peak > own_rss || last.peak_bytes == 0 { peak } else { last.peak_bytes },
    })
}

/// A process that is gone needs no killing.
fn ignore_gone(killed: rustix::io::Result<()>) -> io::Result<()> {
    killed.or_else(|error| if error == rustix::io::Errno::SRCH { Ok(()) } else { Err(error.into()) })
}

fn spawn(command: &mut Command, limits: &Limits, walls: &Walls, report: OwnedFd) -> io::Result<Child> {
    let mut ruleset = walls.sandbox.as_ref().map(Sandbox::ruleset).transpose()?;
    let is_enclosed = walls.is_enclosed;
    let cpu_secs = limits.total.as_secs().saturating_mul(8).max(1);
    let n_processes = if is_enclosed && enclosure::counts_processes_apart() { PROCESSES } else { USER_PROCESSES };
    let rlimits = [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, cpu_secs),
        (Resource::Fsize, FILE_BYTES),
        (Resource::Nproc, n_processes),
        (Resource::Core, 0),
    ];
    // nobody but root may ask for more than there is
    let rlimits = rlimits.map(|(resource, limit)| {
        let limit = getrlimit(resource).maximum.map_or(limit, |most| limit.min(most));
        (resource, Rlimit { current: Some(limit), maximum: Some(limit) })
    });
    let most_pids = enclosure::counts_ids_apart().then(|| CString::new(PROCESSES.to_string())).transpose()?;
    let confine = move || {
        if is_enclosed {
            enclosure::enter(report.as_raw_fd(), most_pids.as_deref())?;
        } else {
            enclosure::die_with_parent()?;
        }
        for (resource, limit) in rlimits {
            setrlimit(resource, limit)?;
        }
        match ruleset.take() {
            Some(ruleset) => {
                let ruleset = if is_enclosed { Sandbox::with_proc(ruleset)? } else { ruleset };
                ruleset.restrict_self().map(|_| ()).map_err(io::Error::other)
            }
            None => Ok(()),
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    #[expect(unsafe_code, reason = "limits and sandbox must be in force before the program's first instruction")]
    // SAFETY: the closure makes system calls only (unshare, fork, wait, setrlimit, prctl, landlock_restrict_self, close);
    // it takes no lock and allocates on failure alone, where glibc's allocator is usable after fork.
    unsafe {
        command.pre_exec(confine);
    }
    command.spawn()
}

/// What was seen of a process while it ran.
#[derive(Debug, Default)]
struct Watched {
    /// Why it must be killed; `None`: it has ended.
    killed: Option<End>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// What it used when last looked at.
    usage: tree::Usage,
}

/// Reads until the process has ended or must be killed. The foreign processes are `depth` below it. `reports` tells of the
/// program's end before its namespaces are taken down, which may take the kernel longer than the program took.
fn watch(child: &mut Child, limits: &Limits, reports: Option<BorrowedFd>, depth: usize) -> io::Result<Watched> {
    let start = Instant::now();
    let pid = Pid::from_child(child);
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    for pipe in pipes(child) {
        fcntl_setfl(pipe, OFlags::NONBLOCK)?;
    }
    let glance = || tree::usage(pid.as_raw_nonzero().get(), depth);
    let mut seen = Watched::default();
    let (mut last_heard, mut next_glance) = (start, start + GLANCE);
    let mut computed_before = Duration::ZERO;
    loop {
        let now = Instant::now();
        let (silent, elapsed) = (now - last_heard, now - start);
        let is_late = silent >= limits.quiet || elapsed >= limits.total;
        if now >= next_glance || is_late {
            seen.usage = glance();
            next_glance = Instant::now() + GLANCE;
        }
        let is_starved = seen.usage.is_busy
            && seen.usage.cpu.saturating_sub(computed_before) < limits.quiet
            && seen.usage.cpu < limits.total
            && silent < limits.quiet * PATIENCE
            && elapsed < limits.total * PATIENCE;
        seen.killed = if is_late && !is_starved {
            Some(End::TimedOut)
        } else if seen.usage.rss_bytes > limits.memory_bytes {
            Some(End::TooMuchMemory)
        } else if seen.usage.n_threads > PROCESSES {
            Some(End::TooManyProcesses)
        } else if seen.stdout.len() >= limits.output_bytes {
            Some(End::TooMuchOutput)
        } else {
            None
        };
        if seen.killed.is_some() {
            // the last chance to see what it cost
            seen.usage = glance();
            return Ok(seen);
        }
        let mut fds: Vec<BorrowedFd> = pipes(child).collect();
        let n_pipes = fds.len();
        fds.push(ended.as_fd());
        fds.extend(reports);
        let next =
            if is_late { next_glance } else { next_glance.min(last_heard + limits.quiet).min(start + limits.total) };
        if poll(&fds, n_pipes, next.saturating_duration_since(now))? {
            return Ok(seen);
        }
        let before = seen.stdout.len();
        drain(child, &mut seen.stdout, &mut seen.stderr, limits);
        if seen.stdout.len() > before {
            last_heard = Instant::now();
            computed_before = seen.usage.cpu;
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

/// Waits for any of `fds`; tells whether one from `first` on is ready.
fn poll(fds: &[BorrowedFd], first: usize, timeout: Duration) -> io::Result<bool> {
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
    Ok(entries[first..].iter().any(|entry| entry.revents != 0))
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
