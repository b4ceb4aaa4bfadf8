//! Namespaces around one foreign process, so that all it starts dies with it, wherever it moves to.
//!
//! The program runs as an ordinary process of a process-id namespace. Above it stand two forks of ours, which run nothing
//! foreign: the *keeper*, a child of this process, and the *first* process of the namespace, whose end ends all others in
//! it. With it come a `/proc` that shows no other process, a network with nothing in it, and a user namespace in which
//! the program has no rights and no identity to change to. All of it works without privileges where the system lets users make user
//! namespaces; where it does not, processes go without.
//!
//! A kill of this process kills the keeper, and with it the rest.

use std::{ffi::CStr, io, os::fd::RawFd, ptr};

/// What [`enter`] asks of the system.
const NAMESPACES: i32 =
    libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;

/// Moves the calling process, a fresh fork that will run the program, into namespaces of its own. It returns in a
/// grandchild; the caller becomes the keeper and never returns. The wait status of the program goes to `report`, four
/// bytes in the machine's order.
///
/// The keeper kills the namespace when it gets `SIGTERM`. `most_pids`, in digits: how many ids the namespace has, and so how
/// many processes and threads, root's too; only for kernels that keep this apart for each ([`counts_ids_apart`]).
///
/// # Errors
/// Where the system refuses; whichever fork meets it is to say so and end.
#[expect(unsafe_code, reason = "processes are forked and waited for without an allocator")]
pub(super) fn enter(report: RawFd, most_pids: Option<&CStr>) -> io::Result<()> {
    // SAFETY: all of these are plain system calls on values of this frame, safe between fork and exec; each forked
    // branch either returns to the caller's exec or ends in `_exit`.
    unsafe {
        check(libc::unshare(NAMESPACES))?;
        die_with_parent()?;
        let first = check(libc::fork())?;
        if first != 0 {
            keep(first);
        }
        die_with_parent()?;
        mount_proc()?;
        if let Some(most) = most_pids {
            // where it fails there are the other limits
            let file = libc::open(c"/proc/sys/kernel/pid_max".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            libc::write(file, most.as_ptr().cast(), most.count_bytes());
            libc::close(file);
        }
        let program = check(libc::fork())?;
        if program != 0 {
            reap_all(program, report);
        }
    }
    Ok(())
}

/// Whether the kernel keeps apart how many ids each namespace has: since Linux 6.14. Before, they were the machine's.
pub(super) fn counts_ids_apart() -> bool {
    release() >= (6, 14)
}

/// Whether the kernel counts the processes of a user namespace by themselves against its limit: since Linux 5.14. Root's
/// are never held against it.
pub(super) fn counts_processes_apart() -> bool {
    release() >= (5, 14)
}

/// Version of the kernel, as far as features go by it.
fn release() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Gives the namespace a `/proc` of its own: programs look themselves up there by their id (Lean does).
#[expect(unsafe_code, reason = "rustix is built without its `mount` feature")]
unsafe fn mount_proc() -> io::Result<()> {
    let none = ptr::null::<libc::c_char>();
    // SAFETY: all pointers are null or to text that ends in a zero byte.
    unsafe {
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, ptr::null()))?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        check(libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), flags, ptr::null())).map(|_| ())
    }
}

/// The calling process is killed when the thread that started it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix is built without its `thread` feature")]
    // SAFETY: a system call without pointers.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    check(result).map(|_| ())
}

/// The keeper: waits for the first process, kills it when told to, holds no file open.
#[expect(unsafe_code, reason = "a fork has no allocator and no runtime")]
unsafe fn keep(first: i32) -> ! {
    // SAFETY: system calls on values of this frame; nothing is allocated, and the process ends here.
    unsafe {
        close_from(0);
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGTERM);
        libc::sigaddset(&raw mut signals, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const signals, ptr::null_mut());
        loop {
            if libc::waitpid(first, ptr::null_mut(), libc::WNOHANG) != 0 {
                libc::_exit(0);
            }
            if libc::sigwaitinfo(&raw const signals, ptr::null_mut()) == libc::SIGTERM {
                libc::kill(first, libc::SIGKILL);
            }
        }
    }
}

/// The first process of the namespace: reaps whatever is left to it until the program has ended, reports its status and
/// ends, and all that still lives in the namespace with it.
#[expect(unsafe_code, reason = "a fork has no allocator and no runtime")]
unsafe fn reap_all(program: i32, report: RawFd) -> ! {
    // SAFETY: as in `keep`.
    unsafe {
        libc::dup2(report, 0);
        close_from(1);
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended == program {
                libc::write(0, (&raw const status).cast(), size_of::<i32>());
                libc::_exit(0);
            }
            if ended < 0 && *libc::__errno_location() != libc::EINTR {
                libc::_exit(1);
            }
        }
    }
}

/// Closes all files from `first` up.
#[expect(unsafe_code, reason = "the files are those of a fork that goes on with none")]
unsafe fn close_from(first: u32) {
    // SAFETY: nothing of this fork uses a file afterwards but those below `first`.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) != 0 {
            // before Linux 5.9
            for file in first as i32..4096 {
                libc::close(file);
            }
        }
    }
}
