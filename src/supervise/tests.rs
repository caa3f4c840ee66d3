use std::time::Duration;

use tokio::sync::mpsc;

use super::policy::{Next, Policy, ProcessEnd, RestartRule};
use super::*;

fn shell(script: &str, restart: RestartRule) -> Spec {
    Spec {
        name: "child".to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        output: Output::Prefixed("child | ".to_owned()),
        parent_death: ParentDeath::Nothing,
        cgroup: None,
        restart,
        failures_max: Some(2),
        grace: Duration::from_millis(300),
    }
}

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time") })
}

#[test]
fn pauses_double_and_a_steady_life_forgives_what_was_before() {
    let mut policy = Policy::new(RestartRule::Failure, Some(4));
    assert_eq!(policy.on_end(ProcessEnd::Failed, 10), Next::After(500));
    assert_eq!(policy.on_end(ProcessEnd::Crashed, 10), Next::After(1000));
    assert_eq!(policy.on_end(ProcessEnd::Crashed, 10), Next::After(2000));
    assert_eq!(policy.on_end(ProcessEnd::Failed, 3_600_000), Next::After(500));
    policy.had_started();
    assert_eq!(policy.on_end(ProcessEnd::Crashed, 10), Next::After(500));
    assert_eq!(policy.on_end(ProcessEnd::Fine, 10), Next::Done);
}

#[test]
fn the_last_allowed_failure_in_a_row_ends_it() {
    let mut policy = Policy::new(RestartRule::Always, Some(2));
    assert_eq!(policy.on_end(ProcessEnd::Fine, 10), Next::After(500));
    assert_eq!(policy.on_end(ProcessEnd::Failed, 10), Next::GaveUp);
}

/// Goal: each death tells its cause and last lines, and leads to a new start until it is too much.
#[test]
fn a_child_that_fails_is_started_again_with_its_last_words_kept() {
    on_runtime(async {
        let (reports, mut inbox) = mpsc::unbounded_channel();
        let mut child = start(shell("echo out; echo bad luck >&2; exit 3", RestartRule::Failure), reports);
        assert_eq!(child.ended().await, Some(ExitCause::Code(3)));
        let mut deaths = Vec::new();
        while let Ok(report) = inbox.try_recv() {
            if let Story::Died { cause, last_lines, next } = report.story {
                assert!(last_lines.contains(&"bad luck".to_owned()), "{last_lines:?}");
                deaths.push((cause, next));
            }
        }
        assert_eq!(deaths, [(ExitCause::Code(3), Next::After(500)), (ExitCause::Code(3), Next::GaveUp)]);
    });
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_its_grace_with_its_children() {
    on_runtime(async {
        let (reports, mut inbox) = mpsc::unbounded_channel();
        let child = start(shell("trap '' TERM; sleep 60 & echo ready; wait; sleep 60", RestartRule::Always), reports);
        let Some(Report { story: Story::Started { pid }, .. }) = inbox.recv().await else { panic!("not started") };
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(child.stop().await, Some(ExitCause::Signal(9)));
        let group = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0");
        // Members that were killed may wait for init to collect them.
        for _ in 0..200 {
            if rustix::process::test_kill_process_group(group).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("somebody of group {pid} is left");
    });
}

#[test]
fn a_program_that_is_not_there_is_a_failure_with_a_reason() {
    on_runtime(async {
        let (reports, _inbox) = mpsc::unbounded_channel();
        let spec = Spec { program: "/nonexistent/program".into(), ..shell("", RestartRule::Never) };
        assert_eq!(start(spec, reports).ended().await, Some(ExitCause::NotStarted(2)));
    });
}

#[test]
fn a_child_that_writes_to_a_file_leaves_its_last_lines_there() {
    on_runtime(async {
        let path = std::env::temp_dir().join(format!("rask-supervise-{}.log", std::process::id()));
        let (reports, mut inbox) = mpsc::unbounded_channel();
        let output = Output::File { path: path.clone(), keep: 1 };
        let spec = Spec { output, ..shell("echo first; echo last >&2; kill -9 $$", RestartRule::Never) };
        assert_eq!(start(spec, reports).ended().await, Some(ExitCause::Signal(9)));
        let mut said = Vec::new();
        while let Ok(report) = inbox.try_recv() {
            if let Story::Died { last_lines, .. } = report.story {
                said = last_lines;
            }
        }
        std::fs::remove_file(path).expect("the log is there");
        assert_eq!(said, ["first", "last"]);
    });
}
