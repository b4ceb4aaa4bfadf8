//! What a process and all it started use at the moment, read from `/proc`.

use std::{collections::HashMap, fs, time::Duration};

/// What a tree of processes uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processes and threads.
    pub(super) n_threads: u64,
    /// Resident memory; what processes share is counted once for each.
    pub(super) rss_bytes: u64,
    /// Most that one of them ever held.
    pub(super) peak_bytes: u64,
    /// Processor time so far, that of children waited for included; in hundredths of a second.
    pub(super) cpu: Duration,
    /// Whether a thread of them computes, waits for a processor to do so, or waits for a disk.
    pub(super) is_busy: bool,
}

/// Sums over the descendants of `root` that are at least `depth` below it; at 0 it is one of them itself. What cannot be
/// read has just ended.
pub(super) fn usage(root: i32, depth: usize) -> Usage {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = fs::read_to_string(entry.path().join("stat")).ok().and_then(|stat| parent(&stat)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut total, mut open) = (Usage::default(), vec![(root, 0)]);
    while let Some((pid, level)) = open.pop() {
        if level >= depth {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            add(&mut total, &read("status"), &read("stat"));
            total.is_busy |= is_busy(pid);
        }
        // each process has one parent, so none is met twice
        open.extend(children.remove(&pid).unwrap_or_default().into_iter().map(|child| (child, level + 1)));
    }
    total
}

/// Whether a thread of `pid` is running, runnable, or in a wait that ends by itself.
fn is_busy(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next()).any(|state| "RD".contains(state))
}

/// Resident memory of this process, in bytes.
pub(super) fn own_rss_bytes() -> u64 {
    kib(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:") * 1024
}

/// Memory that can be had without swapping; `None` where the system does not say.
pub(super) fn available_bytes() -> Option<u64> {
    let kib = kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:");
    (kib > 0).then_some(kib * 1024)
}

fn add(total: &mut Usage, status: &str, stat: &str) {
    total.n_threads += kib(status, "Threads:");
    total.rss_bytes += kib(status, "VmRSS:") * 1024;
    total.peak_bytes = total.peak_bytes.max(kib(status, "VmHWM:") * 1024);
    // own and children's time in user and kernel mode: fields 14 to 17, of which two precede the end of the name; Linux
    // tells them in hundredths of a second on every machine
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(4).map(|field| field.parse().unwrap_or(0)).sum();
    total.cpu += Duration::from_millis(ticks * 10);
}

/// The number after `key` at the start of a line; 0 where there is none.
fn kib(text: &str, key: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("");
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The parent in a line of `/proc/PID/stat`: the second field after the name, which may hold anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        assert_eq!((parent("7 (a) b) S 3 7 7 0"), parent("7 (a")), (Some(3), None));
        let mut total = Usage::default();
        let stat = "7 (a) b) S 3 7 7 0 -1 0 1 2 3 4 50 20 2 1 20 0";
        add(&mut total, "Name:\tx\nVmHWM:\t  30 kB\nVmRSS:\t  20 kB\nThreads:\t4\n", stat);
        let cpu = Duration::from_millis(730);
        assert_eq!(total, Usage { n_threads: 4, rss_bytes: 20 << 10, peak_bytes: 30 << 10, cpu, is_busy: false });
        assert!(available_bytes().is_some());
    }

    #[test]
    fn a_child_is_found_below_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let own = std::process::id() as i32;
        let (all, below) = (usage(own, 0), usage(own, 1));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(below.n_threads >= 1 && below.n_threads < all.n_threads, "{below:?} {all:?}");
        assert!(all.rss_bytes > below.rss_bytes && own_rss_bytes() > 0);
    }
}
