//! From the flags of `rask worker` to what one of our own workers is to be.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::command_error::CommandError;
use crate::app::roles::worker::args::WorkerArgs;
use crate::base::{Blame, Text, parse_secs};
use crate::host::PoolSize;
use crate::node::WorkerPlan;

/// What each worker is to be. Errors: what this engine does not do yet, by name; values that are none.
pub(in crate::app::roles::worker) fn plans(
    args: &WorkerArgs,
    pool: PoolSize,
    ports: &[Option<String>],
    python: &Path,
    run_dir: &Path,
) -> Result<Vec<WorkerPlan>, CommandError> {
    if args.pool.is_some() {
        return Err(unsupported("workers of a cluster of rask up"));
    }
    if args.nanny_port.is_some() {
        return Err(unsupported("--nanny-port: it has no nannies"));
    }
    let mut common = WorkerPlan {
        scheduler: Text::from(""),
        name: None,
        nthreads: pool.nthreads,
        memory_limit: (pool.memory_bytes > 0).then_some(pool.memory_bytes),
        resources: Vec::new(),
        ports: (0, 0),
        host: None,
        local_directory: None,
        preload: Vec::new(),
        preload_argv: args.preload_argv.iter().map(|word| Text::from(word.as_str())).collect(),
        death_timeout: None,
        allow_users: args.allow_users.clone(),
        python: python.to_owned(),
        run_dir: run_dir.to_owned(),
    };
    let file = take_flags(&args.pass, &mut common)?;
    common.scheduler = scheduler(args.scheduler.as_deref(), file.as_deref())?;
    let plans = (0..pool.nworkers).zip(ports).map(|(index, ports)| {
        let name = args.name.as_ref().map(|name| match pool.nworkers {
            1 => Text::from(name.as_str()),
            _ => format!("{name}-{index}").into(),
        });
        WorkerPlan { name, ports: ports.as_deref().map_or((0, 0), first_and_last), ..common.clone() }
    });
    Ok(plans.collect())
}

fn unsupported(what: &str) -> CommandError {
    CommandError::usage(format!("--engine rask does not do {what} yet")).remedy("use --engine stock")
}

/// `3000` or `3000:3005`, checked before.
fn first_and_last(ports: &str) -> (u16, u16) {
    let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
    (first.parse().unwrap_or(0), last.parse().unwrap_or(0))
}

/// The flags that Dask's worker would get; returns the scheduler file.
fn take_flags(pass: &[OsString], plan: &mut WorkerPlan) -> Result<Option<PathBuf>, CommandError> {
    let (mut left, mut file) = (VecDeque::from(pass.to_vec()), None);
    while let Some(flag) = left.pop_front() {
        let flag = flag.to_string_lossy().into_owned();
        // It serves no pages of its own.
        if flag == "--no-dashboard" || flag == "--no-lifetime-restart" {
            continue;
        }
        let value = left.pop_front().unwrap_or_default();
        let text = value.to_string_lossy();
        match flag.as_str() {
            "--resources" => plan.resources = resources(&text)?,
            "--local-directory" => plan.local_directory = Some(text.into()),
            "--scheduler-file" => file = Some(PathBuf::from(&value)),
            "--death-timeout" => {
                let secs = parse_secs(&text).and_then(|secs| Duration::try_from_secs_f64(secs).ok());
                let wrong =
                    || CommandError::usage(format!("--death-timeout {text} is not a duration")).remedy("try 60s");
                plan.death_timeout = Some(secs.ok_or_else(wrong)?);
            }
            "--preload" => plan.preload.push(text.into()),
            "--host" => plan.host = Some(text.into()),
            "--protocol" if text == "tcp" || text == "tcp://" => {}
            _ => return Err(unsupported(&flag)),
        }
    }
    Ok(file)
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

fn scheduler(asked: Option<&str>, file: Option<&Path>) -> Result<Text, CommandError> {
    let address = match (asked, file) {
        (Some(address), _) => address.to_owned(),
        (None, Some(path)) => from_file(path)?,
        (None, None) => {
            return Err(CommandError::usage("no scheduler").remedy("give its address, or --scheduler-file"));
        }
    };
    match address.split_once("://") {
        None => Ok(format!("tcp://{address}").into()),
        Some(("tcp", _)) => Ok(address.into()),
        Some((scheme, _)) => Err(unsupported(&format!("{scheme}:// (only tcp://)"))),
    }
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

    fn plan(pass: &[&str]) -> Result<WorkerPlan, CommandError> {
        let args = WorkerArgs {
            scheduler: Some("tcp://127.0.0.1:1".to_owned()),
            name: Some("a".to_owned()),
            pass: pass.iter().map(OsString::from).collect(),
            ..WorkerArgs::default()
        };
        let pool = PoolSize { nworkers: 1, nthreads: 2, memory_bytes: 1 << 30 };
        plans(&args, pool, &[Some("3000:3005".to_owned())], Path::new("python"), Path::new("/run"))
            .map(|mut plans| plans.remove(0))
    }

    #[test]
    fn flags_that_this_engine_knows_are_taken() {
        let flags = ["--resources", "GPU=2 MEM=1e9", "--no-dashboard", "--death-timeout", "5 s", "--preload", "m"];
        let plan = plan(&flags).expect("all of them are known");
        assert_eq!(plan.resources, [(Text::from("GPU"), 2.0), (Text::from("MEM"), 1e9)]);
        assert_eq!((plan.death_timeout, plan.ports), (Some(Duration::from_secs(5)), (3000, 3005)));
        assert_eq!((plan.name.as_deref(), plan.memory_limit), (Some("a"), Some(1 << 30)));
    }

    /// Goal: whoever asks for what is not there yet is told so, and what to do instead.
    #[test]
    fn flags_that_it_does_not_know_are_refused_by_name() {
        for flags in [&["--tls-key", "k"][..], &["--worker-class", "c"], &["--lifetime", "1h"], &["--protocol", "tls"]]
        {
            let why = plan(flags).expect_err("not known").to_string();
            assert!(why.contains(flags[0]) && why.contains("--engine stock"), "{why}");
        }
        assert!(scheduler(Some("tls://a:1"), None).is_err() && scheduler(None, None).is_err());
        assert!(resources("GPU").is_err() && resources("GPU=x").is_err());
        assert_eq!(scheduler(Some("a:1"), None).as_deref(), Ok("tcp://a:1"));
    }
}
