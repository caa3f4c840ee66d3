//! What a worker is to be, and how its life ended.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::{Text, Value};
use crate::net::{Scheme, Tls};
use crate::supervise::Output;

/// What a worker is to be.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
    /// The scheduler's address, such as `tcp://1.2.3.4:8786`.
    pub scheduler: Text,
    /// How others speak to this worker.
    pub scheme: Scheme,
    /// Certificates, for addresses that are encrypted.
    pub tls: Option<Tls>,
    /// Files of certificates that were asked for in place of those in Dask's configuration, by the names that
    /// `distributed.Security` has for them: for clients in tasks.
    pub security: Vec<(&'static str, Text)>,
    /// None: its address.
    pub name: Option<Text>,
    /// Threads that run tasks.
    pub nthreads: u32,
    /// None: no limit. Unit: bytes.
    pub memory_limit: Option<u64>,
    /// Named amounts of which runs may occupy a part.
    pub resources: Vec<(Text, f64)>,
    /// Ports to try, from the first to the last; 0: any.
    pub ports: (u16, u16),
    /// As of [`WorkerPlan::ports`], for a nanny. None: there is none, and what ends the worker ends it for good.
    pub nanny_ports: Option<(u16, u16)>,
    /// The address of its nanny.
    pub nanny: Option<Text>,
    /// The address to listen on. None: the one by which the scheduler is reached.
    pub host: Option<IpAddr>,
    /// The address to announce. None: the one that it listens on.
    pub contact: Option<Text>,
    /// Folder for the worker's files. None: as Dask's settings say.
    pub local_directory: Option<Text>,
    /// The class that tasks see. None: `distributed.Worker`.
    pub worker_class: Option<Text>,
    /// Modules to load, and their arguments.
    pub preload: Vec<Text>,
    pub preload_argv: Vec<Text>,
    /// Modules to load beside the nanny, and their arguments.
    pub preload_nanny: Vec<Text>,
    pub preload_nanny_argv: Vec<Text>,
    /// How long to wait for a connection.
    pub connect: Duration,
    /// When it leaves by itself.
    pub lifetime: Lifetime,
    /// How long to wait for the scheduler. None: for ever.
    pub death_timeout: Option<Duration>,
    /// Users who may connect over loopback besides this one and root.
    pub allow_users: Vec<u32>,
    /// What the environment of its Python has besides ours.
    pub environ: Vec<(String, String)>,
    /// Where what its Python prints goes. None: where ours goes.
    pub output: Option<Output>,
    /// The control group of its Python.
    pub cgroup: Option<PathBuf>,
    /// The interpreter, and a private folder for scripts.
    pub python: PathBuf,
    pub run_dir: PathBuf,
}

impl WorkerPlan {
    /// The name, as it is registered: a number if it reads like one. Source: `distributed/cli/dask_worker.py`.
    pub(super) fn name_or(&self, address: &Text) -> Value {
        let name = self.name.as_ref().unwrap_or(address);
        name.parse::<i64>().map_or_else(|_| Value::Str(name.clone()), Value::from)
    }

    /// The resources, by their names.
    pub(super) fn amounts(&self) -> Value {
        let amount = |(name, amount): &(Text, f64)| (Value::Str(name.clone()), (*amount).into());
        Value::Map(self.resources.iter().map(amount).collect())
    }

    /// What the facade is to be. `id`: the worker's own, in this life.
    pub(super) fn hello(&self, address: &Text, id: &str) -> Value {
        let mut fields = self.hello_of_both(address);
        let more = [
            ("id", id.into()),
            ("nanny", self.nanny.clone().into()),
            ("worker_class", self.worker_class.clone().into()),
            ("lifetime", self.lifetime.secs.into()),
            ("lifetime_stagger", self.lifetime.stagger_secs.into()),
            ("lifetime_restart", self.lifetime.restart.into()),
            ("preload", texts(&self.preload)),
            ("preload_argv", texts(&self.preload_argv)),
        ];
        fields.extend(more.map(|(name, value)| (name.into(), value)));
        Value::Map(fields)
    }

    /// What the `Nanny` is to be that plugins see. `plugins`: pickles of those that it begins with, by name.
    pub(super) fn hello_of_nanny(&self, address: &Text, plugins: &Value) -> Value {
        let mut fields = self.hello_of_both(address);
        let more = [
            ("plugins", plugins.clone()),
            ("preload", texts(&self.preload_nanny)),
            ("preload_argv", texts(&self.preload_nanny_argv)),
        ];
        fields.extend(more.map(|(name, value)| (name.into(), value)));
        Value::Map(fields)
    }

    fn hello_of_both(&self, address: &Text) -> Vec<(Value, Value)> {
        let file = |(name, path): &(&'static str, Text)| (Value::from(*name), Value::Str(path.clone()));
        let fields = [
            ("scheduler", Value::Str(self.scheduler.clone())),
            ("address", Value::Str(address.clone())),
            ("name", self.name_or(address)),
            ("nthreads", i64::from(self.nthreads).into()),
            ("memory_limit", self.memory_limit.unwrap_or(0).into()),
            ("local_directory", self.local_directory.clone().into()),
            ("resources", self.amounts()),
            ("security", Value::Map(self.security.iter().map(file).collect())),
        ];
        fields.map(|(name, value)| (Value::from(name), value)).into()
    }
}

fn texts(list: &[Text]) -> Value {
    Value::Array(list.iter().cloned().map(Value::Str).collect())
}

/// When a worker leaves by itself, and whether another one takes its place. What is none is as Dask's configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lifetime {
    /// Unit: seconds.
    pub secs: Option<f64>,
    /// The lifetime is this much longer or shorter, by chance. Unit: seconds.
    pub stagger_secs: Option<f64>,
    pub restart: Option<bool>,
}

/// How a worker's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It was told to, or its scheduler is gone.
    Closed { reason: Text },
    /// It was told to make room for another one.
    Restart { reason: Text },
    /// It did not want to: its executor died, or a rule was broken. Another one may take its place.
    Broken { reason: String },
}
