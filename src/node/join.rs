//! How a worker comes to be: finds its scheduler, listens, starts its executor, registers.
//!
//! Source: `distributed/worker.py`, `start_unsafe`, `_register_with_scheduler`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::beat::Beats;
use super::driver::{Driver, NodeStatus, Settings, Traffic};
use super::error::NodeError;
use super::input::NodeInput;
use super::moving::Spilling;
use super::plan::WorkerPlan;
use super::reach::{announced, connect, listen};
use super::store::Store;
use crate::base::{Limits, Text, Value};
use crate::clock::{self, Clock};
use crate::executor::{Executor, ExecutorPlan, ExecutorRole, FacadeNews, FromExecutor, ToControl};
use crate::net::{Connection, Listener, MessageReader, NetError, Pool};
use crate::wire::{Message, MessageBatch};
use crate::worker_state::{MachineConfig, WorkerMachine};

/// For the scheduler to answer the registration.
const REGISTER: Duration = Duration::from_secs(120);
/// For Python to import Dask on a busy machine.
const READY: Duration = Duration::from_secs(300);

/// A registered worker.
pub(super) struct Joined {
    pub(super) driver: Driver,
    pub(super) inbox: mpsc::UnboundedReceiver<NodeInput>,
    pub(super) orders: MessageReader,
    pub(super) listener: Listener,
}

/// Does all of it. `started`: hears the executor's process id. Errors: no scheduler in time, no port, no executor; the
/// scheduler refuses.
pub(super) async fn join(plan: &WorkerPlan, started: impl FnOnce(u32)) -> Result<Joined, NodeError> {
    let pool = Pool::patient(Arc::new(Limits::default()), plan.tls.clone(), plan.connect);
    let first = connect(&pool, plan).await?;
    let local = first.peer.local.clone();
    drop(first);
    let listener = listen(plan, plan.ports, &local).await?;
    let address = match &plan.contact {
        Some(contact) => contact.clone(),
        None => announced(plan, listener.local_addr(), &local)?,
    };
    let (sender, mut inbox) = mpsc::unbounded_channel();
    let id = format!("Worker-{}", clock::uuid_v4_text());
    let executor_plan = ExecutorPlan {
        role: ExecutorRole::Worker,
        python: plan.python.clone(),
        run_dir: plan.run_dir.clone(),
        slots: plan.nthreads,
        environ: plan.environ.clone(),
        output: plan.output.clone(),
        cgroup: plan.cgroup.clone(),
    };
    let executor = Executor::start(&executor_plan, plan.hello(&address, &id), &sender).map_err(NodeError::Executor)?;
    started(executor.pid);
    let ready = timeout(READY, ready(&mut inbox)).await;
    let ready = ready.map_err(|_| NodeError::NeverReady { how: format!("nothing came for {READY:?}") })??;
    let Connection { reader, outbox, .. } = connect(&pool, plan).await?;
    let config = machine_config(plan, &address, &ready.settings);
    let mut settings = Settings::of(&ready.settings);
    if plan.nanny.is_none() {
        // It is the nanny that ends workers.
        settings.terminate = 0.0;
    }
    let clock = Clock::start();
    let mut driver = Driver {
        address,
        scheduler: plan.scheduler.clone(),
        folder: Path::new(&*ready.local_directory).into(),
        nthreads: plan.nthreads,
        memory_limit: plan.memory_limit,
        settings,
        clock,
        clock_offset: 0.0,
        machine: WorkerMachine::new(config),
        status: NodeStatus::Running,
        store: Store::default(),
        specs: HashMap::new(),
        runs: HashMap::new(),
        stamp: 0,
        failed: None,
        executor,
        stream: outbox,
        pool,
        inbox: sender,
        batches: (0..plan.nthreads).map(|_| MessageBatch::new()).collect(),
        drops: Vec::new(),
        errors: Vec::new(),
        exports: HashMap::new(),
        export_waiters: HashMap::new(),
        relays: HashMap::new(),
        spilling: Spilling::default(),
        traffic: Traffic::default(),
        heartbeat: Beats::new(clock.now()),
        number: 0,
        end: None,
    };
    let orders = register(&mut driver, plan, &ready, &id, reader).await?;
    Ok(Joined { driver, inbox, orders, listener })
}

/// What the facade says when it can serve.
struct Ready {
    settings: Value,
    local_directory: Text,
    versions: Value,
}

async fn ready(inbox: &mut mpsc::UnboundedReceiver<NodeInput>) -> Result<Ready, NodeError> {
    loop {
        match inbox.recv().await {
            Some(NodeInput::Executor(FromExecutor::Facade(FacadeNews::Ready {
                settings,
                local_directory,
                versions,
            }))) => {
                let versions = versions.to_value(&Limits::default());
                let versions = versions.map_err(|error| NodeError::NeverReady { how: error.to_string() })?;
                return Ok(Ready { settings, local_directory, versions });
            }
            Some(NodeInput::Executor(FromExecutor::Facade(FacadeNews::Unfit { reason }))) => {
                return Err(NodeError::Unfit { reason: reason.to_string() });
            }
            Some(NodeInput::Executor(FromExecutor::Ended { how })) => return Err(NodeError::NeverReady { how }),
            Some(NodeInput::Executor(FromExecutor::Malformed { what, error })) => {
                return Err(NodeError::NeverReady { how: format!("it sent {what} that cannot be read: {error}") });
            }
            // A preload that logs an event: nobody is there yet to hear it.
            Some(_) => {}
            None => return Err(NodeError::NeverReady { how: "its sockets are gone".to_owned() }),
        }
    }
}

fn machine_config(plan: &WorkerPlan, address: &Text, told: &Value) -> MachineConfig {
    let number = |name: &str| told.get(name).and_then(Value::as_i64).and_then(|number| u64::try_from(number).ok());
    let default = MachineConfig::default();
    let transfer = told.get("transfer").and_then(Value::as_f64).filter(|share| *share > 0.0);
    let incoming_bytes_max = match (plan.memory_limit, transfer) {
        (Some(limit), Some(share)) => (limit as f64 * share) as u64,
        (None, _) | (_, None) => u64::MAX,
    };
    MachineConfig {
        address: address.clone(),
        slots: plan.nthreads,
        resources: plan.resources.clone(),
        incoming_count_max: number("outgoing").and_then(|most| u32::try_from(most).ok()).unwrap_or(50),
        incoming_bytes_max,
        message_bytes_max: number("message_bytes").unwrap_or(default.message_bytes_max),
        default_size_bytes: number("default_size").unwrap_or(default.default_size_bytes),
        seed: Some(clock::random_u64()),
        ..default
    }
}

/// Says what this worker is; the answer goes to the facade, which sets up the plugins in it.
async fn register(
    driver: &mut Driver,
    plan: &WorkerPlan,
    ready: &Ready,
    id: &str,
    mut reader: MessageReader,
) -> Result<MessageReader, NodeError> {
    let now = driver.clock.wall();
    let hello = Value::map([
        ("op", "register-worker".into()),
        ("reply", false.into()),
        ("address", Value::Str(driver.address.clone())),
        ("status", "init".into()),
        ("nthreads", i64::from(plan.nthreads).into()),
        ("name", plan.name_or(&driver.address)),
        ("now", now.into()),
        ("resources", plan.amounts()),
        ("memory_limit", plan.memory_limit.into()),
        ("local_directory", Value::Str(ready.local_directory.clone())),
        ("services", Value::Map(Vec::new())),
        ("nanny", plan.nanny.clone().into()),
        ("pid", i64::from(driver.executor.pid).into()),
        ("versions", ready.versions.clone()),
        ("metrics", driver.metrics(None)),
        // `identity` shows it.
        ("extra", Value::map([("engine", "rask".into())])),
        ("stimulus_id", format!("worker-connect-{now}").into()),
        ("server_id", id.into()),
    ]);
    driver.stream.send(Message::from_value(&hello));
    let gone = |why| NodeError::NoScheduler { address: plan.scheduler.clone(), why };
    let answer = timeout(REGISTER, reader.recv()).await;
    let answer = answer.map_err(|_| gone(NetError::Timeout { waited_ms: REGISTER.as_millis() as u64 }))?;
    let answer = answer.map_err(gone)?.ok_or_else(|| gone(NetError::Closed))?;
    let body = answer.to_value(&Limits::default()).map_err(|error| gone(error.into()))?;
    if body.get("status").and_then(Value::as_str) != Some("OK") {
        let reason = body.get("message").and_then(Value::as_str).unwrap_or("it does not say why");
        return Err(NodeError::Refused { reason: reason.into() });
    }
    if let Some(warning) = body.get("warning").and_then(Value::as_str).filter(|warning| !warning.is_empty()) {
        tracing::warn!("{warning}");
    }
    if let Some(theirs) = body.get("time").and_then(Value::as_f64) {
        driver.clock_offset = theirs - f64::midpoint(now, driver.clock.wall());
    }
    driver.executor.tell(&ToControl::Registered(&answer));
    Ok(reader)
}
