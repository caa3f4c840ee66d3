use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::AskError;
use super::Pyhost;
use super::PyhostConfig;
use super::PyhostError;
use super::files;
use super::reply;
use crate::base::Failure;
use crate::base::PyError;
use crate::base::Value;

/// A fresh folder that is removed with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rask-pyhost-{name}-{}", std::process::id()));
        // May be left from a killed run.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the folder for temporary files takes folders");
        Self(path)
    }

    /// A shell script in the place of the interpreter.
    fn script(&self, text: &str) -> PathBuf {
        let path = self.0.join("python");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("the folder is ours");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("the file is ours");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pyhost(folder: &Folder, python: PathBuf, deadline: Duration) -> Pyhost {
    Pyhost::new(PyhostConfig {
        python,
        cwd: folder.0.clone(),
        env: Vec::new(),
        run_dir: folder.0.join("run"),
        max_processes: 1,
        deadline,
    })
}

async fn failure_of(pyhost: &Pyhost) -> String {
    let outcome = pyhost.call("ping", Value::Map(Vec::new())).await;
    let Err(Failure::Raised(PyError::Builtin { class, message })) = outcome else {
        panic!("expected an error of ours, got {outcome:?}");
    };
    assert_eq!(&*class, "RuntimeError");
    message.to_string()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(test);
}

/// Goal: a process that dies answers its request with how it died and what it said, and the next request gets a new
/// process. Method: a shell script in the place of Python.
#[test]
fn a_death_is_told_with_its_last_words_and_the_process_is_replaced() {
    run(async {
        let folder = Folder::new("death");
        let python = folder.script("echo once >> started; echo the reason >&2; exit 7");
        let pyhost = pyhost(&folder, python, Duration::from_secs(20));
        let message = failure_of(&pyhost).await;
        assert!(message.contains("exit code 7") && message.contains("the reason"), "{message}");
        failure_of(&pyhost).await;
        let starts = std::fs::read_to_string(folder.0.join("started")).expect("the script writes it");
        assert_eq!(starts.lines().count(), 2);
    });
}

/// Goal: a request that takes too long fails, and its process does not live on.
#[test]
fn a_process_past_its_deadline_is_killed() {
    run(async {
        let folder = Folder::new("deadline");
        let python = folder.script("echo $$ > pid; exec sleep 600");
        let pyhost = pyhost(&folder, python, Duration::from_millis(300));
        assert!(failure_of(&pyhost).await.contains("took longer than 0.3 s"));
        let pid = std::fs::read_to_string(folder.0.join("pid")).expect("the script writes it");
        assert!(!Path::new("/proc").join(pid.trim()).join("exe").exists());
    });
}

/// Goal: shutdown does not wait for what is under way, leaves no process, and later requests fail at once.
#[test]
fn shutdown_interrupts_a_request() {
    run(async {
        let folder = Folder::new("shutdown");
        let python = folder.script("exec sleep 600");
        let pyhost = pyhost(&folder, python, Duration::from_secs(500));
        let other = pyhost.clone();
        let asked = tokio::spawn(async move { failure_of(&other).await });
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::from_secs(20), pyhost.shutdown()).await.expect("shutdown is quick");
        let closed = PyhostError::Closed.to_string();
        assert_eq!(asked.await.expect("the request ends"), closed);
        assert_eq!(failure_of(&pyhost).await, closed);
    });
}

/// Goal: an interpreter that is not there is an error with its name, not a panic or a wait.
#[test]
fn a_missing_interpreter_is_named() {
    run(async {
        let folder = Folder::new("missing");
        let pyhost = pyhost(&folder, folder.0.join("no-such-python"), Duration::from_secs(5));
        assert!(failure_of(&pyhost).await.contains("no-such-python"));
    });
}

/// Goal: an interpreter without Dask is no Python to ask, however it ends; what ends a Python that had answered is
/// another matter, and is seen in `tests/python/test_unloadable.py`.
#[test]
fn a_python_that_never_answered_could_not_start() {
    run(async {
        let folder = Folder::new("no-dask");
        for script in ["exit 3", "exec sleep 600"] {
            let pyhost = pyhost(&folder, folder.script(script), Duration::from_millis(300));
            let asked = pyhost.vouch(Some(Arc::default()), &[], &[]).await;
            assert!(matches!(asked, Err(AskError::NoAnswer(PyhostError::Start { .. }))), "{asked:?}");
        }
    });
}

/// Goal: bytes that are no message end the process, not us.
#[test]
fn a_process_that_prints_nonsense_is_given_up() {
    run(async {
        let folder = Folder::new("nonsense");
        let python = folder.script("head -c 100 /dev/zero | tr '\\0' 'x'; exec sleep 600");
        let pyhost = pyhost(&folder, python, Duration::from_secs(20));
        assert!(failure_of(&pyhost).await.contains("no message"));
    });
}

/// Goal: only we can read and change what our interpreter runs.
#[test]
fn the_python_files_are_private_and_named_after_their_content() {
    let folder = Folder::new("files");
    let run_dir = folder.0.join("run");
    let first = files::write_script(&run_dir, files::Script::Pyhost).expect("the folder is ours");
    let mode = |path: &Path| std::fs::metadata(path).expect("it was written").permissions().mode() & 0o777;
    let file = first.join("rask_pyhost/main.py");
    assert_eq!((mode(&run_dir), mode(&first), mode(&file)), (0o700, 0o700, 0o600));
    std::fs::write(&file, "changed").expect("the file is ours");
    assert_eq!(files::write_script(&run_dir, files::Script::Pyhost).expect("the folder is ours"), first);
    assert_ne!(std::fs::read_to_string(&file).expect("it was written"), "changed");
}

/// Goal: errors of users' code arrive as they were told; answers to somebody else are not believed.
#[test]
fn answers_are_read_for_what_they_say() {
    let told = |ok: bool| {
        Value::map([
            ("id", Value::Int(4)),
            ("ok", Value::Bool(ok)),
            ("result", Value::Int(5)),
            ("exception", Value::Bin("pickle".into())),
            ("exception_text", "Oops()".into()),
        ])
    };
    assert_eq!(reply::result(&told(true), 4), Ok(Value::Int(5)));
    let Err(AskError::Raised(Failure::Remote { exception, traceback, exception_text, .. })) =
        reply::result(&told(false), 4)
    else {
        panic!("an error was told");
    };
    assert_eq!((exception, traceback, &*exception_text), (Value::Bin("pickle".into()), Value::Nil, "Oops()"));
    assert!(matches!(reply::result(&told(true), 5), Err(AskError::NoAnswer(PyhostError::Reply { .. }))));
    assert!(reply::bulk_graph(&Value::Nil).is_err());
}
