//! From the flags of `rask worker` and Dask's settings to what one of our own workers is to be.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::command_error::CommandError;
use crate::app::roles::scheduler::{interface_address, resolve};
use crate::app::roles::worker::args::WorkerArgs;
use crate::base::{Blame, Text, parse_secs};
use crate::executor::DaskSettings;
use crate::host::PoolSize;
use crate::net::{Address, Scheme, Tls, TlsPem, TlsVersions};
use crate::node::{Lifetime, WorkerPlan};
use crate::supervise::Output;

/// As in Dask, if its setting is none.
const CONNECT: Duration = Duration::from_secs(30);

/// Where things are: the interpreter of workers, and a private folder for scripts.
#[derive(Clone, Copy, Debug)]
pub(in crate::app::roles::worker) struct Places<'a> {
    pub(in crate::app::roles::worker) python: &'a Path,
    pub(in crate::app::roles::worker) run_dir: &'a Path,
}

/// The flags that Dask's worker would get.
#[derive(Debug, Default)]
struct Flags {
    resources: Vec<(Text, f64)>,
    local_directory: Option<Text>,
    scheduler_file: Option<PathBuf>,
    death_timeout: Option<Duration>,
    lifetime: Lifetime,
    worker_class: Option<Text>,
    preload: Vec<Text>,
    preload_nanny: Vec<Text>,
    host: Option<String>,
    interface: Option<String>,
    protocol: Option<String>,
    listen: Option<Address>,
    contact: Option<Address>,
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

/// What each worker is to be. `ports`: of the workers, and of their nannies. Errors: what this engine does not do yet, by name; values that are none.
pub(in crate::app::roles::worker) fn plans(
    args: &WorkerArgs,
    pool: PoolSize,
    ports: (&[Option<String>], &[Option<String>]),
    settings: &DaskSettings,
    places: Places<'_>,
) -> Result<Vec<WorkerPlan>, Refusal> {
    let flags = Flags::read(&args.pass)?;
    if flags.listen.is_some() && pool.nworkers > 1 {
        return Err(CommandError::usage("--listen-address is for one worker only")
            .remedy("leave out --nworkers")
            .into());
    }
    let scheduler = scheduler(args.scheduler.as_deref(), &flags, settings)?;
    let scheme = flags.scheme(scheduler.scheme)?;
    let tls = tls(&flags, settings)?;
    if tls.is_none() && (scheme.is_tls() || scheduler.scheme.is_tls()) {
        return Err(CommandError::usage(
            "TLS needs an authority's certificate, and a certificate and key of the worker",
        )
        .remedy("give --tls-ca-file, --tls-cert and --tls-key, or set distributed.comm.tls in Dask's configuration")
        .into());
    }
    if settings.require_encryption && !(scheme.is_tls() && scheduler.scheme.is_tls()) {
        return Err(CommandError::usage("encryption is required, and the address is not encrypted")
            .remedy("use a scheduler at tls://, or unset distributed.comm.require-encryption")
            .into());
    }
    let common = WorkerPlan {
        scheduler: scheduler.to_string().into(),
        scheme,
        tls,
        security: flags.security(),
        name: None,
        nthreads: pool.nthreads,
        memory_limit: (pool.memory_bytes > 0).then_some(pool.memory_bytes),
        ports: (0, 0),
        nanny_ports: None,
        nanny: None,
        host: flags.host()?,
        contact: flags.contact.as_ref().map(|address| address.to_string().into()),
        resources: flags.resources,
        local_directory: flags.local_directory,
        worker_class: flags.worker_class,
        preload: flags.preload,
        preload_argv: of_settings(&args.preload_argv),
        preload_nanny: if flags.preload_nanny.is_empty() {
            of_settings(&settings.preload_nanny)
        } else {
            flags.preload_nanny
        },
        preload_nanny_argv: of_settings(&settings.preload_nanny_argv),
        connect: Duration::try_from_secs_f64(settings.connect_secs).unwrap_or(CONNECT),
        lifetime: flags.lifetime,
        death_timeout: flags.death_timeout,
        allow_users: args.allow_users.clone(),
        environ: if args.no_nanny { Vec::new() } else { settings.environ.clone().into_iter().collect() },
        output: None,
        cgroup: None,
        python: places.python.to_owned(),
        run_dir: places.run_dir.to_owned(),
    };
    let listen_port = flags.listen.as_ref().map(|address| address.port);
    let both = ports.0.iter().zip(ports.1);
    let plans = (0..pool.nworkers).zip(both).map(|(index, (ports, nanny_ports))| {
        let name = args.name.as_ref().map(|name| match pool.nworkers {
            1 => Text::from(name.as_str()),
            _ => format!("{name}-{index}").into(),
        });
        let ports = match listen_port {
            Some(port) => (port, port),
            None => first_and_last(ports.as_deref()),
        };
        let nanny_ports = (!args.no_nanny).then(|| first_and_last(nanny_ports.as_deref()));
        let label = name.as_deref().map_or_else(|| format!("worker-{index}"), str::to_owned);
        let output = (pool.nworkers > 1).then(|| Output::Prefixed(format!("{label} | ")));
        WorkerPlan { name, ports, nanny_ports, output, ..common.clone() }
    });
    Ok(plans.collect())
}

fn of_settings(list: &[String]) -> Vec<Text> {
    list.iter().map(|word| Text::from(word.as_str())).collect()
}

/// Why there are no plans.
#[derive(Debug)]
pub(in crate::app::roles::worker) enum Refusal {
    /// This engine does not do that yet.
    NotDone(String),
    /// No engine does.
    Wrong(CommandError),
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Self::Wrong(error)
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotDone(what) => {
                Self::usage(format!("--engine rask does not do {what} yet")).remedy("use --engine stock")
            }
            Refusal::Wrong(error) => error,
        }
    }
}

fn unsupported(what: &str) -> Refusal {
    Refusal::NotDone(what.to_owned())
}

/// `3000` or `3000:3005`, checked before; 0 for any.
fn first_and_last(ports: Option<&str>) -> (u16, u16) {
    let ports = ports.unwrap_or("0");
    let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
    (first.parse().unwrap_or(0), last.parse().unwrap_or(0))
}

impl Flags {
    fn read(pass: &[OsString]) -> Result<Self, Refusal> {
        let (mut left, mut flags) = (VecDeque::from(pass.to_vec()), Self::default());
        while let Some(flag) = left.pop_front() {
            let flag = flag.to_string_lossy().into_owned();
            match flag.as_str() {
                // It serves no pages of its own.
                "--no-dashboard" => continue,
                "--lifetime-restart" => flags.lifetime.restart = Some(true),
                "--no-lifetime-restart" => flags.lifetime.restart = Some(false),
                _ => {
                    let value = left.pop_front().unwrap_or_default();
                    flags.take(&flag, &value.to_string_lossy())?;
                }
            }
        }
        Ok(flags)
    }

    fn take(&mut self, flag: &str, text: &str) -> Result<(), Refusal> {
        let address = || {
            Address::parse(text)
                .map_err(|why| CommandError::usage(format!("{flag}: {why}")).remedy("try tcp://0.0.0.0:9000"))
        };
        match flag {
            "--resources" => self.resources = resources(text)?,
            "--local-directory" => self.local_directory = Some(text.into()),
            "--scheduler-file" => self.scheduler_file = Some(PathBuf::from(text)),
            "--death-timeout" => self.death_timeout = Some(Duration::from_secs_f64(duration(flag, text)?)),
            "--lifetime" => self.lifetime.secs = Some(duration(flag, text)?),
            "--lifetime-stagger" => self.lifetime.stagger_secs = Some(duration(flag, text)?),
            "--worker-class" => self.worker_class = Some(text.into()),
            "--preload" => self.preload.push(text.into()),
            "--preload-nanny" => self.preload_nanny.push(text.into()),
            "--host" => self.host = Some(text.to_owned()),
            "--interface" => self.interface = Some(text.to_owned()),
            "--protocol" => self.protocol = Some(text.to_owned()),
            "--listen-address" => self.listen = Some(address()?),
            "--contact-address" => self.contact = Some(address()?),
            "--tls-ca-file" => self.ca = Some(text.to_owned()),
            "--tls-cert" => self.cert = Some(text.to_owned()),
            "--tls-key" => self.key = Some(text.to_owned()),
            _ => return Err(unsupported(flag)),
        }
        Ok(())
    }

    /// How others speak to the worker: as it speaks to the scheduler, if nothing else was asked for.
    fn scheme(&self, of_scheduler: Scheme) -> Result<Scheme, Refusal> {
        let by_host = self.host.as_deref().and_then(|host| host.split_once("://")).map(|(scheme, _)| scheme);
        let Some(name) = self.protocol.as_deref().or(by_host) else { return Ok(of_scheduler) };
        let name = name.trim_end_matches("://");
        Scheme::from_name(name).ok_or_else(|| unsupported(&format!("--protocol {name}")))
    }

    /// None: not asked for.
    fn host(&self) -> Result<Option<IpAddr>, CommandError> {
        let named = match (&self.listen, &self.host, &self.interface) {
            (Some(address), _, _) => address.host.to_string(),
            (None, Some(_), Some(_)) => {
                return Err(CommandError::usage("give either --host or --interface, not both"));
            }
            (None, None, Some(name)) => return interface_address(name).map(Some),
            (None, Some(host), None) => {
                let bad = |why| CommandError::usage(format!("--host {host}: {why}"));
                Address::parse(host).map_err(bad)?.host.to_string()
            }
            (None, None, None) => return Ok(None),
        };
        // Every interface, if it stands for none in particular.
        resolve(&named).map(|ip| Some(ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
    }

    /// By the names of `distributed.Security`.
    fn security(&self) -> Vec<(&'static str, Text)> {
        let given = [("tls_ca_file", &self.ca), ("tls_worker_cert", &self.cert), ("tls_worker_key", &self.key)];
        given.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?.into()))).collect()
    }
}

fn duration(flag: &str, text: &str) -> Result<f64, CommandError> {
    let secs = parse_secs(text).filter(|secs| Duration::try_from_secs_f64(*secs).is_ok());
    secs.ok_or_else(|| CommandError::usage(format!("{flag} {text} is not a duration")).remedy("try 60s"))
}

/// Source: `distributed/security.py`. None: there is not enough for it.
fn tls(flags: &Flags, settings: &DaskSettings) -> Result<Option<Tls>, CommandError> {
    let either = |flag: &Option<String>, set: &Option<String>| flag.clone().or_else(|| set.clone());
    let (Some(ca), Some(cert)) = (either(&flags.ca, &settings.ca), either(&flags.cert, &settings.cert)) else {
        return Ok(None);
    };
    // A certificate file may hold its key, as Python's ssl module allows.
    let key = either(&flags.key, &settings.key).unwrap_or_else(|| cert.clone());
    let pem = TlsPem { ca: pem(&ca)?, cert: pem(&cert)?, key: pem(&key)? };
    if settings.ciphers.is_some() {
        return Err(CommandError::usage("distributed.comm.tls.ciphers is set, and rask has ciphers of its own only")
            .remedy("remove it from Dask's configuration, or use --engine stock"));
    }
    let versions = TlsVersions::between(settings.min_version.as_deref(), settings.max_version.as_deref());
    let versions = versions.ok_or_else(|| {
        CommandError::usage("distributed.comm.tls.min-version and max-version leave no version of TLS")
            .remedy("rask speaks 1.2 and 1.3")
    })?;
    let tls = Tls::speaking(&pem, versions)
        .map_err(|why| CommandError::usage(why.to_string()).remedy("check --tls-ca-file, --tls-cert and --tls-key"))?;
    Ok(Some(tls))
}

/// A file's, or the text itself.
fn pem(path_or_text: &str) -> Result<String, CommandError> {
    if path_or_text.contains('\n') {
        return Ok(path_or_text.to_owned());
    }
    std::fs::read_to_string(path_or_text).map_err(|why| {
        CommandError::usage(format!("cannot read {path_or_text}: {why}"))
            .remedy("check --tls-ca-file, --tls-cert and --tls-key")
    })
}

/// `GPU=2 MEM=10e9`, also with commas. Source: `distributed/cli/dask_worker.py`.
fn resources(text: &str) -> Result<Vec<(Text, f64)>, CommandError> {
    let amount = |pair: &str| {
        let (name, amount) = pair.split_once('=')?;
        Some((Text::from(name), amount.parse::<f64>().ok().filter(|amount| amount.is_finite())?))
    };
    let pairs = text.split([' ', ',']).filter(|pair| !pair.is_empty());
    let amounts: Option<Vec<(Text, f64)>> = pairs.map(amount).collect();
    amounts.ok_or_else(|| CommandError::usage(format!("--resources {text} are none")).remedy("try \"GPU=2 MEM=10e9\""))
}

fn scheduler(asked: Option<&str>, flags: &Flags, settings: &DaskSettings) -> Result<Address, Refusal> {
    let address = match (asked, &flags.scheduler_file, &settings.scheduler) {
        (Some(address), _, _) => address.to_owned(),
        (None, Some(path), _) => from_file(path)?,
        (None, None, Some(address)) => address.clone(),
        (None, None, None) => {
            return Err(CommandError::usage("no scheduler").remedy("give its address, or --scheduler-file").into());
        }
    };
    let address = match address.split_once("://") {
        Some(_) => address,
        None if settings.default_scheme.is_empty() => address,
        None => format!("{}://{address}", settings.default_scheme),
    };
    let scheme = address.split_once("://").map_or("tcp", |(scheme, _)| scheme);
    if Scheme::from_name(scheme).is_none() {
        return Err(unsupported(&format!("{scheme}://")));
    }
    Ok(Address::parse(&address)
        .map_err(|why| CommandError::usage(why.to_string()).remedy("try tcp://127.0.0.1:8786"))?)
}

/// Source: `distributed/comm/addressing.py`; the file is what `--scheduler-file` of a scheduler writes.
fn from_file(path: &Path) -> Result<String, CommandError> {
    let failed = |why: String| CommandError::blame(Blame::World, format!("cannot use {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|why| failed(why.to_string()))?;
    let body: serde_json::Value = serde_json::from_str(&text).map_err(|why| failed(why.to_string()))?;
    let address = body.get("address").and_then(serde_json::Value::as_str);
    address.map(str::to_owned).ok_or_else(|| failed("it holds no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_at(scheduler: &str, pass: &[&str], settings: &DaskSettings) -> Result<WorkerPlan, CommandError> {
        let args = WorkerArgs {
            scheduler: Some(scheduler.to_owned()),
            name: Some("a".to_owned()),
            pass: pass.iter().map(OsString::from).collect(),
            ..WorkerArgs::default()
        };
        let pool = PoolSize { nworkers: 1, nthreads: 2, memory_bytes: 1 << 30 };
        let places = Places { python: Path::new("python"), run_dir: Path::new("/run") };
        plans(&args, pool, (&[Some("3000:3005".to_owned())], &[None]), settings, places)
            .map(|mut plans| plans.remove(0))
            .map_err(CommandError::from)
    }

    fn plan(pass: &[&str]) -> Result<WorkerPlan, CommandError> {
        plan_at("127.0.0.1:1", pass, &DaskSettings::default())
    }

    #[test]
    fn flags_that_this_engine_knows_are_taken() {
        let flags = ["--resources", "GPU=2 MEM=1e9", "--no-dashboard", "--death-timeout", "5 s", "--preload", "m"];
        let plan = plan(&flags).expect("all of them are known");
        assert_eq!(plan.resources, [(Text::from("GPU"), 2.0), (Text::from("MEM"), 1e9)]);
        assert_eq!((plan.death_timeout, plan.ports), (Some(Duration::from_secs(5)), (3000, 3005)));
        assert_eq!(plan.nanny_ports, Some((0, 0)));
        assert_eq!((plan.name.as_deref(), plan.memory_limit), (Some("a"), Some(1 << 30)));
        assert_eq!((&*plan.scheduler, plan.scheme), ("tcp://127.0.0.1:1", Scheme::Tcp));
    }

    #[test]
    fn where_it_listens_is_read_as_dask_reads_it() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        let listens = |pass: &[&str]| plan(pass).map(|plan| (plan.scheme, plan.host, plan.ports));
        assert_eq!(listens(&["--host", "ws://127.0.0.2"]), Ok((Scheme::Ws, ip("127.0.0.2"), (3000, 3005))));
        assert_eq!(listens(&["--interface", "lo"]), Ok((Scheme::Tcp, ip("127.0.0.1"), (3000, 3005))));
        assert_eq!(listens(&["--listen-address", "tcp://0.0.0.0:90"]), Ok((Scheme::Tcp, ip("0.0.0.0"), (90, 90))));
        let contact = plan(&["--listen-address", "tcp://0.0.0.0:90", "--contact-address", "tcp://9.9.9.9:91"]);
        assert_eq!(contact.map(|plan| plan.contact), Ok(Some("tcp://9.9.9.9:91".into())));
        assert!(listens(&["--host", "127.0.0.1", "--interface", "lo"]).is_err());
        assert!(listens(&["--interface", "none-such"]).is_err());
    }

    /// Goal: a worker that is to be encrypted is never started without it.
    #[test]
    fn what_tls_needs_is_asked_for_by_name() {
        let none = DaskSettings::default();
        let missing = plan_at("tls://a:1", &[], &none).expect_err("no certificate").to_string();
        assert!(missing.contains("--tls-ca-file"), "{missing}");
        let unread = plan_at("tls://a:1", &["--tls-ca-file", "/nowhere/ca", "--tls-cert", "/nowhere/cert"], &none);
        assert!(unread.expect_err("no file").to_string().contains("/nowhere/ca"));
        let required = DaskSettings { require_encryption: true, ..none };
        assert!(plan_at("tcp://a:1", &[], &required).is_err());
    }

    /// Goal: whoever asks for what is not there yet is told so, and what to do instead.
    #[test]
    fn flags_that_it_does_not_know_are_refused_by_name() {
        for flags in [["--scheduler-sni", "n"], ["--protocol", "ucx"]] {
            let why = plan(&flags).expect_err("not known").to_string();
            assert!(why.contains(flags[0]) && why.contains("--engine stock"), "{why}");
        }
        assert!(plan_at("ucx://a:1", &[], &DaskSettings::default()).is_err());
        assert!(resources("GPU").is_err() && resources("GPU=x").is_err());
        assert!(plan(&["--lifetime", "soon"]).is_err());
    }
}
