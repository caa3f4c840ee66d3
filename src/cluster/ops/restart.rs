//! Requests that steer the cluster: restart, close, broadcast, scaling questions, restrictions.

use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::{error, info, warn};

use crate::base::{Failure, Text, Value, WorkerId};
use crate::cluster::codec::args;
use crate::cluster::codec::raise;
use crate::cluster::jobs::broadcast::{OnError, Target, broadcast};
use crate::cluster::jobs::{benchmark, memory_sampler};
use crate::cluster::ops::workers::{amounts, without_metrics};
use crate::cluster::ops::{Done, python, retire};
use crate::cluster::state::handle::Desk;
use crate::cluster::state::{Call, Driver, Outcome};
use crate::sched::{AmmAction, CloseWish, Event};

/// How often to look whether workers are back.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The operations of this family.
pub fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    Some(match op {
        "restart" => restart(driver, call, body),
        "restart_workers" => restart_workers(driver, call, body),
        "retire_workers" => retire::start(driver, call, body),
        "workers_to_close" => workers_to_close(driver, call, body),
        "adaptive_target" => adaptive_target(driver, body).into(),
        "terminate" => terminate(driver, call),
        "unregister" => unregister(driver, body).into(),
        "broadcast" => start_broadcast(driver, call, body),
        "proxy" => proxy(driver, call, body),
        "subscribe_worker_status" => subscribe(driver, call),
        "check_idle" => Done::Now(Ok(idle_since(driver).into())),
        "set_resources" => set_resources(driver, body).into(),
        "set_restrictions" => set_restrictions(driver, body).into(),
        "amm_handler" => amm(driver, body).into(),
        "benchmark_hardware" => benchmark::start(driver, call),
        "memory_sampler_start" => memory_sampler::start(driver, body).into(),
        "memory_sampler_stop" => memory_sampler::stop(driver, body).into(),
        _ => return None,
    })
}

// ---- restarting -----------------------------------------------------------------------------------------------

fn restart(driver: &mut Driver, call: Call, body: &Value) -> Done {
    info!("restarting: every task is forgotten");
    driver.apply(Event::Restart);
    driver.task_notes.on_restart();
    driver.end_progress();
    driver.hook("restart", Vec::new(), Value::Map(Vec::new()));
    match Restart::parse(driver, body) {
        Ok(wish) => {
            let desk = driver.desk.clone();
            driver.job(call, async move { wish.run(desk).await.map(|_| Value::Nil) })
        }
        Err(failure) => Done::Now(Err(failure)),
    }
}

fn restart_workers(driver: &mut Driver, call: Call, body: &Value) -> Done {
    match Restart::parse(driver, body) {
        Ok(wish) => {
            let desk = driver.desk.clone();
            driver.job(call, wish.run(desk))
        }
        Err(failure) => Done::Now(Err(failure)),
    }
}

/// A worker that said nothing for longer than its TTL: its nanny restarts it, or it is given up.
pub fn restart_silent(driver: &mut Driver, worker: WorkerId) {
    let Some(address) = driver.address_of(worker) else { return };
    info!(worker = %address, "restarting a silent worker through its nanny, or removing it");
    let wish = Restart {
        workers: vec![worker],
        timeout_secs: 30.0,
        wait: false,
        raise: false,
        client: None,
        stimulus: "check-worker-ttl".into(),
    };
    let desk = driver.desk.clone();
    tokio::spawn(async move {
        if let Err(failure) = wish.run(desk).await {
            error!(?failure, "a silent worker could not be restarted");
        }
    });
}

struct Restart {
    workers: Vec<WorkerId>,
    timeout_secs: f64,
    wait: bool,
    raise: bool,
    client: Option<Text>,
    stimulus: Text,
}

impl Restart {
    fn parse(driver: &Driver, body: &Value) -> Result<Self, Failure> {
        Ok(Self {
            workers: driver.workers_meant(body.field("workers"))?,
            timeout_secs: args::timeout(body, "timeout")?.unwrap_or(30.0),
            wait: args::flag(body, "wait_for_workers", true),
            raise: OnError::parse(body.get("on_error"))? == OnError::Raise,
            client: args::optional_text(body, "client"),
            stimulus: args::optional_text(body, "stimulus_id").unwrap_or_else(|| "restart".into()),
        })
    }

    /// Kills workers through their nannies, removes those without, and waits until as many are back.
    ///
    /// Source: `distributed/scheduler.py`, `restart_workers`.
    async fn run(self, desk: Desk) -> Outcome {
        let deadline = desk.clock().now().plus_secs(self.timeout_secs);
        let ids = self.workers.clone();
        let seen = desk.ask(move |driver| split_by_nanny(driver, &ids)).await;
        let Some((count_before, with_nanny, without)) = seen else { return Ok(Value::Nil) };
        let mut out: Vec<(Text, &'static str)> = without.iter().cloned().map(|address| (address, "removed")).collect();
        let body =
            Value::map([("op", "kill".into()), ("reason", Value::Str(self.stimulus.clone())), ("reply", true.into())]);
        let timeout = Duration::from_secs_f64(self.timeout_secs.clamp(0.001, 1e6));
        let kills = with_nanny.iter().map(|target| desk.call(&target.address, &body, timeout));
        let mut stuck = Vec::new();
        for (target, answer) in with_nanny.iter().zip(join_all(kills).await) {
            match answer {
                Ok(_) => out.push((target.name.clone(), "OK")),
                Err(error) => {
                    warn!(worker = %target.name, %error, "a nanny did not restart its worker");
                    stuck.push(target.name.clone());
                    out.push((target.name.clone(), "timed out"));
                }
            }
        }
        if !stuck.is_empty() {
            let (count, all, names) = (stuck.len(), with_nanny.len(), stuck.join(", "));
            desk.ask(move |driver| remove_all(driver, &stuck)).await;
            if self.raise {
                let text = format!("{count}/{all} nanny worker(s) did not shut down in time: {names}");
                return Err(raise("TimeoutError", text));
            }
        }
        self.log(&desk, &out).await;
        if !self.wait {
            return Ok(statuses(&out));
        }
        loop {
            let count = desk.ask(|driver| driver.sched.counts().workers).await.unwrap_or(usize::MAX);
            if count >= count_before {
                return Ok(statuses(&out));
            }
            if desk.clock().now() >= deadline {
                return self.give_up(&desk, count_before, count, &without, with_nanny, out).await;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn log(&self, desk: &Desk, out: &[(Text, &'static str)]) {
        let workers = Value::Array(out.iter().map(|(address, _)| Value::Str(address.clone())).collect());
        let client = self.client.clone();
        desk.tell(move |driver| {
            let message = Value::map([
                ("action", "restart-workers".into()),
                ("workers", workers),
                ("client", client.clone().into()),
            ]);
            let mut topics: Vec<Text> = vec!["all".into()];
            topics.extend(client);
            driver.log_event(&topics, &message);
        })
        .await;
    }

    async fn give_up(
        &self,
        desk: &Desk,
        wanted: usize,
        count: usize,
        without: &[Text],
        with_nanny: Vec<Target>,
        mut out: Vec<(Text, &'static str)>,
    ) -> Outcome {
        let mut text = format!(
            "Waited for {} worker(s) to reconnect after restarting but, after {}s, {} have not returned. Consider a \
             longer timeout, or `wait_for_workers=False`.",
            out.len(),
            self.timeout_secs,
            wanted.saturating_sub(count)
        );
        if !without.is_empty() {
            text.push_str(&format!(
                " The {} worker(s) without a nanny were shut down and can't come back by themselves.",
                without.len()
            ));
        }
        if self.raise {
            return Err(raise("TimeoutError", text));
        }
        let nannies = desk
            .ask(|driver| driver.sched.workers().iter().filter_map(|view| view.nanny.cloned()).collect::<Vec<Text>>())
            .await
            .unwrap_or_default();
        for target in with_nanny.iter().filter(|target| !nannies.contains(&target.address)) {
            if let Some(entry) = out.iter_mut().find(|(address, _)| *address == target.name) {
                entry.1 = "timed out";
            }
        }
        Ok(statuses(&out))
    }
}

/// How many workers there are; those with a nanny; those without, which are removed at once.
fn split_by_nanny(driver: &mut Driver, ids: &[WorkerId]) -> (usize, Vec<Target>, Vec<Text>) {
    let count = driver.sched.counts().workers;
    let (mut with_nanny, mut without) = (Vec::new(), Vec::new());
    for id in ids {
        let Some(view) = driver.sched.worker(*id) else { continue };
        match view.nanny {
            Some(nanny) => with_nanny.push(Target { name: view.address.clone(), address: nanny.clone() }),
            None => without.push(view.address.clone()),
        }
    }
    if !without.is_empty() {
        driver.warn("workers without a nanny are closed and can't be restarted");
        remove_all(driver, &without);
    }
    (count, with_nanny, without)
}

fn remove_all(driver: &mut Driver, addresses: &[Text]) {
    for address in addresses {
        if let Some(worker) = driver.worker_at(address) {
            driver.remove_worker(worker, true, true, "restart");
        }
    }
}

fn statuses(out: &[(Text, &'static str)]) -> Value {
    Value::Map(out.iter().map(|(address, status)| (Value::Str(address.clone()), (*status).into())).collect())
}

// ---- scaling --------------------------------------------------------------------------------------------------

/// Which workers could be closed, by the attribute that was asked for.
fn workers_to_close(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let attribute = args::optional_text(body, "attribute").unwrap_or_else(|| "address".into());
    if body.field("key").is_none() {
        let ids = driver.sched.workers_to_close(&close_wish(body));
        return Done::Now(Ok(attributes(driver, &ids, &attribute)));
    }
    match closable_groups(driver, body) {
        Ok(groups) => {
            let desk = driver.desk.clone();
            driver.job(call, async move {
                let ids = groups.await?;
                Ok(desk.ask(move |driver| attributes(driver, &ids, &attribute)).await.unwrap_or_default())
            })
        }
        Err(failure) => Done::Now(Err(failure)),
    }
}

fn attributes(driver: &Driver, ids: &[WorkerId], attribute: &str) -> Value {
    let value = |id: &WorkerId| {
        let view = driver.sched.worker(*id)?;
        Some(match attribute {
            "name" => view.name.clone(),
            "host" => Value::Str(view.host.clone()),
            "nanny" => view.nanny.cloned().into(),
            "server_id" => Value::Str(view.server_id.clone()),
            _ => Value::Str(view.address.clone()),
        })
    };
    Value::Array(ids.iter().filter_map(value).collect())
}

/// The numbers of a wish to close workers.
pub fn close_wish(body: &Value) -> CloseWish {
    CloseWish {
        n: args::count(body, "n"),
        minimum: args::count(body, "minimum"),
        target: args::count(body, "target"),
        memory_ratio: body.field("memory_ratio").and_then(Value::as_f64),
    }
}

/// Workers to close when a Python function says which belong together: only whole groups go.
///
/// Errors: no Python to run it in, or it raises.
pub fn closable_groups(
    driver: &Driver,
    body: &Value,
) -> Result<impl Future<Output = Result<Vec<WorkerId>, Failure>> + Send + use<>, Failure> {
    let pyhost = python::python(driver)?;
    let wish = close_wish(body);
    let request = Value::map([
        ("function", body.get("key").cloned().unwrap_or_default()),
        ("workers", Value::Array(driver.worker_addresses().into_iter().map(Value::Str).collect())),
        ("snapshot", python::snapshot(driver)),
    ]);
    let desk = driver.desk.clone();
    Ok(async move {
        let answer = pyhost.call("keycall", request).await?;
        let groups: Vec<Vec<Text>> = answer
            .get("groups")
            .and_then(Value::items)
            .unwrap_or_default()
            .iter()
            .map(|group| args::texts(Some(group)))
            .collect();
        let closed = desk.ask(move |driver| {
            let wanted = driver.sched.workers_to_close(&wish);
            let addresses: Vec<Text> = wanted.iter().filter_map(|id| driver.address_of(*id)).collect();
            let whole = groups.iter().filter(|group| group.iter().all(|address| addresses.contains(address)));
            whole.flatten().filter_map(|address| driver.worker_at(address)).collect()
        });
        Ok(closed.await.unwrap_or_default())
    })
}

fn adaptive_target(driver: &Driver, body: &Value) -> Outcome {
    let secs = args::timeout(body, "target_duration")?.unwrap_or(DEFAULT_TARGET_SECS);
    Ok(driver.sched.adaptive_target(secs).into())
}

/// Source: `distributed.adaptive.target-duration`. Unit: seconds.
pub const DEFAULT_TARGET_SECS: f64 = 5.0;

/// Since when nothing happens. Unit: seconds since the epoch.
pub fn idle_since(driver: &Driver) -> Option<f64> {
    if driver.graphs.open_count() > 0 {
        return None;
    }
    driver.sched.idle_since_us().map(|us| driver.clock.started_wall() + us as f64 / 1e6)
}

// ---- leaving --------------------------------------------------------------------------------------------------

fn terminate(driver: &mut Driver, call: Call) -> Done {
    driver.finish(call, Ok(Value::Nil));
    driver.close_because("unknown");
    Done::Later
}

fn unregister(driver: &mut Driver, body: &Value) -> Outcome {
    let address = args::text(body, "address")?;
    let alias = Value::Str(address.clone());
    let Some(worker) = driver.worker_at(&address).or_else(|| driver.sched.worker_by_alias(&alias)) else {
        return Ok("already-removed".into());
    };
    let expected = args::flag(body, "expected", false);
    let close = args::flag(body, "close", true);
    driver.remove_worker(worker, expected, close, "unregister");
    Ok("OK".into())
}

// ---- messages to workers --------------------------------------------------------------------------------------

fn start_broadcast(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let parsed =
        targets(driver, body).and_then(|targets| Ok((targets, message(body)?, OnError::parse(body.get("on_error"))?)));
    match parsed {
        Ok((targets, message, on_error)) => {
            let desk = driver.desk.clone();
            driver.job(call, broadcast(desk, targets, message, on_error))
        }
        Err(failure) => Done::Now(Err(failure)),
    }
}

fn message(body: &Value) -> Result<Value, Failure> {
    match body.get("msg") {
        Some(message @ Value::Map(_)) => Ok(message.clone()),
        _ => Err(raise("TypeError", "msg must be a map with op")),
    }
}

/// Whom a broadcast is for: `workers`, plus all on `hosts`, or everyone; nannies under their workers' addresses.
fn targets(driver: &Driver, body: &Value) -> Result<Vec<Target>, Failure> {
    let hosts = body.field("hosts").map(|hosts| args::texts(Some(hosts)));
    let mut addresses: Vec<Text> = match (body.field("workers"), &hosts) {
        (Some(workers), _) => args::texts(Some(workers)),
        (None, None) => driver.worker_addresses(),
        (None, Some(_)) => Vec::new(),
    };
    if let Some(hosts) = hosts {
        let views = driver.sched.workers();
        addresses.extend(views.iter().filter(|view| hosts.contains(view.host)).map(|view| view.address.clone()));
    }
    if !args::flag(body, "nanny", false) {
        return Ok(addresses.into_iter().map(|address| Target { name: address.clone(), address }).collect());
    }
    let mut nannies = Vec::new();
    for name in addresses {
        let worker = driver.worker_at(&name).and_then(|id| driver.sched.worker(id));
        let view = worker.ok_or_else(|| Failure::Raised(crate::base::PyError::MissingKey(Value::Str(name.clone()))))?;
        if let Some(nanny) = view.nanny {
            nannies.push(Target { name, address: nanny.clone() });
        }
    }
    Ok(nannies)
}

fn proxy(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let parsed = args::text(body, "worker").and_then(|worker| Ok((worker, message(body)?)));
    match parsed {
        Ok((worker, message)) => {
            let desk = driver.desk.clone();
            driver.job(call, async move {
                let target = Target { name: worker.clone(), address: worker };
                match broadcast(desk, vec![target], message, OnError::Raise).await? {
                    Value::Map(fields) => Ok(fields.into_iter().next().map(|(_, answer)| answer).unwrap_or_default()),
                    other => Ok(other),
                }
            })
        }
        Err(failure) => Done::Now(Err(failure)),
    }
}

/// From now on this connection is told when workers come and go.
fn subscribe(driver: &mut Driver, call: Call) -> Done {
    let mut identity = crate::cluster::ops::info::identity(driver, None);
    if let Value::Map(fields) = &mut identity {
        for (name, value) in fields {
            if name.as_str() == Some("workers")
                && let Value::Map(workers) = value
            {
                for (_, worker) in workers {
                    *worker = without_metrics(std::mem::take(worker));
                }
            }
        }
    }
    driver.finish(call, Ok(identity));
    if let Some(found) = driver.conns.get(&call.conn) {
        driver.watchers.push(found.line.outbox.clone());
    }
    Done::Later
}

// ---- placement ------------------------------------------------------------------------------------------------

fn set_resources(driver: &mut Driver, body: &Value) -> Outcome {
    let address = args::text(body, "worker")?;
    let worker = driver
        .worker_at(&address)
        .ok_or_else(|| Failure::Raised(crate::base::PyError::MissingKey(Value::Str(address))))?;
    let resources = amounts(body.get("resources").unwrap_or(&Value::Nil));
    driver.apply(Event::SetResources { worker, resources });
    Ok("OK".into())
}

fn set_restrictions(driver: &mut Driver, body: &Value) -> Outcome {
    let wrong = || raise("TypeError", "worker must map keys to addresses");
    let fields = body.get("worker").and_then(Value::fields).ok_or_else(wrong)?;
    let mut restrictions = Vec::with_capacity(fields.len());
    for (key, workers) in fields {
        let workers = match workers {
            Value::Str(one) => vec![one.clone()],
            many => args::texts(Some(many)),
        };
        restrictions.push((key.as_key().ok_or_else(wrong)?, workers));
    }
    driver.apply(Event::SetRestrictions { restrictions });
    Ok(Value::Nil)
}

fn amm(driver: &mut Driver, body: &Value) -> Outcome {
    let action = match body.get("method").and_then(Value::as_str) {
        Some("start") => AmmAction::Start,
        Some("stop") => AmmAction::Stop,
        Some("run_once") => AmmAction::RunOnce,
        Some("running") => return Ok(driver.sched.amm_running().into()),
        _ => return Err(raise("ValueError", "method must be start, stop, run_once or running")),
    };
    driver.apply(Event::Amm { action });
    Ok(Value::Nil)
}
