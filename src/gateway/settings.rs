//! From the options that a user chose to the settings of a cluster's workers; and what of them may be shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::choice::ChoiceError;
use super::limits::WorkerSize;
use super::options::{HERE, Options};
use super::value::{python, python_text};
use crate::config::{Engine, parse_secs};
use crate::fleet::JobWish;

/// Fields with a meaning. What else is declared reaches the workers as a variable.
const MEANT: [&str; 17] = [
    "worker_cores",
    "worker_memory",
    "nthreads",
    "environment",
    "env",
    "python",
    "conda_env",
    "idle_timeout",
    "max_lifetime",
    "nanny",
    "engine",
    "hosts",
    "backend",
    "partition",
    "account",
    "qos",
    "walltime",
];
/// Shown instead of a secret.
const MASK: &str = "********";
const GIB: f64 = (1u64 << 30) as f64;

/// What the options say, with units.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClusterWish {
    /// Of each worker.
    pub size: WorkerSize,
    /// Of each worker.
    pub nthreads: u32,
    /// An environment, an interpreter or the name of an environment.
    pub python: Option<String>,
    /// For the workers.
    pub env: BTreeMap<String, String>,
    /// Watch and restart workers.
    pub nanny: bool,
    /// Whose workers.
    pub engine: Engine,
    /// Machines for the workers. Empty: all.
    pub hosts: Vec<String>,
    /// Workers are jobs. What is empty or 0 is as the site is used to.
    pub jobs: Option<JobWish>,
    /// None: never. Unit: seconds.
    pub idle_timeout_secs: Option<f64>,
    /// None: for ever. Unit: seconds.
    pub max_lifetime_secs: Option<f64>,
}

/// Reads validated options. What no option says comes from `usual`.
pub(super) fn wish(
    options: &Options,
    chosen: &Map<String, Value>,
    usual: &ClusterWish,
) -> Result<ClusterWish, ChoiceError> {
    let mut all = chosen.clone();
    // A select's settings win over the fields' defaults, which cannot be told from chosen values.
    all.extend(options.implied(chosen));
    let number = |name: &str| all.get(name).map(|value| number_of(name, value)).transpose();
    let cores = number("worker_cores")?.unwrap_or(usual.size.cores);
    let memory_bytes = number("worker_memory")?.map_or(usual.size.memory_bytes, |gib| (gib * GIB) as u64);
    let nthreads = match number("nthreads")? {
        Some(threads) if threads >= 1.0 => threads as u32,
        _ if all.contains_key("worker_cores") => (cores.floor() as u32).max(1),
        _ => usual.nthreads,
    };
    if cores <= 0.0 || cores > 65536.0 {
        return Err(wrong("worker_cores", "more than 0 and at most 65536", cores.to_string()));
    }
    if nthreads > 65536 {
        return Err(wrong("nthreads", "at most 65536", nthreads.to_string()));
    }
    let seconds = |name: &str, usual: Option<f64>| -> Result<Option<f64>, ChoiceError> {
        Ok(number(name)?.map_or(usual, |secs| (secs > 0.0).then_some(secs)))
    };
    let nanny = match all.get("nanny") {
        None => usual.nanny,
        Some(Value::Bool(nanny)) => *nanny,
        Some(other) => return Err(wrong("nanny", "a bool", python(other))),
    };
    Ok(ClusterWish {
        size: WorkerSize { cores, memory_bytes },
        nthreads,
        python: chosen_python(&all)?.or_else(|| usual.python.clone()),
        env: environment(&all, usual)?,
        nanny,
        engine: engine(&all, usual)?,
        hosts: hosts(&all, usual)?,
        jobs: jobs(&all)?,
        idle_timeout_secs: seconds("idle_timeout", usual.idle_timeout_secs)?,
        max_lifetime_secs: seconds("max_lifetime", usual.max_lifetime_secs)?,
    })
}

fn wrong(field: &str, wanted: &'static str, given: String) -> ChoiceError {
    ChoiceError::Wrong { field: field.to_owned(), wanted, given }
}

fn number_of(name: &str, value: &Value) -> Result<f64, ChoiceError> {
    let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| wrong(name, "a number and not negative", python(value)))
}

fn chosen_python(all: &Map<String, Value>) -> Result<Option<String>, ChoiceError> {
    let text = |name: &str| match all.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(other) => Err(wrong(name, "a string", python(other))),
    };
    match (text("python")?, text("conda_env")?) {
        (Some(python), Some(conda_env)) if python != conda_env => Err(ChoiceError::TwoPythons { python, conda_env }),
        (one, other) => Ok(other.or(one)),
    }
}

/// Names with commas or spaces between them.
fn hosts(all: &Map<String, Value>, usual: &ClusterWish) -> Result<Vec<String>, ChoiceError> {
    let names = |text: &str| text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match all.get("hosts") {
        None => Ok(usual.hosts.clone()),
        Some(Value::String(text)) => Ok(names(text)),
        Some(other) => Err(wrong("hosts", "a string", python(other))),
    }
}

/// A batch system, and what is asked of it. All of it becomes arguments of a program: nothing that could be another flag,
/// or anything else.
fn jobs(all: &Map<String, Value>) -> Result<Option<JobWish>, ChoiceError> {
    let text = |name: &str| -> Result<String, ChoiceError> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "_.,:@+-".contains(c);
        match all.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) if !text.starts_with('-') && text.chars().all(fine) => Ok(text.clone()),
            Some(Value::String(text)) => Err(wrong(name, "letters, digits and _.,:@+-", python_text(text))),
            Some(other) => Err(wrong(name, "a string", python(other))),
        }
    };
    let backend = text("backend")?;
    if backend.is_empty() || backend == HERE {
        return Ok(None);
    }
    let time = text("walltime")?;
    let secs = if time.is_empty() { Some(0.0) } else { parse_secs(&time).filter(|secs| *secs >= 60.0) };
    let secs = secs.ok_or_else(|| wrong("walltime", "a time like 2h, of a minute at least", python_text(&time)))?;
    let (partition, account, qos) = (text("partition")?, text("account")?, text("qos")?);
    Ok(Some(JobWish { backend, partition, account, qos, walltime_secs: secs as u64 }))
}

/// `auto` is what the appliance does without a choice.
fn engine(all: &Map<String, Value>, usual: &ClusterWish) -> Result<Engine, ChoiceError> {
    let Some(chosen) = all.get("engine") else { return Ok(usual.engine) };
    match chosen.as_str().and_then(Engine::from_name) {
        Some(Engine::Auto) => Ok(usual.engine),
        Some(engine) => Ok(engine),
        None => Err(wrong("engine", "auto, rask or stock", python(chosen))),
    }
}

/// Longest variable that Linux starts a process with: 32 pages, less `=` and the end.
const VARIABLE_BYTES_MAX: usize = 131_072 - 2;

fn environment(all: &Map<String, Value>, usual: &ClusterWish) -> Result<BTreeMap<String, String>, ChoiceError> {
    let mut env = usual.env.clone();
    for (name, value) in all.iter().filter(|(name, _)| !MEANT.contains(&name.as_str())) {
        env.insert(format!("CLUSTER_OPTION_{}", name.to_uppercase().replace('-', "_")), plain(value));
    }
    for field in ["environment", "env"] {
        let Some(given) = all.get(field) else { continue };
        let Value::Object(given) = given else {
            return Err(wrong(field, "a mapping", python(given)));
        };
        for (name, value) in given {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(ChoiceError::VariableName { field, name: python_text(name) });
            }
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => plain(value),
                other => return Err(wrong(&format!("{field}: {name}"), "a string", python(other))),
            };
            env.insert(name.clone(), text);
        }
    }
    for (name, text) in &env {
        let bytes = name.len().saturating_add(text.len());
        if text.contains('\0') {
            return Err(ChoiceError::VariableNul { name: name.clone() });
        }
        if bytes > VARIABLE_BYTES_MAX {
            return Err(ChoiceError::VariableTooLong { name: name.clone(), bytes, most: VARIABLE_BYTES_MAX });
        }
    }
    Ok(env)
}

/// As a shell would hold it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python(other),
    }
}

/// The options as they are shown and kept: what looks like a secret is not.
pub(super) fn shown(chosen: &Map<String, Value>) -> Map<String, Value> {
    let mask = |(name, value): (&String, &Value)| {
        let hidden = looks_secret(name) && value.as_str() != Some("");
        (name.clone(), if hidden { Value::from(MASK) } else { value.clone() })
    };
    chosen
        .iter()
        .map(|(field, value)| match value {
            Value::Object(items) => (field.clone(), Value::Object(items.iter().map(mask).collect())),
            other => (field.clone(), other.clone()),
        })
        .collect()
}

/// Variables whose names say that their values are secret.
pub(super) fn looks_secret(name: &str) -> bool {
    const SIGNS: [&str; 9] =
        ["PASS", "SECRET", "TOKEN", "CREDENTIAL", "APIKEY", "API_KEY", "ACCESS_KEY", "PRIVATE", "AUTH"];
    let upper = name.to_ascii_uppercase();
    upper.ends_with("_KEY") || upper.ends_with("PWD") && upper != "PWD" || SIGNS.iter().any(|sign| upper.contains(sign))
}

/// Where an environment may be that is given by its name. `home`: the user's; `root`: `$CONDA_ROOT` or the like.
pub(super) fn places_of(name: &str, home: Option<PathBuf>, roots: Vec<PathBuf>) -> Vec<PathBuf> {
    let of_home = ["miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba", ".conda", ".virtualenvs"];
    let mut places: Vec<PathBuf> = roots;
    for folder in of_home {
        let Some(home) = &home else { break };
        let folder_path = home.join(folder);
        places.push(if folder == ".virtualenvs" { folder_path } else { folder_path.join("envs") });
    }
    places.into_iter().map(|place| place.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::options::Defaults;
    use super::*;
    use serde_json::json;

    fn usual() -> ClusterWish {
        ClusterWish {
            size: WorkerSize { cores: 2.0, memory_bytes: 4 << 30 },
            nthreads: 2,
            python: None,
            env: BTreeMap::new(),
            nanny: true,
            engine: Engine::Rask,
            hosts: Vec::new(),
            jobs: None,
            idle_timeout_secs: Some(300.0),
            max_lifetime_secs: None,
        }
    }

    fn read(chosen: Value) -> Result<ClusterWish, ChoiceError> {
        let options = Options::built_in(Defaults {
            worker_cores: 2,
            worker_memory_gib: 4.0,
            idle_timeout_secs: 300.0,
            max_lifetime_secs: 0.0,
        });
        wish(&options, &options.validate(&chosen)?, &usual())
    }

    #[test]
    fn defaults_are_the_usual_settings() {
        assert_eq!(read(json!({})), Ok(usual()));
    }

    #[test]
    fn what_is_chosen_gets_its_unit_and_aliases_count() {
        let wish = read(
            json!({ "conda_env": "/e", "worker_cores": 1, "worker_memory": 0.5, "env": { "A": 1, "B": true }, "idle_timeout": 0 }),
        );
        let wish = wish.expect("valid");
        assert_eq!((wish.python.as_deref(), wish.nthreads), (Some("/e"), 1));
        assert_eq!(wish.size, WorkerSize { cores: 1.0, memory_bytes: 512 << 20 });
        let env: Vec<_> = wish.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("A", "1"), ("B", "True")]);
        assert_eq!(wish.idle_timeout_secs, None);
        assert_eq!(
            read(json!({ "hosts": "a, b head" })).map(|wish| wish.hosts),
            Ok(["a", "b", "head"].map(str::to_owned).into())
        );
        let both = read(json!({ "python": "/a", "conda_env": "/b" }));
        assert!(both.is_err_and(|why| why.to_string().contains("python (/a) and conda_env (/b)")));
        assert!(read(json!({ "env": { "A": null } })).is_err());
        assert!(read(json!({ "env": { "A=B": "" } })).is_err());
        let why = |env| read(json!({ "env": env })).expect_err("refused").to_string();
        assert!(why(json!({ "A": "x\0y" })).contains("A: its value holds a NUL character"));
        assert!(why(json!({ "A": "x".repeat(131_072) })).contains("variable A: name and value are 131073 bytes"));
        assert!(read(json!({ "env": { "A": "x".repeat(131_069) } })).is_ok());
    }

    #[test]
    fn a_select_stands_for_settings_and_unknown_fields_become_variables() {
        let text = "[[gateway.options]]\nfield = \"size\"\ntype = \"select\"\n\
                    options = { small = { worker_cores = 1 }, large = { worker_cores = 4, worker_memory = 8 } }\n";
        let config =
            crate::config::Config::load(Some(crate::config::ConfigFile { name: "f", text }), &[]).expect("valid");
        let defaults =
            Defaults { worker_cores: 2, worker_memory_gib: 4.0, idle_timeout_secs: 0.0, max_lifetime_secs: 0.0 };
        let options = Options::declared(&config.gateway.options, defaults).expect("valid");
        let chosen = options.validate(&json!({ "size": "large" })).expect("valid");
        let wish = wish(&options, &chosen, &usual()).expect("valid");
        assert_eq!(wish.size, WorkerSize { cores: 4.0, memory_bytes: 8 << 30 });
        assert_eq!((wish.nthreads, wish.env.get("CLUSTER_OPTION_SIZE").map(String::as_str)), (4, Some("large")));
    }

    #[test]
    fn secrets_are_not_shown() {
        let chosen = json!({ "env": { "AWS_SECRET_ACCESS_KEY": "x", "PGPASSWORD": "x", "PWD": "/", "KEYBOARD": "de", "A_TOKEN": "" }, "python": "token" });
        let Value::Object(chosen) = chosen else { panic!("an object") };
        let want = json!({ "env": { "AWS_SECRET_ACCESS_KEY": MASK, "PGPASSWORD": MASK, "PWD": "/", "KEYBOARD": "de", "A_TOKEN": "" }, "python": "token" });
        assert_eq!(Value::Object(shown(&chosen)), want);
    }
}
