//! How the end of a worker is told: what its nanny says, and what the scheduler knows of its last moments.

use std::fs;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::config::show_size;
use crate::control::{LastWords, SchedulerQuestion};
use crate::link::Link;
use crate::supervise::ExitCause;

/// Between two questions, until the scheduler has noticed the end of the worker's connections.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for the answer: the pool does nothing else meanwhile. A cause without a task is better than none.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a nanny says about the end of its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NannyReport {
    /// It will end it, because it uses too much memory.
    Memory(String),
    /// It ended so. `None`: cleanly.
    Ended(Option<String>),
}

/// What a line of a nanny means.
///
/// Source: `distributed/nanny.py`, `_death_message`; `distributed/worker_memory.py`, `NannyMemoryManager`.
pub(super) fn nanny_report(line: &str, memory_bytes: u64) -> Option<NannyReport> {
    if !line.contains("distributed.nanny") {
        return None;
    }
    if let Some(cause) = memory_report(line, memory_bytes) {
        return Some(NannyReport::Memory(cause));
    }
    let (_, rest) = line.split_once("Worker process ")?;
    let (_pid, how) = rest.split_once(' ')?;
    let how = how.trim();
    let cause = match how.strip_prefix("was killed by signal ") {
        Some(signal) => ExitCause::Signal(signal.parse().ok()?),
        None => ExitCause::Code(how.strip_prefix("exited with status ")?.parse().ok()?),
    };
    Some(NannyReport::Ended((cause != ExitCause::Code(0)).then(|| cause.to_string())))
}

/// What is told of the end of a worker of ours, by its reason.
pub(super) fn own_end(reason: &str, memory_bytes: u64) -> String {
    // The scheduler knows better what it ran.
    let cause = || reason.split_once("; it was running ").map_or(reason, |(cause, _)| cause).to_owned();
    memory_report(reason, memory_bytes).unwrap_or_else(cause)
}

fn memory_report(line: &str, memory_bytes: u64) -> Option<String> {
    if !line.contains("memory budget") || !line.contains("exceeded") {
        return None;
    }
    // It may be gone already: then the scheduler's figure has to do.
    let pid = line.split_once("(pid=").and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
    let peak = pid.and_then(peak_bytes).map_or_else(String::new, |bytes| format!(", peak {}", show_size(bytes)));
    let limit = show_size(memory_bytes);
    Some(format!("out of memory (limit {limit}{peak}, the nanny ended it)"))
}

/// Most memory that a running process had in use. Unit: bytes.
fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The cause of a worker's end, with its memory and its last task if the scheduler knows them.
pub(super) async fn with_last_words(cause: String, worker: &str, scheduler: Option<&Link>) -> String {
    let Some(scheduler) = scheduler else { return cause };
    match timeout(PATIENCE, last_words(worker, scheduler)).await {
        Ok(Some(words)) => joined(cause, &words),
        Ok(None) | Err(_) => cause,
    }
}

async fn last_words(worker: &str, scheduler: &Link) -> Option<LastWords> {
    loop {
        let question = SchedulerQuestion::LastWords { worker: worker.to_owned() };
        // An error: the scheduler does not tell; it may be older than we are.
        let words = scheduler.ask_for::<LastWords>(question).await.ok()?;
        if words.gone || !words.present {
            return words.gone.then_some(words);
        }
        sleep(PAUSE).await;
    }
}

fn joined(mut cause: String, words: &LastWords) -> String {
    if words.peak_bytes > 0 && !cause.contains("peak") {
        cause.push_str(&format!("; peak memory seen: {}", show_size(words.peak_bytes)));
    }
    cause.push_str(&match (&words.running[..], &words.given[..], &words.last) {
        ([], [], None) => "; it had run no task".to_owned(),
        ([], [], Some(last)) => format!("; its last task was {last}"),
        ([], given, _) => format!("; it was to run {}", given.join(", ")),
        (running, _, _) => format!("; it was running {}", running.join(", ")),
    });
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nannys_words_are_understood() {
        let say = |text: &str| nanny_report(&format!("2026-11-22 05:31:59,123 - distributed.nanny - {text}"), 2 << 30);
        assert_eq!(
            say("INFO - Worker process 12 exited with status 3"),
            Some(NannyReport::Ended(Some("exit code 3".to_owned())))
        );
        assert_eq!(say("INFO - Worker process 12 exited with status 0"), Some(NannyReport::Ended(None)));
        let killed = say("INFO - Worker process 12 was killed by signal 9");
        assert!(matches!(killed, Some(NannyReport::Ended(Some(text))) if text.contains("SIGKILL")));
        let own = std::process::id();
        for (pid, peak) in [(own, true), (0, false)] {
            let text = format!("WARNING - Worker tcp://a (pid={pid}) exceeded 95% memory budget. Restarting...");
            let Some(NannyReport::Memory(text)) = say(&text) else { panic!("not understood: {text}") };
            assert!(text.starts_with("out of memory (limit 2 GiB") && text.contains("peak ") == peak, "{text}");
        }
        assert_eq!(say("INFO - Closing Nanny at 'tcp://a'"), None);
        let own = "Worker tcp://a (pid=0) exceeded 95% memory budget. Restarting...";
        assert_eq!(own_end(own, 2 << 30), "out of memory (limit 2 GiB, the nanny ended it)");
        let own = "its Python process ended: exit code 3; it was running nothing";
        assert_eq!(own_end(own, 0), "its Python process ended: exit code 3");
        assert_eq!(nanny_report("print: Worker process 12 exited with status 3", 0), None);
    }

    #[test]
    fn the_best_that_is_known_of_its_last_moments_is_told() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut words =
            LastWords { gone: true, last: Some("a".to_owned()), peak_bytes: 1 << 30, ..LastWords::default() };
        let tell = |words: &LastWords| joined("why".to_owned(), words);
        assert_eq!(tell(&words), "why; peak memory seen: 1 GiB; its last task was a");
        words.given = list(&["b", "c"]);
        assert_eq!(tell(&words), "why; peak memory seen: 1 GiB; it was to run b, c");
        words.running = list(&["c"]);
        assert_eq!(joined("why (peak 2 GiB)".to_owned(), &words), "why (peak 2 GiB); it was running c");
        assert_eq!(tell(&LastWords::default()), "why; it had run no task");
    }
}
