//! Batches on their way through Lean: run, judge, cut up what died, confirm what passed.
//!
//! Invariant: every item gets exactly one answer, and an answer is never taken from a process about which there is
//! doubt whether it reached the item.

use std::time::Duration;

use super::{
    End, Finished, Form, Import, Judgement, Lean, Parts, Reply, Source, nonce, process::Limits, queue, reply::short,
    tree,
};
use crate::Outcome;

/// One candidate that Lean is to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'t> {
    /// Its place among all candidates.
    pub(super) index: usize,
    pub(super) parts: Parts<'t>,
    pub(super) proof: &'t str,
}

/// What came of one candidate, and its share of what that cost.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) judgement: Judgement,
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
    /// `None`: no process saw it.
    pub(super) peak_rss_bytes: Option<u64>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            judgement: Judgement::new(Outcome::Infra, "the candidate was not reached"),
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_rss_bytes: None,
        }
    }
}

/// Some items for one process.
struct Batch<'t> {
    items: Vec<Item<'t>>,
    form: Form,
    /// What earlier processes cost each item.
    spent: Vec<Answer>,
    is_retry: bool,
}

/// Runs all items of one header; `import` is what the header alone took.
pub(super) fn run(
    lean: &Lean,
    header: &str,
    import: Import,
    items: &[Item],
    form: Form,
    confirm: bool,
) -> Vec<(usize, Answer)> {
    // enough batches that no worker is idle, few enough that the header is not paid for too often
    let jobs = super::processes(lean.options.jobs, import.rss_bytes, tree::available_bytes());
    let size = items.len().div_ceil(jobs).clamp(1, lean.options.batch.max(1));
    let batches = items.chunks(size).map(|items| Batch {
        items: items.to_vec(),
        form,
        spent: vec![Answer::default(); items.len()],
        is_retry: false,
    });
    queue::drain(jobs, batches, |batch| process_batch(lean, header, import, batch, confirm))
}

type Progress<'t> = (Vec<(usize, Answer)>, Vec<Batch<'t>>);

/// Runs one process; gives the answers that are final, and what is still to do.
fn process_batch<'t>(lean: &Lean, header: &str, import: Import, batch: Batch<'t>, confirm: bool) -> Progress<'t> {
    let mut source = Source::new(header);
    let result = nonce().map_err(|error| error.to_string()).and_then(|nonce| {
        for item in &batch.items {
            source.add(&item.parts, item.proof, batch.form, &nonce);
        }
        lean.lean(&source.text, &limits(lean, import, batch.items.len()))
    });
    let finished = match result {
        Ok(finished) => finished,
        Err(reason) => return unanswered(batch, &Judgement::new(Outcome::Infra, reason)),
    };
    let reply = Reply::read(&finished.stdout);
    if let Some(error) = source.placed.first().and_then(|first| reply.header_error(first.first)) {
        // the header worked alone: without it nothing that follows means anything
        return unanswered(batch, &Judgement::new(Outcome::Infra, format!("header: {error}")));
    }
    let n = batch.items.len() as u32;
    let share = Answer {
        wall: finished.wall / n,
        cpu: finished.cpu / n,
        peak_rss_bytes: Some(finished.peak_rss_bytes),
        ..Answer::default()
    };
    let whole = matches!(finished.end, End::Exited(0 | 1)) && reply.garbage.is_none();
    let n_done = if whole {
        batch.items.len()
    } else {
        source.placed.iter().take_while(|placed| reply.is_complete(placed)).count()
    };
    let Batch { items, form, mut spent, is_retry } = batch;
    for answer in &mut spent {
        add(answer, &share);
    }
    let rest = Batch { items: items[n_done..].to_vec(), form, spent: spent[n_done..].to_vec(), is_retry };
    let (mut answers, mut more) = if rest.items.is_empty() {
        (Vec::new(), Vec::new())
    } else {
        cut(rest, n_done > 0, &death(&finished, &reply), is_stalled(&finished))
    };
    for ((item, placed), answer) in items[..n_done].iter().zip(&source.placed).zip(&spent) {
        let mut answer = answer.clone();
        answer.judgement = reply.judge(placed, &lean.options.axioms);
        if form == Form::Confirm && answer.judgement.outcome == Outcome::Proved {
            match finished.end {
                End::Exited(0) => {}
                End::Exited(_) => {
                    let why = "lean reports an error outside the lines of this candidate, which is alone in its file";
                    answer.judgement = Judgement::new(Outcome::Unparsed, why);
                }
                // it said all that it was asked, and did not come to its own end
                _ => {
                    let batch = Batch { items: vec![*item], form, spent: vec![answer], is_retry };
                    let (final_answers, again) = unanswered(batch, &infra(death(&finished, &reply)));
                    answers.extend(final_answers);
                    more.extend(again);
                    continue;
                }
            }
        }
        if confirm && form == Form::Screen && answer.judgement.outcome == Outcome::Proved {
            more.push(Batch { items: vec![*item], form: Form::Confirm, spent: vec![answer], is_retry: false });
        } else {
            answers.push((item.index, answer));
        }
    }
    (answers, more)
}

/// Adds the cost of one process to what an item has cost so far.
fn add(answer: &mut Answer, share: &Answer) {
    answer.wall += share.wall;
    answer.cpu += share.cpu;
    answer.peak_rss_bytes = answer.peak_rss_bytes.max(share.peak_rss_bytes);
}

/// Time and memory for a process of `n` candidates. Lean writes its output in blocks of some twenty answers, so a batch
/// may be silent for longer than one candidate may take.
fn limits(lean: &Lean, import: Import, n: usize) -> Limits {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    let timeout = lean.options.timeout;
    Limits {
        quiet: import.wall * 2 + timeout.saturating_mul(n.min(4)),
        total: import.wall * 2 + timeout.saturating_mul(n),
        memory_bytes: lean.options.memory_bytes,
        output_bytes: (1 << 20) + (64 << 10) * n as usize,
    }
}

/// Why a process did not come to its end.
fn death(finished: &Finished, reply: &Reply) -> Judgement {
    let stderr = &finished.stderr;
    let memory = [
        "Stack overflow",
        "out of memory",
        "bad_alloc",
        "failed to create thread",
        "cannot allocate",
        "excessive memory",
    ];
    let said = reply.garbage.as_deref().filter(|_| stderr.is_empty()).unwrap_or(stderr);
    match finished.end {
        End::TimedOut => Judgement::new(Outcome::Timeout, "lean gave no answer within the time allowed"),
        End::Signalled(libc::SIGXCPU) => Judgement::new(Outcome::Timeout, "lean used more processor time than allowed"),
        End::TooMuchOutput => Judgement::new(Outcome::Oom, "lean printed more than allowed"),
        End::TooMuchMemory => Judgement::new(Outcome::Oom, "lean held more memory than allowed"),
        End::TooManyProcesses => Judgement::new(Outcome::Oom, "lean started more processes than allowed"),
        _ if memory.iter().any(|sign| stderr.contains(sign)) => Judgement::new(Outcome::Oom, short(stderr)),
        End::Signalled(signal) => {
            Judgement::new(Outcome::Infra, format!("lean was ended by signal {signal}: {}", short(said)))
        }
        End::Exited(code) => Judgement::new(Outcome::Infra, format!("lean ended with status {code}: {}", short(said))),
    }
}

/// The same words, of trouble that is not the candidate's.
fn infra(judgement: Judgement) -> Judgement {
    Judgement { outcome: Outcome::Infra, ..judgement }
}

/// Whether a process ran out of time without having computed: it was blocked, or the machine had no time for it, which
/// says nothing of the candidate.
fn is_stalled(finished: &Finished) -> bool {
    finished.end == End::TimedOut && finished.cpu < finished.wall / 10
}

/// No answer for any of a batch: once more, then `judgement`.
fn unanswered<'t>(mut batch: Batch<'t>, judgement: &Judgement) -> Progress<'t> {
    if !batch.is_retry {
        batch.is_retry = true;
        return (Vec::new(), vec![batch]);
    }
    let answer = |(item, mut answer): (&Item, Answer)| {
        answer.judgement = judgement.clone();
        (item.index, answer)
    };
    (batch.items.iter().zip(batch.spent).map(answer).collect(), Vec::new())
}

/// What is to be done with the items a dead process did not reach. The culprit is near their beginning: within what
/// Lean had not yet written out, some twenty answers at most where it had `begun` to write.
fn cut<'t>(batch: Batch<'t>, begun: bool, judgement: &Judgement, is_stalled: bool) -> Progress<'t> {
    if batch.items.len() == 1 {
        // what Lean itself did wrong, it may not do twice; what took too much would take too much again
        let is_retry = batch.is_retry || (judgement.outcome != Outcome::Infra && !is_stalled);
        return unanswered(Batch { is_retry, ..batch }, judgement);
    }
    let near = if begun { 16 } else { usize::MAX };
    let at = batch.items.len().div_ceil(2).min(near);
    let part = |items: &[Item<'t>], spent: &[Answer]| Batch {
        items: items.to_vec(),
        form: batch.form,
        spent: spent.to_vec(),
        is_retry: false,
    };
    let (first, second) = batch.items.split_at(at);
    (Vec::new(), vec![part(first, &batch.spent[..at]), part(second, &batch.spent[at..])])
}
