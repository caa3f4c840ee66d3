//! A worker's nanny, to schedulers and clients: it listens, registers, and lives longer than its worker.
//!
//! The node restarts the worker itself; Python is needed only for plugins and for what clients run on nannies, and is
//! started when the first of these comes. Source: `distributed/nanny.py`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::NodeError;
use super::input::{ForPeer, Inbox, NodeInput, PeerCall};
use super::keeper::{Keeper, Life};
use super::peer::{Desk, acceptor};
use super::plan::WorkerPlan;
use super::reach::{announced, connect, listen};
use crate::base::{Limits, Text, Value};
use crate::executor::{Executor, ExecutorPlan, ExecutorRole, FacadeNews, FromExecutor, Inquiry, ToControl};
use crate::net::{Connection, NetError, Pool};
use crate::wire::Message;

/// For the scheduler to answer the registration.
const REGISTER: Duration = Duration::from_secs(120);
/// For Python to import Dask on a busy machine, and for plugins that install what workers need.
const PLUGGED: Duration = Duration::from_secs(900);
/// For plugins to be torn down, before their process is killed.
const WIND_UP: Duration = Duration::from_secs(3);

/// What the next executor's environment has: variables, and folders of modules.
type Environ = Arc<Mutex<Vec<(String, String)>>>;

/// A worker's nanny. It stops listening when it is dropped.
#[derive(Debug)]
pub struct Nanny {
    address: Text,
    keeper: Arc<Keeper>,
    environ: Environ,
    _tasks: JoinSet<()>,
    /// Its Python, and what tells it to end.
    helper: JoinSet<()>,
    closing: oneshot::Sender<()>,
}

impl Nanny {
    /// Listens, registers with the scheduler and sets up the plugins that it knows.
    ///
    /// Errors: no scheduler in time, no port.
    pub async fn start(plan: &WorkerPlan, ports: (u16, u16)) -> Result<Self, NodeError> {
        let pool = Pool::patient(Arc::new(Limits::default()), plan.tls.clone(), plan.connect);
        let mut registration = connect(&pool, plan).await?;
        let listener = listen(plan, ports, &registration.peer.local).await?;
        let at = listener.local_addr();
        let address = announced(plan, at, &registration.peer.local)?;
        let (keeper, environ) = (Arc::new(Keeper::new()), Arc::new(Mutex::new(plan.environ.clone())));
        let (sender, inbox) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let desk = Desk::Nanny(keeper.clone());
        tasks.spawn(listener.run(Arc::new(acceptor(plan, at.ip(), sender.clone(), desk, &address))));
        let plugins = register(plan, &address, &mut registration).await?;
        let (plugged, all_plugged) = oneshot::channel();
        let mut helper = Helper {
            plan: plan.clone(),
            address: address.clone(),
            plugins,
            environ: environ.clone(),
            keeper: keeper.clone(),
            sender,
            executor: None,
            relays: HashMap::new(),
            plugged: Some(plugged),
        };
        let has_plugins = helper.plugins.fields().is_some_and(|plugins| !plugins.is_empty());
        if has_plugins || !plan.preload_nanny.is_empty() {
            helper.start();
        } else {
            helper.plugged = None;
        }
        let (closing, told) = oneshot::channel();
        let mut its_python = JoinSet::new();
        its_python.spawn(helper.run(inbox, told));
        // Without plugins nobody says anything, and that is told at once.
        let _plugged = timeout(PLUGGED, all_plugged).await;
        let first = keeper.clone();
        tasks.spawn(async move {
            first.is_up().await;
            registration.outbox.send(Message::from_value(&Value::map([("status", "ok".into())])));
            registration.outbox.close();
            registration.outbox.closed().await;
        });
        Ok(Self { address, keeper, environ, _tasks: tasks, helper: its_python, closing })
    }

    /// The next life of the worker, and what it is to be in it.
    pub fn next_life(&self, plan: &WorkerPlan) -> (WorkerPlan, Life) {
        let environ = self.environ.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let plan = WorkerPlan { nanny: Some(self.address.clone()), environ, ..plan.clone() };
        (plan, self.keeper.next_life())
    }

    /// The last worker is gone: plugins and preloaded modules are torn down.
    pub async fn close(mut self) {
        drop(self.closing);
        let _killed_when_late = timeout(WIND_UP, self.helper.join_next()).await;
    }

    /// The worker that ended was the last: somebody said so.
    pub fn stays_down(&self) -> bool {
        self.keeper.stays_down()
    }
}

/// Says that there is a nanny; the scheduler answers with the plugins of nannies, and waits on this connection until the
/// worker is up.
async fn register(plan: &WorkerPlan, address: &Text, connection: &mut Connection) -> Result<Value, NodeError> {
    let hello = Value::map([("op", "register_nanny".into()), ("address", Value::Str(address.clone()))]);
    connection.outbox.send(Message::from_value(&hello));
    let gone = |why| NodeError::NoScheduler { address: plan.scheduler.clone(), why };
    let answer = timeout(REGISTER, connection.reader.recv()).await;
    let answer = answer.map_err(|_| gone(NetError::Timeout { waited_ms: REGISTER.as_millis() as u64 }))?;
    let answer = answer.map_err(gone)?.ok_or_else(|| gone(NetError::Closed))?;
    let answer = answer.to_value(&Limits::default()).map_err(|error| gone(error.into()))?;
    Ok(answer.get("nanny-plugins").cloned().unwrap_or(Value::Nil))
}

/// The Python of a nanny, if it is needed.
struct Helper {
    plan: WorkerPlan,
    address: Text,
    /// Pickles by name, for its start.
    plugins: Value,
    environ: Environ,
    keeper: Arc<Keeper>,
    sender: Inbox,
    executor: Option<Executor>,
    relays: HashMap<u64, mpsc::UnboundedSender<ForPeer>>,
    /// Told, or dropped, when the plugins that the scheduler knew are set up.
    plugged: Option<oneshot::Sender<()>>,
}

impl Helper {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<NodeInput>, mut told: oneshot::Receiver<()>) {
        let mut is_closing = false;
        while !is_closing || self.executor.is_some() {
            let input = tokio::select! {
                Some(input) = inbox.recv() => input,
                _ = &mut told, if !is_closing => {
                    is_closing = true;
                    if let Some(executor) = &self.executor {
                        executor.tell(&ToControl::Close { reason: "nanny-close" });
                    }
                    continue;
                }
            };
            match input {
                NodeInput::Executor(FromExecutor::Ended { .. }) if is_closing => return,
                NodeInput::Call(call) => self.on_call(call),
                NodeInput::Executor(news) => self.on_news(news),
                // A nanny has no stream and fetches nothing.
                NodeInput::Orders(_)
                | NodeInput::StreamEnded { .. }
                | NodeInput::Spilled { .. }
                | NodeInput::Fetched { .. }
                | NodeInput::Beat { .. } => {}
            }
        }
    }

    fn start(&mut self) {
        let environ = self.environ.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let plan = ExecutorPlan {
            role: ExecutorRole::Nanny,
            python: self.plan.python.clone(),
            run_dir: self.plan.run_dir.clone(),
            slots: 0,
            environ,
            output: self.plan.output.clone(),
            cgroup: self.plan.cgroup.clone(),
        };
        let hello = self.plan.hello_of_nanny(&self.address, &self.plugins);
        match Executor::start(&plan, hello, &self.sender) {
            Ok(executor) => self.executor = Some(executor),
            Err(error) => {
                tracing::error!(nanny = %self.address, %error, "the Python process of a nanny cannot be started");
                self.plugged = None;
            }
        }
    }

    fn on_call(&mut self, call: PeerCall) {
        match call {
            PeerCall::Relay { connection, peer, message, back } => {
                if self.executor.is_none() {
                    self.start();
                }
                match &self.executor {
                    Some(executor) => {
                        executor.tell(&ToControl::Request { connection, peer: &peer, message: &message });
                        self.relays.insert(connection, back);
                    }
                    None => drop(back.send(ForPeer::Hangup)),
                }
            }
            PeerCall::Gone { connection } => {
                self.relays.remove(&connection);
                if let Some(executor) = &self.executor {
                    executor.tell(&ToControl::Gone { connection });
                }
            }
            // Not asked of nannies.
            PeerCall::GetData { .. }
            | PeerCall::Sent { .. }
            | PeerCall::UpdateData { .. }
            | PeerCall::FreeKeys { .. }
            | PeerCall::Lost { .. }
            | PeerCall::Terminate => {}
        }
    }

    fn on_news(&mut self, news: FromExecutor) {
        match news {
            FromExecutor::Facade(FacadeNews::Answer { connection, message }) => {
                self.tell_peer(connection, ForPeer::Message(message));
            }
            FromExecutor::Facade(FacadeNews::Hangup { connection }) => self.tell_peer(connection, ForPeer::Hangup),
            FromExecutor::Facade(FacadeNews::Plugged) => self.plugged = None,
            FromExecutor::Inquiry(Inquiry::Environ { vars, path }) => {
                *self.environ.lock().unwrap_or_else(PoisonError::into_inner) = environ(&vars, &path);
                self.answer(Message::from_value(&Value::Nil));
            }
            FromExecutor::Inquiry(Inquiry::Worker) => {
                let pair = |(address, pid)| Value::Array(vec![Value::Str(address), i64::from(pid).into()]);
                self.answer(Message::from_value(&self.keeper.worker().map_or(Value::Nil, pair)));
            }
            FromExecutor::Ended { how } => self.lose(&how),
            FromExecutor::Malformed { what, error } => {
                self.lose(&format!("it sent {what} that cannot be read: {error}"))
            }
            FromExecutor::Inquiry(_) => {
                if let Some(executor) = &self.executor {
                    let _nothing = executor.answer_values(0, Vec::new());
                }
            }
            FromExecutor::Facade(_)
            | FromExecutor::Slot { .. }
            | FromExecutor::Exported { .. }
            | FromExecutor::Spilled { .. } => {}
        }
    }

    fn answer(&self, answer: Message) {
        if let Some(executor) = &self.executor {
            executor.answer(answer);
        }
    }

    fn tell_peer(&self, connection: u64, word: ForPeer) {
        if let Some(back) = self.relays.get(&connection) {
            let _gone = back.send(word);
        }
    }

    /// Its plugins are gone with it. What they did to the environment stays.
    fn lose(&mut self, how: &str) {
        if self.executor.take().is_some() {
            tracing::error!(nanny = %self.address, how, "the Python process of a nanny ended; its plugins are gone");
        }
        self.plugged = None;
        for (_, back) in self.relays.drain() {
            let _gone = back.send(ForPeer::Hangup);
        }
    }
}

/// Variables and folders of modules as an environment.
fn environ(vars: &[(Text, Text)], path: &[Text]) -> Vec<(String, String)> {
    let mut environ: Vec<(String, String)> =
        vars.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    if !path.is_empty() {
        let before = environ.iter().position(|(name, _)| name == "PYTHONPATH").map(|at| environ.remove(at).1);
        let before = before.or_else(|| std::env::var("PYTHONPATH").ok()).filter(|text| !text.is_empty());
        let folders: Vec<&str> = path.iter().map(|folder| &**folder).chain(before.as_deref()).collect();
        environ.push(("PYTHONPATH".to_owned(), folders.join(":")));
    }
    environ
}
