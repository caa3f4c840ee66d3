//! The commands of scripts, each turned into events for the scheduler.
//!
//! | command | what happens |
//! |---|---|
//! | `set worker-saturation=inf` | a setting, before anything else |
//! | `listen stealing` | events of this topic are shown from here on |
//! | `worker a threads=2 host=h memory=1GB resources=GPU:1 status=paused engine=rask nanny` | a worker registers; only the name is needed |
//! | `client alice` | a client connects |
//! | `wait 5s` | time passes, with every deadline in it |
//! | `look x a cluster` | says how tasks, workers and the cluster stand |
//! | `priority x` | says the priority of tasks |
//! | `adapt 5s`, `closable n=1` | asks how many workers the work wants, and which could go |
//! | `restart` | every task is forgotten |
//! | `alice submits x y<-x z[0-9]<-x,w[*]` | a graph; `[0-9]` are ten tasks, `[*]` the same index. Options: `want=` `priority=` `retries=` `workers=` `resources=GPU:1` `from=` (the submitting task) `fifo=` and `allow-other-workers` `actor` `producer` `unreadable` |
//! | `alice wants/releases/cancels/force-cancels/retries/reports x`, `alice leaves` | what clients send |
//! | `alice scatters x on a b 28B`, `alice pins x to a` | data from outside, `set_restrictions` |
//! | `alice calls event-wait e` | coordination, see [`super::coord`] |
//! | `a finishes x 28B 0.1s run=1`, `a fails x` | a run ended; `run=1` is the first sending of the key, else the last one is meant |
//! | `a dies/leaves/pauses/resumes/says-closed/closes/goes-silent/is-heard/retires/stays` | its life |
//! | `a beats memory=1GB x=2s` | a heartbeat; `x` has been running for two seconds |
//! | `a has/lost/secedes/reschedules/misses x` | `add-keys`, `release-worker-data`, `long-running`, `reschedule`, `request-refresh-who-has` |
//! | `a answers x ready` | its answer to a steal request: its state of the task, or `none` |
//! | `a provides GPU=2` | `set_resources` |
//! | `a calls shuffle-get-or-create s t[0]`, `shuffle-barrier s run=1 [inconsistent]`, `shuffle-restrict s out[0] run=1` | P2P |

use std::collections::BTreeMap;
use std::sync::Arc;

use rask::base::{
    Annotations, CallId, ClientId, Failure, GraphPart, GraphTask, Key, Now, Opaque, RunId, ShuffleLayout, ShuffleSpec,
    Text, Value, WorkerId,
};
use rask::sched::{
    Action, Actors, Answer, CloseWish, Effect, Erred, Event, Finished, GraphOpen, Heartbeat, PlacedData, SchedConfig,
    Scheduler, ShuffleRequest, StartStop, ToWorker, WorkerEngine, WorkerHello, WorkerStatus,
};

use super::words::{self, Names};

/// A command, cut into words and options.
pub struct Line<'a> {
    words: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Line<'a> {
    fn read(text: &'a str) -> Self {
        let (mut words, mut options) = (Vec::new(), Vec::new());
        for token in text.split_whitespace() {
            match token.split_once('=') {
                Some(option) => options.push(option),
                None => words.push(token),
            }
        }
        Self { words, options }
    }

    pub fn word(&self, at: usize) -> Result<&'a str, String> {
        self.words.get(at).copied().ok_or_else(|| "a word is missing at the end".to_owned())
    }

    pub fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find(|(other, _)| *other == name).map(|(_, text)| *text)
    }

    pub fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn list(&self, option: &str) -> Vec<Text> {
        self.option(option).into_iter().flat_map(|text| text.split(',')).map(Text::from).collect()
    }

    /// `GPU:1,FOO:2`.
    fn resources(&self) -> Result<Vec<(Text, f64)>, String> {
        let pair = |text: Text| {
            let (name, amount) = text.split_once(':').ok_or("resources look like GPU:1")?;
            Ok((name.into(), measure(amount)?))
        };
        self.list("resources").into_iter().map(pair).collect()
    }

    fn keys(&self) -> Result<Vec<Key>, String> {
        keys_of(&self.words.join(","))
    }
}

/// A number with its unit, in seconds or bytes.
pub fn measure(text: &str) -> Result<f64, String> {
    let end = text.find(|c: char| c.is_ascii_alphabetic() && c != 'i' && c != 'n' && c != 'f').unwrap_or(text.len());
    let factor = match &text[end..] {
        "" | "s" | "B" => 1.0,
        "ms" => 1e-3,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        unit => return Err(format!("unknown unit {unit}")),
    };
    text[..end].parse::<f64>().map(|number| number * factor).map_err(|_| format!("no number: {text}"))
}

/// Names with their index, where they have one: `x`, `x[3]`, `x[0-3]`.
fn expand(text: &str) -> Result<Vec<(&str, Option<i64>)>, String> {
    let Some((name, range)) = text.split_once('[') else { return Ok(vec![(text, None)]) };
    let range = range.trim_end_matches(']');
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("no index: {text}"));
    Ok((number(first)?..=number(last)?).map(|at| (name, Some(at))).collect())
}

fn key_of((name, at): (&str, Option<i64>)) -> Key {
    at.map_or_else(|| Key::text(name), |at| Key::tuple(&[Key::text(name), Key::int(at)]))
}

/// Keys, separated by commas.
pub fn keys_of(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        keys.extend(expand(part)?.into_iter().map(key_of));
    }
    Ok(keys)
}

/// A scheduler and what the script knows of its surroundings.
#[derive(Default)]
pub struct Stage {
    config: SchedConfig,
    sched: Option<Scheduler>,
    now: Now,
    names: Names,
    workers: BTreeMap<String, WorkerId>,
    clients: BTreeMap<String, ClientId>,
    /// Every `compute-task`, in order.
    sent: Vec<(Key, WorkerId, RunId)>,
    /// The last steal request for each key.
    steals: BTreeMap<Key, Text>,
    /// Numbers for calls and graphs.
    numbers: u64,
    said: Vec<String>,
}

type Done = Result<(), String>;

impl Stage {
    /// Does what a line says. Returns what the scheduler asks for, in words.
    pub fn command(&mut self, text: &str) -> Result<Vec<String>, String> {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let line = Line::read(rest);
        if first == "set" {
            self.set(&line)?;
            return Ok(Vec::new());
        }
        let config = &self.config;
        self.sched.get_or_insert_with(|| Scheduler::new(config.clone()));
        if let Some(&worker) = self.workers.get(first) {
            let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            self.worker_does(worker, verb, &Line::read(rest))?;
        } else if let Some(&client) = self.clients.get(first) {
            let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            self.client_does(client, verb, &Line::read(rest))?;
        } else {
            self.anybody_does(first, &line)?;
        }
        Ok(std::mem::take(&mut self.said))
    }

    fn set(&mut self, line: &Line) -> Done {
        let config = &mut self.config;
        for &(name, text) in &line.options {
            let off = text == "off";
            let secs = || if off { Ok(None) } else { measure(text).map(Some) };
            match name {
                "worker-saturation" => config.worker_saturation = measure(text)?,
                "allowed-failures" => config.allowed_failures = measure(text)? as u32,
                "bandwidth" => config.bandwidth = measure(text)?,
                "idle-timeout" => config.idle_timeout_secs = secs()?,
                "no-workers-timeout" => config.no_workers_timeout_secs = secs()?,
                "worker-ttl" => config.worker_ttl_secs = secs()?,
                "work-stealing" => config.work_stealing = !off,
                "active-memory-manager" => config.amm_start = !off,
                "task-duration" => {
                    let (prefix, secs) = text.split_once(':').ok_or("task-duration=inc:1s")?;
                    config.default_task_durations.push((prefix.into(), measure(secs)?));
                }
                other => return Err(format!("no setting {other}")),
            }
        }
        Ok(())
    }

    fn sched(&self) -> &Scheduler {
        self.sched.as_ref().expect("made by the first command")
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn call(&mut self, about: String) -> CallId {
        let call = self.number();
        self.names.calls.insert(call, about);
        call
    }

    fn step(&mut self, event: Event) -> Done {
        let mut out = Vec::new();
        let sched = self.sched.as_mut().expect("made by the first command");
        sched.step(self.now, event, &mut out);
        for effect in &out {
            if let Effect::ToWorker { worker, message } = effect {
                match message {
                    ToWorker::Compute(compute) => self.sent.push((compute.key.clone(), *worker, compute.run_id)),
                    ToWorker::StealRequest { key, stimulus } => {
                        self.steals.insert(key.clone(), stimulus.clone());
                    }
                    _ => {}
                }
            }
        }
        self.said.extend(out.iter().filter_map(|effect| self.names.effect(effect)));
        self.sched().check().map_err(|rule| format!("the scheduler broke its own rule: {rule}"))
    }

    // ---- neither client nor worker -----------------------------------------------------------------------------

    fn anybody_does(&mut self, verb: &str, line: &Line) -> Done {
        match verb {
            "listen" => {
                self.names.topics.insert(line.word(0)?.into());
                Ok(())
            }
            "worker" => self.add_worker(line),
            "client" => {
                let name = line.word(0)?;
                self.step(Event::ClientAdded { name: name.into() })?;
                let id = self.sched().client_id(name).ok_or("the client is not known")?;
                self.clients.insert(name.to_owned(), id);
                self.names.clients.insert(id, name.to_owned());
                Ok(())
            }
            "wait" => self.wait(measure(line.word(0)?)?),
            "look" => line.words.iter().try_for_each(|name| self.look(name)),
            "priority" => {
                for key in line.keys()? {
                    let told = self.sched().task(&key).and_then(|task| task.priority).map_or_else(
                        || "none".to_owned(),
                        |it| format!("user {}, generation {}, order {}", it.user + 0.0, it.generation, it.order),
                    );
                    self.said.push(format!("{}: {told}", words::key(&key)));
                }
                Ok(())
            }
            "adapt" => {
                let target = self.sched().adaptive_target(measure(line.word(0)?)?);
                self.said.push(format!("workers wanted: {target}"));
                Ok(())
            }
            "closable" => {
                let number = |name| line.option(name).map(measure).transpose().map(|it| it.map(|it| it as usize));
                let wish = CloseWish { n: number("n")?, minimum: number("minimum")?, ..CloseWish::default() };
                let ids = self.sched().workers_to_close(&wish);
                let names: Vec<&str> = ids.into_iter().map(|id| self.names.worker(id)).collect();
                self.said.push(format!("can go: {}", if names.is_empty() { "none".into() } else { names.join(" ") }));
                Ok(())
            }
            "restart" => self.step(Event::Restart),
            other => Err(format!("no worker, client or command {other}")),
        }
    }

    fn add_worker(&mut self, line: &Line) -> Done {
        let label = line.word(0)?;
        let host: Text = line.option("host").unwrap_or(label).into();
        let address: Text = line
            .option("address")
            .map_or_else(|| format!("tcp://{host}:{}", 1001 + self.workers.len()), str::to_owned)
            .into();
        let status = line.option("status").unwrap_or("running");
        let hello = WorkerHello {
            address: address.clone(),
            name: Value::str(line.option("name").unwrap_or(label)),
            host,
            nanny: line.has("nanny").then(|| "tcp://nanny:1".into()),
            nthreads: line.option("threads").map_or(Ok(1.0), measure)? as u32,
            memory_limit: line.option("memory").map_or(Ok(0.0), measure)? as u64,
            status: WorkerStatus::from_name(status).ok_or("no such status")?,
            resources: line.resources()?,
            engine: line.option("engine").map(WorkerEngine::from_name).unwrap_or_default(),
            ..WorkerHello::default()
        };
        let call = self.call(format!("register {label}"));
        // Its id is needed to say what it is sent in the same step.
        let mut probe = Vec::new();
        let sched = self.sched.as_mut().expect("made by the first command");
        sched.step(self.now, Event::AddWorker { call, worker: Box::new(hello) }, &mut probe);
        for effect in &probe {
            if let Effect::Answer { answer: Answer::Worker(id), .. } = effect {
                self.workers.insert(label.to_owned(), *id);
                self.names.workers.insert(*id, label.to_owned());
                self.names.addresses.insert(address.clone(), label.to_owned());
            }
            if let Effect::ToWorker { worker, message: ToWorker::Compute(compute) } = effect {
                self.sent.push((compute.key.clone(), *worker, compute.run_id));
            }
        }
        self.said.extend(probe.iter().filter_map(|effect| self.names.effect(effect)));
        self.sched().check()
    }

    fn wait(&mut self, secs: f64) -> Done {
        let until = self.now.plus_secs(secs);
        for _ in 0..100_000 {
            let Some(at) = self.sched().next_deadline().filter(|at| *at <= until) else {
                self.now = until;
                return Ok(());
            };
            self.now = self.now.max(at);
            self.step(Event::Tick)?;
        }
        Err("deadlines without end".to_owned())
    }

    fn look(&mut self, name: &str) -> Done {
        let sched = self.sched();
        let mut told = Vec::new();
        if name == "cluster" {
            let counts = sched.counts();
            told.push(format!("cluster: {} idle, {} saturated", counts.idle, counts.saturated));
        } else if let Some(&id) = self.workers.get(name) {
            told.push(match sched.worker(id) {
                None => format!("{name}: gone"),
                Some(worker) => {
                    let (runs, holds) = (words::keys(&sched.processing(id)), words::keys(&sched.has_what(id)));
                    let (status, load) = (worker.status.name(), worker.occupancy);
                    format!("{name}: {status}, processes [{runs}], holds [{holds}], occupancy {load:.3} s")
                }
            });
        } else {
            for key in keys_of(name)? {
                told.push(format!("{}: {}", words::key(&key), self.state_of(&key)));
            }
        }
        self.said.extend(told);
        Ok(())
    }

    fn state_of(&self, key: &Key) -> String {
        let Some(task) = self.sched().task(key) else { return "unknown".to_owned() };
        let names = |ids: &[WorkerId]| ids.iter().map(|&id| self.names.worker(id)).collect::<Vec<_>>().join(" ");
        match (task.processing_on, task.holders) {
            (Some(on), _) => format!("{} on {}", task.state, self.names.worker(on)),
            (None, []) => task.state.to_owned(),
            (None, holders) => format!("{} on {}", task.state, names(holders)),
        }
    }

    // ---- clients -------------------------------------------------------------------------------------------------

    fn client_does(&mut self, client: ClientId, verb: &str, line: &Line) -> Done {
        let event = match verb {
            "submits" => return self.submit(client, line),
            "wants" => Event::ClientDesires { client, keys: line.keys()? },
            "releases" => Event::ClientReleases { client, keys: line.keys()? },
            "cancels" | "force-cancels" => {
                let (keys, force) = (line.keys()?, verb == "force-cancels");
                Event::CancelKeys { client, keys, force, reason: Value::Nil, msg: Value::Nil }
            }
            "retries" => {
                Event::Retry { call: self.call(format!("retry {}", line.words.join(" "))), client, keys: line.keys()? }
            }
            "reports" => Event::ReportKey { client, key: line.keys()?.remove(0) },
            "leaves" => Event::ClientRemoved { client },
            "scatters" => {
                let (mut data, mut nbytes) = (Vec::new(), -1);
                let at = line.words.iter().position(|word| *word == "on").ok_or("scatters x on a 28B")?;
                let mut holders = Vec::new();
                for word in &line.words[at + 1..] {
                    match self.workers.get(*word) {
                        Some(&id) => holders.push(id),
                        None => nbytes = measure(word)? as i64,
                    }
                }
                for key in keys_of(&line.words[..at].join(","))? {
                    data.push(PlacedData { key, holders: holders.clone(), nbytes });
                }
                Event::UpdateData { client: Some(client), data }
            }
            "pins" => {
                let at = line.words.iter().position(|word| *word == "to").ok_or("pins x to a")?;
                let workers: Vec<Text> = line.words[at + 1..].iter().map(|word| Text::from(*word)).collect();
                let keys = keys_of(&line.words[..at].join(","))?;
                Event::SetRestrictions { restrictions: keys.into_iter().map(|key| (key, workers.clone())).collect() }
            }
            "calls" => {
                let (operation, rest) = (line.word(0)?, line.words.get(1..).unwrap_or_default().to_vec());
                let about = format!("{} {}", operation, rest.first().copied().unwrap_or_default());
                let request = super::coord::request(operation, &Line { words: rest, options: line.options.clone() })?;
                let call = self.call(about);
                Event::Coord { call, client: Some(client), request }
            }
            other => return Err(format!("a client can't do {other}")),
        };
        self.step(event)
    }

    fn submit(&mut self, client: ClientId, line: &Line) -> Done {
        let annotations = annotations(line)?;
        let mut tasks: Vec<GraphTask> = Vec::new();
        const FLAGS: [&str; 4] = ["allow-other-workers", "actor", "producer", "unreadable"];
        for word in line.words.iter().filter(|word| !FLAGS.contains(word)) {
            let (head, inputs) = word.split_once("<-").unwrap_or((word, ""));
            for (name, at) in expand(head)? {
                let inputs = at.map_or_else(|| inputs.to_owned(), |at| inputs.replace('*', &at.to_string()));
                tasks.push(GraphTask {
                    key: key_of((name, at)),
                    dependencies: keys_of(&inputs)?,
                    run_spec: Some(Arc::new(Opaque::default())),
                    order: Some(tasks.len() as f64),
                    data_producer: line.has("producer"),
                    annotations: annotations.clone(),
                    shuffle: None,
                });
            }
        }
        let needed: Vec<Key> = tasks.iter().flat_map(|task| task.dependencies.iter().cloned()).collect();
        for task in &mut tasks {
            let parts = needed.iter().filter(|key| **key == task.key).count() as i64;
            task.shuffle = barrier(&task.key, parts);
        }
        let wanted = match line.option("want") {
            Some(list) => keys_of(list)?,
            None => tasks.iter().map(|task| task.key.clone()).filter(|key| !needed.contains(key)).collect(),
        };
        let ticket = self.number();
        let graph = GraphOpen {
            client,
            keys: wanted.clone(),
            submitting_task: line.option("from").map(Key::text),
            fifo_timeout_secs: line.option("fifo").map_or(Ok(0.1), measure)?,
            actors: if line.has("actor") { Actors::All } else { Actors::None },
        };
        self.step(Event::GraphOpened { ticket, graph: Box::new(graph) })?;
        if line.has("unreadable") {
            return self.step(Event::GraphFailed { ticket, failure: boom("Unreadable") });
        }
        let part = GraphPart { tasks, wanted, ..GraphPart::default() };
        self.step(Event::GraphPart { ticket, part, last: true })
    }

    // ---- workers -------------------------------------------------------------------------------------------------

    /// The run that a worker speaks of: the n-th sending of the key with `run=n`, else the last one to this worker.
    fn run_of(&self, worker: WorkerId, key: &Key, line: &Line) -> Result<RunId, String> {
        let mut runs = self.sent.iter().filter(|(sent, _, _)| sent == key);
        let found = match line.option("run") {
            Some(text) => runs.nth(measure(text)? as usize - 1),
            None => runs.rfind(|(_, on, _)| *on == worker),
        };
        found.map(|(_, _, run)| *run).ok_or_else(|| format!("{} was not sent there", words::key(key)))
    }

    fn worker_does(&mut self, worker: WorkerId, verb: &str, line: &Line) -> Done {
        let status = |status| Event::WorkerStatus { worker, status };
        let gone = |expected| Event::RemoveWorker { worker, expected, close: false, reason: "gone".into() };
        let event = match verb {
            "finishes" | "fails" | "secedes" | "reschedules" | "lost" => {
                for key in line.words.iter().filter(|word| measure(word).is_err()).copied().map(keys_of) {
                    for key in key? {
                        self.worker_reports(worker, verb, key, line)?;
                    }
                }
                return Ok(());
            }
            "dies" => gone(false),
            "leaves" => gone(true),
            "closes" => Event::RemoveWorker { worker, expected: true, close: true, reason: "asked to".into() },
            "pauses" => status(WorkerStatus::Paused),
            "resumes" => status(WorkerStatus::Running),
            "says-closed" => status(WorkerStatus::Closed),
            "goes-silent" | "is-heard" => Event::WorkerSilent { worker, silent: verb == "goes-silent" },
            "retires" => Event::Retire { workers: vec![worker] },
            "stays" => Event::RetireAborted { worker },
            "has" => Event::AddKeys { worker, keys: line.keys()? },
            "misses" => Event::RefreshWhoHas { worker, keys: line.keys()? },
            "answers" => {
                let (key, state) = (keys_of(line.word(0)?)?.remove(0), line.word(1)?);
                let stimulus = self.steals.get(&key).cloned().ok_or("nobody asked for that task")?;
                Event::StealResponse { worker, key, state: (state != "none").then(|| state.into()), stimulus }
            }
            "beats" => {
                let mut beat = Heartbeat::default();
                for &(name, text) in &line.options {
                    match name {
                        "memory" => beat.memory = measure(text)? as u64,
                        "bandwidth" => beat.bandwidth = Some(measure(text)?),
                        key => beat.executing.push((keys_of(key)?.remove(0), measure(text)?)),
                    }
                }
                Event::Heartbeat { worker, beat: Box::new(beat) }
            }
            "provides" => {
                let pair = |&(name, text): &(&str, &str)| Ok((name.into(), measure(text)?));
                let resources = line.options.iter().map(pair).collect::<Result<_, String>>()?;
                Event::SetResources { worker, resources }
            }
            "calls" => return self.shuffle(worker, line),
            other => return Err(format!("a worker can't do {other}")),
        };
        self.step(event)
    }

    fn worker_reports(&mut self, worker: WorkerId, verb: &str, key: Key, line: &Line) -> Done {
        if verb == "lost" {
            return self.step(Event::ReleaseWorkerData { worker, key });
        }
        let run_id = self.run_of(worker, &key, line)?;
        let unit = |unit: &str| line.words.iter().find(|word| word.ends_with(unit) && measure(word).is_ok());
        let secs = unit("s").map(|word| measure(word)).transpose()?;
        self.step(match verb {
            "finishes" => {
                let nbytes = unit("B").map(|word| measure(word)).transpose()?.map(|bytes| bytes as i64);
                let startstops = secs
                    .map(|secs| StartStop { action: Action::Compute, start: 0.0, stop: secs })
                    .into_iter()
                    .collect();
                let (type_pickle, typename, metadata) = (Default::default(), "int".into(), Value::Nil);
                let done = Finished { key, run_id, nbytes, type_pickle, typename, metadata, startstops };
                Event::TaskFinished { worker, done }
            }
            "fails" => {
                let failure = boom(line.option("error").unwrap_or("Boom"));
                Event::TaskErred { worker, erred: Box::new(Erred { key, run_id, failure }) }
            }
            "secedes" => Event::LongRunning { worker, key, run_id, compute_secs: secs },
            _ => Event::Reschedule { worker, key },
        })
    }

    fn shuffle(&mut self, worker: WorkerId, line: &Line) -> Done {
        let (operation, id): (&str, Text) = (line.word(0)?, line.word(1)?.into());
        let key = || line.word(2).and_then(keys_of).map(|mut keys| keys.remove(0));
        let run_id = line.option("run").map_or(Ok(1.0), measure)? as RunId;
        let address = self.sched().worker(worker).map(|it| it.address.clone()).ok_or("the worker is gone")?;
        let request = match operation {
            "shuffle-get-or-create" => ShuffleRequest::GetOrCreate { id, key: key()?, worker: address },
            "shuffle-barrier" => ShuffleRequest::Barrier { id, run_id, consistent: !line.has("inconsistent") },
            "shuffle-restrict" => ShuffleRequest::Restrict { id, run_id, key: key()?, worker: address },
            other => return Err(format!("no operation {other}")),
        };
        let call = self.call(operation.to_owned());
        self.step(Event::Shuffle { call, request })
    }
}

fn boom(text: &str) -> Failure {
    Failure::Remote {
        exception: Value::Nil,
        traceback: Value::Nil,
        exception_text: text.into(),
        traceback_text: "".into(),
    }
}

/// Tasks named `shuffle-barrier-s` are the barrier of the shuffle `s`, with a partition for each dependent.
fn barrier(key: &Key, parts: i64) -> Option<Arc<ShuffleSpec>> {
    let id = key.as_text()?.strip_prefix("shuffle-barrier-")?;
    let layout = ShuffleLayout::DataFrame { npartitions: parts, parts_out: (0..parts).collect() };
    Some(Arc::new(ShuffleSpec { id: id.into(), layout, spec: Default::default() }))
}

fn annotations(line: &Line) -> Result<Option<Arc<Annotations>>, String> {
    let notes = Annotations {
        priority: line.option("priority").map_or(Ok(0.0), measure)?,
        workers: line.list("workers"),
        allow_other_workers: line.has("allow-other-workers"),
        retries: line.option("retries").map_or(Ok(0.0), measure)? as u32,
        resources: line.resources()?,
        wire: Value::Nil,
    };
    Ok((notes != Annotations::default()).then(|| Arc::new(notes)))
}
