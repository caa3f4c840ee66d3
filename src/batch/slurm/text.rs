//! What Slurm is told and what it says: arguments, scripts, lists of jobs, refusals. Pure: text in, text out.
//!
//! Source: man 1 sbatch, man 1 squeue, of 22.05; fields are asked for by name, so that other versions answer the same.

use crate::batch::job::{BatchJob, JobEnd, JobState, Order, QueueError};
use crate::config::BackendSection;

/// What makes a job ours: its comment is this, the appliance and the cluster, with colons between.
const MARK: &str = "rask";

/// Fields of a job in a list. The reason is last: it may hold anything but a newline.
const FIELDS: &str = "%i|%T|%S|%e|%V|%N|%k|%r";

/// The heredoc's end in a script. No token looks like it.
const END: &str = "RASK_TOKEN_END";

/// Words of refusals that pass by themselves. Source: `slurm_errno.c`.
const PASSING: [&str; 8] = [
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Zero Bytes were transmitted",
    "Resource temporarily unavailable",
    "MaxSubmitJob",
    "job submit limit",
    "Slurm backup controller in standby mode",
];

/// The arguments of `sbatch` for an order. The script goes to its standard input.
pub fn submit_args(order: &Order, appliance: &str, site: &BackendSection) -> Vec<String> {
    let minutes = order.walltime_secs.div_ceil(60).max(1);
    let ending = if order.count > 1 { "%A_%a.out" } else { "%j.out" };
    let mut args: Vec<String> = ["--parsable", "--no-requeue", "--export=NONE", "--ntasks=1"].map(str::to_owned).into();
    let mut flag = |name: &str, value: &str| {
        if !value.is_empty() {
            args.push(format!("--{name}={value}"));
        }
    };
    flag("job-name", &format!("rask-{}", order.cluster));
    flag("comment", &format!("{MARK}:{appliance}:{}", order.cluster));
    flag("cpus-per-task", &order.cores.to_string());
    if order.memory_mib > 0 {
        flag("mem", &format!("{}M", order.memory_mib));
    }
    flag("time", &minutes.to_string());
    // Slurm reads a percent sign as the start of a pattern, unless there are two.
    let folder = order.output.to_string_lossy().replace('%', "%%");
    flag("output", &format!("{folder}/{ending}"));
    flag("partition", &order.partition);
    flag("account", &order.account);
    flag("qos", &order.qos);
    flag("constraint", &site.constraint);
    if order.count > 1 {
        flag("array", &format!("0-{}", order.count.saturating_sub(1)));
    }
    args.extend(site.extra.iter().cloned());
    args
}

/// What a job runs: it lends its node until it is sent away. `args`: of `rask join`.
pub fn join_script(site: &BackendSection, rask: &str, args: &[String], token: &str) -> String {
    let line: Vec<String> = std::iter::once(rask).chain(args.iter().map(String::as_str)).map(quoted).collect();
    format!(
        "#!/bin/sh\numask 077\n{}\nTMPDIR=\"{}\"\nexport TMPDIR\nexec {} <<'{END}'\n{token}\n{END}\n",
        site.prologue,
        site.scratch,
        line.join(" ")
    )
}

/// One word to a shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The ids of what was submitted: `12`, or `12;cluster`.
pub fn submitted(text: &str, count: u32) -> Option<Vec<String>> {
    let id = text.lines().last()?.split(';').next()?.trim();
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(match count {
        0 | 1 => vec![id.to_owned()],
        many => (0..many).map(|number| format!("{id}_{number}")).collect(),
    })
}

/// The arguments of `squeue` for all jobs of a user, elements of arrays each.
pub fn look_args(uid: u32) -> Vec<String> {
    ["-h".into(), "-r".into(), "-u".into(), uid.to_string(), "--states=all".into(), "-o".into(), FIELDS.into()].into()
}

/// Jobs of an appliance in a list. Lines that are something else are passed over.
pub fn jobs(text: &str, appliance: &str) -> Vec<BatchJob> {
    let ours = format!("{MARK}:{appliance}:");
    text.lines().filter_map(|line| job(line, &ours)).collect()
}

fn job(line: &str, ours: &str) -> Option<BatchJob> {
    let mut fields = line.splitn(8, '|');
    let mut next = || fields.next().map(str::trim);
    let (id, state) = (next()?, next()?);
    let (starts, ends, submitted) = (next()?, next()?, next()?);
    let (node, comment, reason) = (next()?, next()?, next()?);
    let cluster = comment.strip_prefix(ours)?;
    let secs = |text: &str| text.parse::<i64>().ok().filter(|secs| *secs > 0);
    Some(BatchJob {
        id: id.to_owned(),
        cluster: cluster.to_owned(),
        state: state_of(state)?,
        reason: words(state, reason),
        node: node.to_owned(),
        submitted_secs: secs(submitted),
        starts_secs: secs(starts),
        ends_secs: secs(ends),
    })
}

fn state_of(word: &str) -> Option<JobState> {
    Some(match word {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => JobState::Waiting,
        "RUNNING" | "CONFIGURING" | "SUSPENDED" | "RESIZING" | "SIGNALING" | "STAGE_OUT" | "STOPPED" => {
            JobState::Running
        }
        "COMPLETING" => JobState::Ending,
        "COMPLETED" => JobState::Ended(JobEnd::Done),
        "PREEMPTED" | "NODE_FAIL" | "BOOT_FAIL" | "TIMEOUT" | "CANCELLED" | "REVOKED" => JobState::Ended(JobEnd::Taken),
        "FAILED" | "OUT_OF_MEMORY" | "DEADLINE" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => JobState::Ended(JobEnd::Failed),
        // A newer Slurm's: it is somewhere on its way.
        word if !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') => JobState::Ending,
        _ => return None,
    })
}

/// Why a job waits or ended. The state says more where the reason is the usual one.
fn words(state: &str, reason: &str) -> String {
    let plain = match state {
        "PENDING" | "RUNNING" | "CONFIGURING" | "COMPLETED" | "COMPLETING" => "",
        "TIMEOUT" => "its time was over",
        "PREEMPTED" => "gave way to a job with priority",
        "NODE_FAIL" | "BOOT_FAIL" => "its node failed",
        "OUT_OF_MEMORY" => "out of memory",
        "CANCELLED" => "cancelled",
        "FAILED" => "failed",
        other => other,
    };
    match (plain, reason) {
        ("", "None" | "(null)") => String::new(),
        ("", reason) => reason.to_owned(),
        (plain, "None" | "(null)" | "") => plain.to_owned(),
        (plain, reason) => format!("{plain}: {reason}"),
    }
}

/// What a program of Slurm wrote when it failed, without its own name before each line.
pub fn refusal(stderr: &str) -> QueueError {
    let bare = |line: &str| {
        let line = line.trim();
        let line = line.split_once(": error: ").map_or(line, |(_, rest)| rest);
        line.strip_prefix("Batch job submission failed: ").unwrap_or(line).to_owned()
    };
    let lines: Vec<String> = stderr.lines().map(bare).filter(|line| !line.is_empty()).collect();
    let text = if lines.is_empty() { "it said nothing".to_owned() } else { lines.join("; ") };
    if PASSING.iter().any(|word| text.contains(word)) { QueueError::NotNow(text) } else { QueueError::Refused(text) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn order(count: u32) -> Order {
        Order {
            cluster: "demo".to_owned(),
            count,
            cores: 4,
            memory_mib: 9000,
            walltime_secs: 7201,
            partition: "main".to_owned(),
            account: String::new(),
            qos: String::new(),
            script: String::new(),
            output: PathBuf::from("/s/jobs"),
        }
    }

    #[test]
    fn an_order_is_arguments_each_of_them_one() {
        let site = BackendSection { extra: vec!["--gres=gpu:1".to_owned()], ..BackendSection::default() };
        let args = submit_args(&order(3), "ab12", &site);
        for wanted in
            ["--comment=rask:ab12:demo", "--mem=9000M", "--time=121", "--array=0-2", "--partition=main", "--gres=gpu:1"]
        {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted}: {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.starts_with("--account") || arg.starts_with("--qos")));
        let output = PathBuf::from("/s/100%j/jobs");
        let one = submit_args(&Order { memory_mib: 0, output, ..order(1) }, "ab12", &site);
        assert!(one.iter().any(|arg| arg == "--output=/s/100%%j/jobs/%j.out"), "{one:?}");
        assert!(!one.iter().any(|arg| arg.starts_with("--mem") || arg.starts_with("--array")), "{one:?}");
    }

    #[test]
    fn a_script_is_safe_from_what_is_put_into_it() {
        let site = BackendSection { prologue: "module load python".to_owned(), ..BackendSection::default() };
        let script = join_script(&site, "/opt/ra sk", &["join".to_owned(), "it's $(x)".to_owned()], "rj1");
        assert!(
            script.contains("\nmodule load python\n") && script.contains("\nTMPDIR=\"${TMPDIR:-/tmp}\"\n"),
            "{script}"
        );
        assert!(script.contains(r"exec '/opt/ra sk' 'join' 'it'\''s $(x)' <<'RASK_TOKEN_END'"), "{script}");
        assert!(script.ends_with("\nrj1\nRASK_TOKEN_END\n"), "{script}");
    }

    #[test]
    fn ids_are_read_and_nothing_else_is_taken_for_one() {
        assert_eq!(submitted("12\n", 1), Some(vec!["12".to_owned()]));
        assert_eq!(submitted("12;site\n", 2), Some(vec!["12_0".to_owned(), "12_1".to_owned()]));
        assert_eq!(submitted("sbatch: a word first\n7\n", 1), Some(vec!["7".to_owned()]));
        assert_eq!(submitted("Submitted batch job 12", 1), None);
        assert_eq!(submitted("", 1), None);
    }

    /// The lines are those of a real 22.05.
    #[test]
    fn only_our_jobs_are_read_whatever_else_is_listed() {
        let text = "7|PENDING|N/A|N/A|1764234000||rask:ab12:demo|Priority\n\
                    8_1|RUNNING|1764234001|1764241201|1764234000|n1|rask:ab12:demo|None\n\
                    9|CANCELLED|1764234001|1764234002|1764234000|n1|rask:ab12:demo|None\n\
                    10|RUNNING|1764234001|1764241201|1764234000|n1|rask:other:demo|None\n\
                    11|RUNNING|1764234001|1764241201|1764234000|n1|(null)|None\n\
                    slurm_load_jobs error: a word\n\
                    12|SOMETHING_NEW|1764234001|1764241201|1764234000|n1|rask:ab12:demo|a|b\n";
        let found = jobs(text, "ab12");
        let read: Vec<(&str, JobState, &str)> =
            found.iter().map(|job| (job.id.as_str(), job.state, job.reason.as_str())).collect();
        assert_eq!(
            read,
            [
                ("7", JobState::Waiting, "Priority"),
                ("8_1", JobState::Running, ""),
                ("9", JobState::Ended(JobEnd::Taken), "cancelled"),
                ("12", JobState::Ending, "SOMETHING_NEW: a|b"),
            ]
        );
        assert_eq!(found.get(1).map(|job| (job.node.as_str(), job.ends_secs)), Some(("n1", Some(1_764_241_201))));
    }

    #[test]
    fn refusals_are_told_in_slurms_words_and_those_that_pass_are_known() {
        let refused = refusal(
            "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified\n",
        );
        assert_eq!(
            refused,
            QueueError::Refused("invalid partition specified: nope; Invalid partition name specified".to_owned())
        );
        let busy = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)";
        assert!(matches!(refusal(busy), QueueError::NotNow(_)));
        assert!(matches!(refusal(""), QueueError::Refused(_)));
    }
}
