//! The command lines of a cluster's processes.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::config::{ClusterFolder, FleetConfig};
use super::record::Body;
use crate::supervise::policy::RestartRule;
use crate::supervise::{OWN, Output, Spec};

/// `rask worker` gives its nannies 5 s; together with the scheduler's this stays below the 10 s that we promise.
pub(super) const POOL_GRACE: Duration = Duration::from_millis(6500);
/// For clients and workers to be told.
pub(super) const SCHEDULER_GRACE: Duration = Duration::from_millis(2500);

/// One cluster's processes-to-be.
pub(super) struct Launch<'a> {
    pub config: &'a FleetConfig,
    pub folder: &'a ClusterFolder,
    pub name: &'a str,
    pub body: &'a Body,
    pub python: &'a Path,
}

impl Launch<'_> {
    /// Its scheduler: for its workers on a port of its own, for everybody else through the appliance's door.
    pub(super) fn scheduler(&self) -> Spec {
        let mut args = self.begin("scheduler");
        let mut flag = |name: &str, value: OsString| args.extend([name.into(), value]);
        flag("--host", self.host());
        flag("--port", "0".into());
        flag("--protocol", if self.is_encrypted() { "tls" } else { "tcp" }.into());
        if let Some(address) = &self.body.plain_address {
            flag("--contact-address", address.into());
        }
        flag("--control-socket", self.folder.control().into());
        flag("--http-socket", self.folder.http().into());
        flag("--served-dashboard-port", self.config.http_port.to_string().into());
        flag("--python", self.python.into());
        self.credentials(&mut args);
        args.extend(["--python-checked", "--no-dashboard", "--same-user"].map(OsString::from));
        self.spec("scheduler", args, SCHEDULER_GRACE)
    }

    /// Its pool, with this number of workers to begin with, for the scheduler at `address`.
    pub(super) fn pool(&self, address: &str, workers: u32) -> Spec {
        let settings = &self.body.settings;
        let mut args = self.begin("worker");
        args.push(address.into());
        let mut flag = |name: &str, value: OsString| args.extend([name.into(), value]);
        flag("--nworkers", workers.to_string().into());
        flag("--nthreads", settings.nthreads.max(1).to_string().into());
        flag("--memory-limit", format!("{} B", settings.worker_memory_bytes).into());
        flag("--name", self.name.into());
        flag("--host", self.host());
        flag("--python", self.python.into());
        flag("--engine", settings.engine.name().into());
        flag("--local-directory", self.folder.spill().into());
        flag("--control-socket", self.folder.workers().into());
        flag("--follow", self.folder.control().into());
        flag("--log-dir", self.folder.logs.clone().into());
        flag("--log-keep", self.config.log_keep.to_string().into());
        // What Dask serves per worker, it would serve to everybody on the network.
        flag("--dashboard-address", format!("{}:0", self.config.host).into());
        if let Some(cgroup) = &self.config.cgroup {
            flag("--cgroup", cgroup.into());
            flag("--worker-cores", settings.worker_cores.to_string().into());
        }
        if self.is_encrypted() {
            flag("--protocol", "tls".into());
            self.credentials(&mut args);
        }
        args.extend(["--python-checked", "--no-dashboard"].map(OsString::from));
        if !settings.nanny {
            args.push("--no-nanny".into());
        }
        let mut spec = self.spec("workers", args, POOL_GRACE);
        if self.is_encrypted() {
            // What tasks open by themselves is encrypted too.
            let require = "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION";
            spec.env.push((require.into(), Some("True".into())));
        }
        spec
    }

    /// Where its processes listen: a cluster that spans machines is never plain, and never on loopback alone.
    fn host(&self) -> OsString {
        let span = self.config.span.as_ref().filter(|_| self.body.spans);
        span.map_or(self.config.host, |span| span.host).to_string().into()
    }

    const fn is_encrypted(&self) -> bool {
        self.body.plain_address.is_none() || self.body.spans
    }

    fn begin(&self, role: &str) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![role.into()];
        args.extend(self.config.common_args.iter().cloned());
        args
    }

    /// One pair is authority, certificate and key of everybody in the cluster.
    fn credentials(&self, args: &mut Vec<OsString>) {
        let (cert, key) = (self.folder.cert(), self.folder.key());
        for (flag, file) in [("--tls-ca-file", &cert), ("--tls-cert", &cert), ("--tls-key", &key)] {
            args.extend([flag.into(), file.into()]);
        }
    }

    fn spec(&self, name: &str, args: Vec<OsString>, grace: Duration) -> Spec {
        let ours = |name: &str| name.starts_with("RASK_");
        let env = self.body.settings.env.iter().filter(|(name, _)| !ours(name));
        Spec {
            name: name.to_owned(),
            program: OWN.into(),
            args,
            env: env.map(|(name, value)| (name.into(), Some(value.into()))).collect(),
            output: Output::File { path: self.folder.logs.join(format!("{name}.log")), keep: self.config.log_keep },
            parent_death: self.config.parent_death,
            cgroup: None,
            restart: RestartRule::Never,
            failures_max: None,
            grace,
        }
    }
}
