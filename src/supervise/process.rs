//! Processes that outlive us: started or found, watched and stopped alike.
//!
//! A process is known by its id and its start, so that one which got the same id later is never taken for it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::child::{ExitCause, Spec, last_words, signal_group, spawn};

/// After `SIGKILL`: a process that the kernel does not let go in this time hangs in a driver; we go on without it.
const KILLED: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Its start. Unit: clock ticks since the machine was started.
    pub started_ticks: u64,
}

impl ProcessId {
    /// The process that has this id now. `None`: there is none, or it is a zombie.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold spaces and brackets; what follows the last bracket does not.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        if matches!(fields.next(), Some("Z" | "X")) {
            return None;
        }
        // The 22nd field of all, the 20th after the name and with the state taken, the 19th of these.
        Some(Self { pid, started_ticks: fields.nth(18)?.parse().ok()? })
    }

    /// This process.
    pub fn this() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, started_ticks: 0 })
    }

    /// Does it still run?
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Which boot of the machine this is. Processes of another one are gone.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// A process that does not end with us. Dropping this leaves it alone.
#[derive(Debug)]
pub struct DetachedProcess {
    id: ProcessId,
    handle: Handle,
    spec: Option<(Spec, u64)>,
}

#[derive(Debug)]
enum Handle {
    /// We started it, so the system tells us how it ended.
    Own(Box<tokio::process::Child>),
    /// Somebody before us did.
    Found(AsyncFd<OwnedFd>),
}

impl DetachedProcess {
    /// Starts a process of its own group. Its restart policy plays no part.
    ///
    /// Errors: the program cannot be started, or its log cannot be opened.
    pub fn launch(spec: &Spec) -> io::Result<Self> {
        let (child, log_start) = spawn(spec)?;
        let pid = child.id().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        // It cannot be gone before we have waited for it: until then it keeps its entry, as a zombie at least.
        let id = ProcessId::of(pid).unwrap_or(ProcessId { pid, started_ticks: 0 });
        Ok(Self { id, handle: Handle::Own(Box::new(child)), spec: Some((spec.clone(), log_start)) })
    }

    /// Takes over a process that runs already. `None`: it does not run any more.
    ///
    /// Errors: it may not be watched.
    pub fn adopt(id: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(id.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(why) => return Err(why.into()),
        };
        // Looked at after the handle was taken: from here on the id cannot change its meaning.
        if !id.is_alive() {
            return Ok(None);
        }
        #[expect(deprecated, reason = "its successor is for descriptors that may close early; an `OwnedFd` does not")]
        let handle = AsyncFd::new(handle)?;
        Ok(Some(Self { id, handle: Handle::Found(handle), spec: None }))
    }

    pub const fn id(&self) -> ProcessId {
        self.id
    }

    /// Waits for its end. `None`: how it ended only its parent was told. What is left of its group ends with it.
    pub async fn ended(&mut self) -> Option<ExitCause> {
        let cause = match &mut self.handle {
            Handle::Own(child) => child.wait().await.ok().map(ExitCause::of),
            Handle::Found(handle) => {
                drop(handle.readable().await);
                None
            }
        };
        signal_group(self.id.pid, Signal::KILL);
        cause
    }

    /// What it wrote last into its log. Empty if we did not start it.
    pub fn last_words(&self) -> Vec<String> {
        self.spec.as_ref().map_or_else(Vec::new, |(spec, log_start)| last_words(spec, *log_start))
    }

    /// `SIGTERM`, after the grace `SIGKILL` for its whole group. Waits until it is gone.
    pub async fn stop(&mut self, grace: Duration) -> Option<ExitCause> {
        self.signal(Signal::TERM);
        if let Ok(cause) = timeout(grace, self.ended()).await {
            return cause;
        }
        self.kill();
        timeout(KILLED, self.ended()).await.ok().flatten()
    }

    /// `SIGKILL` for its whole group.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        signal_group(self.id.pid, Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let _already_gone = match &self.handle {
            Handle::Own(child) => match child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                Some(pid) => rustix::process::kill_process(pid, signal),
                None => Ok(()),
            },
            Handle::Found(handle) => pidfd_send_signal(handle.get_ref(), signal),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::policy::RestartRule;
    use crate::supervise::{Output, ParentDeath};

    fn sleeper() -> Spec {
        Spec {
            name: "sleeper".to_owned(),
            program: "/bin/sleep".into(),
            args: vec!["600".into()],
            env: Vec::new(),
            output: Output::Prefixed(String::new()),
            parent_death: ParentDeath::Nothing,
            cgroup: None,
            restart: RestartRule::Never,
            failures_max: None,
            grace: Duration::from_secs(1),
        }
    }

    fn on_runtime<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { timeout(Duration::from_secs(20), future).await.expect("in time") })
    }

    #[test]
    fn a_found_process_is_watched_and_stopped_like_an_own_one() {
        on_runtime(async {
            let mut own = DetachedProcess::launch(&sleeper()).expect("started");
            assert!(own.id().is_alive());
            let mut found = DetachedProcess::adopt(own.id()).expect("may be watched").expect("runs");
            let (stopped, ended) = tokio::join!(found.stop(Duration::from_secs(5)), own.ended());
            assert_eq!((stopped, ended), (None, Some(ExitCause::Signal(15))));
            assert!(!own.id().is_alive());
            assert!(DetachedProcess::adopt(own.id()).expect("no error").is_none());
        });
    }

    #[test]
    fn a_process_with_the_same_id_and_another_start_is_another() {
        let this = ProcessId::this();
        assert!(this.is_alive() && this.started_ticks > 0);
        let before = ProcessId { started_ticks: this.started_ticks - 1, ..this };
        assert!(!before.is_alive());
        on_runtime(async { assert!(DetachedProcess::adopt(before).expect("no error").is_none()) });
        assert!(!boot_id().is_empty());
    }
}
