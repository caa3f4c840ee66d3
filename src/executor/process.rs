//! The process itself: started with its sockets, watched by its handle, ended with everything it started.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::frame::{
    FacadeNews, Inquiry, KindTable, Place, PorterNews, SlotNews, SpillOutcome, ToControl, ToPorter, inquiry_answer,
};
use super::socket::{self, Bundles, Outlet};
use crate::base::{Limits, Value};
use crate::files;
use crate::supervise::{self, Output, ParentDeath, Printed};
use crate::values::{Filed, Payload};
use crate::wire::{Message, WireError};

pub use super::socket::DESCRIPTORS_MAX;

/// The Python side.
const SCRIPTS: &[(&str, &str)] = &[
    ("__main__.py", include_str!("py/__main__.py")),
    ("rask_executor/__init__.py", include_str!("py/rask_executor/__init__.py")),
    ("rask_executor/facade.py", include_str!("py/rask_executor/facade.py")),
    ("rask_executor/frames.py", include_str!("py/rask_executor/frames.py")),
    ("rask_executor/control.py", include_str!("py/rask_executor/control.py")),
    ("rask_executor/main.py", include_str!("py/rask_executor/main.py")),
    ("rask_executor/nanny.py", include_str!("py/rask_executor/nanny.py")),
    ("rask_executor/segments.py", include_str!("py/rask_executor/segments.py")),
    ("rask_executor/slots.py", include_str!("py/rask_executor/slots.py")),
    ("rask_executor/values.py", include_str!("py/rask_executor/values.py")),
];

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorRole {
    /// Tasks, and the `Worker` that they see.
    Worker,
    /// Plugins of a nanny, and the `Nanny` that they see. It has no slots.
    Nanny,
}

/// How to start an executor.
#[derive(Clone, Debug)]
pub struct ExecutorPlan {
    /// What it is for.
    pub role: ExecutorRole,
    /// The interpreter.
    pub python: PathBuf,
    /// A private folder for the script.
    pub run_dir: PathBuf,
    /// Threads that run tasks.
    pub slots: u32,
    /// What its environment has besides ours.
    pub environ: Vec<(String, String)>,
    /// Where what it prints goes. None: where ours goes.
    pub output: Option<Output>,
    /// The control group to start it in.
    pub cgroup: Option<PathBuf>,
}

/// What an executor says, and its end.
#[derive(Debug)]
pub enum FromExecutor {
    /// News of a slot.
    Slot { slot: u32, news: Vec<SlotNews> },
    /// The porter has serialised something: values in the order asked for, nothing in the place of one that is not there.
    /// No list at all: there were not enough descriptors to take them, neither here nor there.
    Exported { number: u64, values: Option<Vec<Option<Payload>>> },
    /// The porter has written values to files: in the order asked for.
    Spilled { number: u64, outcomes: Vec<SpillOutcome> },
    /// News of the facade.
    Facade(FacadeNews),
    /// Somebody in it waits for an answer.
    Inquiry(Inquiry),
    /// It says what it should not; it must end.
    Malformed { what: &'static str, error: WireError },
    /// Its process is gone.
    Ended { how: String },
}

/// A running executor. Dropping it kills it and whatever it started.
#[derive(Debug)]
pub struct Executor {
    /// Its process id, also of its process group.
    pub pid: u32,
    slots: Vec<Outlet>,
    porter: Outlet,
    control: Outlet,
    questions: Outlet,
}

impl Executor {
    /// Starts the process. What it says goes to `inbox`, in order for each of its sockets. Must run on the main thread.
    ///
    /// Errors: no sockets, no script, no interpreter.
    pub fn start<T: From<FromExecutor> + Send + 'static>(
        plan: &ExecutorPlan,
        hello: Value,
        inbox: &mpsc::UnboundedSender<T>,
    ) -> io::Result<Self> {
        let script = files::write_scripts(&plan.run_dir, "rask_executor", SCRIPTS)?;
        let mut pairs = Vec::new();
        for _ in 0..plan.slots.saturating_add(3) {
            let (ours, theirs) = StdUnixStream::pair()?;
            ours.set_nonblocking(true)?;
            // Nothing else is started between here and the process that these are for.
            fcntl_setfd(&theirs, FdFlags::empty())?;
            pairs.push((UnixStream::from_std(ours)?, theirs));
        }
        let mut command = supervise::tied(&plan.python, ParentDeath::Kill, plan.cgroup.as_deref());
        command.arg(script).args((plan.role == ExecutorRole::Nanny).then_some("nanny"));
        command.args(pairs.iter().map(|(_, theirs)| theirs.as_raw_fd().to_string()));
        command.envs(plan.environ.iter().map(|(name, value)| (name, value)));
        command.env("PYTHONUNBUFFERED", "1").env("PYTHONFAULTHANDLER", "1").stdin(Stdio::null()).process_group(0);
        if plan.output.is_some() {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        let printed = plan.output.as_ref().map(|output| Printed::follow(&mut child, output));
        watch(child, pid, printed, inbox.clone());
        let mut ours = pairs.into_iter().map(|(ours, _)| ours);
        let mut next = || ours.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let control = serve(next()?, "control", inbox, |message, _, limits| {
            FacadeNews::decode(message, limits).map(FromExecutor::Facade)
        });
        let questions = serve(next()?, "a question", inbox, |message, _, limits| {
            Inquiry::decode(message, limits).map(FromExecutor::Inquiry)
        });
        let porter = serve(next()?, "an export", inbox, of_porter);
        let slots = (0..plan.slots).zip(ours).map(|(slot, stream)| {
            let mut kinds = KindTable::default();
            serve(stream, "an answer", inbox, move |message, _, limits| {
                kinds.slot_news(message, limits).map(|news| FromExecutor::Slot { slot, news })
            })
        });
        let executor = Self { pid, slots: slots.collect(), porter, control, questions };
        executor.tell(&ToControl::Hello(hello));
        Ok(executor)
    }

    /// To the facade.
    pub fn tell(&self, news: &ToControl<'_>) {
        self.control.send(news.encode());
    }

    /// To the porter.
    pub fn port(&self, order: &ToPorter<'_>) {
        self.porter.send(order.encode());
    }

    /// To a slot.
    pub fn hand(&self, slot: usize, runs: Message) {
        if let Some(outlet) = self.slots.get(slot) {
            outlet.send(runs);
        }
    }

    /// Wakes threads that wait for a run.
    pub fn nudge(&self) {
        for slot in &self.slots {
            slot.send(Message::from_value(&Value::Array(Vec::new())));
        }
    }

    /// The answer to a question.
    pub fn answer(&self, answer: Message) {
        self.questions.send(answer);
    }

    /// The answer to [`Inquiry::Frames`]: what stems from this order, and values as far as they are here. Returns the places
    /// of those whose files cannot be read.
    pub fn answer_values(&self, stamp: u64, values: Vec<Option<Payload>>) -> Vec<usize> {
        let (mut files, mut lost) = (Vec::new(), Vec::new());
        let place = |(at, value)| match value {
            None => Place::Nowhere,
            Some(Payload::Here(payload)) => Place::Inline(payload),
            Some(Payload::Filed(filed)) => match filed.opened() {
                Ok(file) => {
                    files.push(file);
                    let (head, lengths) = (filed.head.clone(), filed.lengths.clone());
                    Place::InFile { head, lengths, on_disk: filed.segment.is_on_disk() }
                }
                Err(_) => {
                    lost.push(at);
                    Place::Lost
                }
            },
        };
        let places: Vec<Place> = values.into_iter().enumerate().map(place).collect();
        self.questions.send_with_files(inquiry_answer(stamp, &places), files);
        lost
    }

    /// At once, with whatever it started.
    pub fn kill(&self) {
        kill_group(self.pid);
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve<T: From<FromExecutor> + Send + 'static>(
    stream: UnixStream,
    what: &'static str,
    inbox: &mpsc::UnboundedSender<T>,
    mut decode: impl FnMut(&Message, &mut Bundles, &Limits) -> Result<FromExecutor, WireError> + Send + 'static,
) -> Outlet {
    let (inbox, limits) = (inbox.clone(), Limits::default());
    socket::serve(stream, move |message, bundles| {
        let news = message.and_then(|message| decode(&message, bundles, &limits));
        let is_good = news.is_ok();
        let news = news.unwrap_or_else(|error| FromExecutor::Malformed { what, error });
        inbox.send(news.into()).is_ok() && is_good
    })
}

/// Values, those in files with their descriptors.
fn of_porter(message: &Message, bundles: &mut Bundles, limits: &Limits) -> Result<FromExecutor, WireError> {
    let (number, places) = match PorterNews::decode(message, limits)? {
        PorterNews::Exported { number, places } => (number, places),
        PorterNews::Spilled { number, outcomes } => return Ok(FromExecutor::Spilled { number, outcomes }),
    };
    let in_files = places.iter().filter(|place| matches!(place, Place::InFile { .. })).count();
    let descriptors = if in_files > 0 { bundles.pop_front().unwrap_or_default() } else { Vec::new() };
    if in_files != descriptors.len() {
        return Ok(FromExecutor::Exported { number, values: None });
    }
    let mut descriptors = descriptors.into_iter();
    let value = |place| {
        Ok(match place {
            Place::Nowhere | Place::Lost => None,
            Place::Inline(payload) => Some(Payload::Here(payload)),
            Place::InFile { head, lengths, .. } => {
                let short = WireError::Unexpected { what: "a file that holds these frames" };
                let filed = descriptors.next().and_then(|descriptor| Filed::adopt(head, lengths, descriptor).ok());
                Some(Payload::Filed(Arc::new(filed.ok_or(short)?)))
            }
        })
    };
    let values = places.into_iter().map(value).collect::<Result<_, _>>()?;
    Ok(FromExecutor::Exported { number, values: Some(values) })
}

/// For what the process said last to come out of its sockets.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// The process's handle says when it is gone; its sockets do not, because a task's children may hold them open.
fn watch<T: From<FromExecutor> + Send + 'static>(
    mut child: tokio::process::Child,
    pid: u32,
    printed: Option<Printed>,
    inbox: mpsc::UnboundedSender<T>,
) {
    tokio::spawn(async move {
        let how = tokio::select! {
            status = child.wait() => status.map_or_else(|why| why.to_string(), describe),
            // Nobody listens any more, and nobody holds the handle.
            () = inbox.closed() => {
                kill_group(pid);
                let _reaped = child.wait().await;
                if let Some(printed) = printed {
                    printed.end().await;
                }
                return;
            }
        };
        kill_group(pid);
        // What it said before it went is told before its end.
        sleep(LAST_WORDS).await;
        let last_lines = match printed {
            Some(printed) => printed.end().await,
            None => Vec::new(),
        };
        // One that ended by itself may have said why.
        let last = last_lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
        let how = match last.filter(|_| how.starts_with(EXIT_CODE)) {
            Some(line) => format!("{how} ({})", line.chars().take(LINE_CHARS).collect::<String>()),
            None => how,
        };
        let _nobody = inbox.send(FromExecutor::Ended { how }.into());
    });
}

const EXIT_CODE: &str = "exit code";
/// Of the last line that it printed, told with its exit code.
const LINE_CHARS: usize = 200;

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("{EXIT_CODE} {code}"),
        (None, Some(9)) => "killed by SIGKILL (often the system's memory limit)".to_owned(),
        (None, Some(11)) => "crashed with SIGSEGV".to_owned(),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn kill_group(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) {
        let _already_gone = kill_process_group(pid, Signal::KILL);
    }
}
