//! The options that users may choose: declared in `rask.toml` or built in, described for clients, checked.
//!
//! Source: `dask_gateway_server/options.py`, whose messages users know; `dask_gateway/options.py`, which reads what we
//! describe and refuses any key it does not know.

use serde_json::{Map, Value, json};

use super::choice::{ChoiceError, DeclarationError, FieldError};
use super::value::python;
use crate::config::{Choices, Engine, GatewayOption, OptionType};

/// The choice of no batch system.
pub const HERE: &str = "here";

/// What values a field takes.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Int {
        min: Option<i64>,
        max: Option<i64>,
    },
    Float {
        min: Option<f64>,
        max: Option<f64>,
    },
    Text,
    Bool,
    /// Names, and the values of other fields that each stands for.
    Select(Vec<Choice>),
    Mapping,
}

/// A name and the values of other fields that it stands for.
type Choice = (String, Map<String, Value>);

#[derive(Clone, Debug, PartialEq)]
struct Field {
    name: String,
    label: Option<String>,
    kind: Kind,
    default: Value,
}

/// All options, in the order they are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Options(Vec<Field>);

/// Defaults of the built-in list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    pub worker_cores: u32,
    /// Memory of a worker. Unit: GiB.
    pub worker_memory_gib: f64,
    /// 0: never.
    pub idle_timeout_secs: f64,
    /// 0: for ever.
    pub max_lifetime_secs: f64,
}

impl Options {
    /// The list that is offered when none is declared.
    pub fn built_in(defaults: Defaults) -> Self {
        let field = |name: &str, label: &str, kind: Kind, default: Value| Field {
            name: name.to_owned(),
            label: Some(label.to_owned()),
            kind,
            default,
        };
        let whole = |min| Kind::Int { min: Some(min), max: None };
        let seconds = Kind::Float { min: Some(0.0), max: None };
        Self(vec![
            field("worker_cores", "Cores of a worker", whole(1), json!(defaults.worker_cores)),
            field(
                "worker_memory",
                "Memory of a worker (GiB)",
                Kind::Float { min: Some(0.1), max: None },
                json!(defaults.worker_memory_gib),
            ),
            field("nthreads", "Threads of a worker (0: one per core)", whole(0), json!(0)),
            field("python", "Python: an environment or interpreter (empty: the usual one)", Kind::Text, json!("")),
            field("conda_env", "The same as python", Kind::Text, json!("")),
            field("environment", "Environment variables", Kind::Mapping, json!({})),
            field("env", "The same as environment", Kind::Mapping, json!({})),
            field(
                "idle_timeout",
                "Stop after this long without client and work (seconds, 0: never)",
                seconds.clone(),
                json!(defaults.idle_timeout_secs),
            ),
            field(
                "max_lifetime",
                "Stop after this long in any case (seconds, 0: never)",
                seconds,
                json!(defaults.max_lifetime_secs),
            ),
            field("hosts", "Machines for workers: names, or head for this one (empty: all)", Kind::Text, json!("")),
            field("nanny", "Watch and restart worker processes", Kind::Bool, json!(true)),
            field("engine", "Workers: rask's own (rask), Dask's (stock), or as usual (auto)", engines(), json!("auto")),
        ])
    }

    /// The declared list.
    ///
    /// Errors: a declaration that contradicts itself.
    pub fn declared(list: &[GatewayOption], defaults: Defaults) -> Result<Self, DeclarationError> {
        if list.is_empty() {
            return Ok(Self::built_in(defaults));
        }
        let built_in = Self::built_in(defaults);
        let mut fields: Vec<Field> = Vec::new();
        for option in list {
            if fields.iter().any(|field| field.name == option.field) {
                return Err(DeclarationError::Twice(option.field.clone()));
            }
            let usual = built_in.0.iter().find(|field| field.name == option.field);
            let made = declare(option, usual.map(|field| &field.default));
            fields.push(made.map_err(|source| DeclarationError::Field { field: option.field.clone(), source })?);
        }
        Ok(Self(fields))
    }

    /// With the choice of a batch system, if there is one and the list is the built-in one.
    #[must_use]
    pub fn with_backends(mut self, declared: bool, backends: &[String]) -> Self {
        if declared || backends.is_empty() {
            return self;
        }
        let names = std::iter::once(HERE).chain(backends.iter().map(String::as_str));
        let choices = Kind::Select(names.map(|name| (name.to_owned(), Map::new())).collect());
        let field = |name: &str, label: &str, kind: Kind, default: &str| Field {
            name: name.to_owned(),
            label: Some(label.to_owned()),
            kind,
            default: json!(default),
        };
        self.0.extend([
            field("backend", "Workers: on this machine and those that joined (here), or as jobs", choices, HERE),
            field("partition", "Partition of jobs (empty: the usual one)", Kind::Text, ""),
            field("account", "Account of jobs (empty: the usual one)", Kind::Text, ""),
            field("qos", "Quality of service of jobs (empty: the usual one)", Kind::Text, ""),
            field("walltime", "Time of a job, like 2h (empty: the usual one)", Kind::Text, ""),
        ]);
        self
    }

    /// As `GET /api/v1/options` shows them.
    pub fn describe(&self) -> Vec<Value> {
        let describe = |field: &Field| json!({ "field": field.name, "label": field.label, "default": field.default, "spec": spec(&field.kind) });
        self.0.iter().map(describe).collect()
    }

    /// Checks what was chosen and adds the defaults for what was not. `null` chooses nothing.
    pub fn validate(&self, chosen: &Value) -> Result<Map<String, Value>, ChoiceError> {
        let empty = Map::new();
        let chosen = match chosen {
            Value::Null => &empty,
            Value::Object(chosen) => chosen,
            other => return Err(ChoiceError::NotOptions(super::value::type_name(other))),
        };
        let unknown: Vec<Value> = chosen
            .keys()
            .filter(|name| self.0.iter().all(|field| field.name != **name))
            .map(|name| Value::from(name.as_str()))
            .collect();
        if !unknown.is_empty() {
            return Err(ChoiceError::UnknownFields(python(&Value::Array(unknown))));
        }
        let mut all = Map::new();
        for field in &self.0 {
            let value = match chosen.get(&field.name) {
                Some(value) => check(field, value)?,
                None => field.default.clone(),
            };
            all.insert(field.name.clone(), value);
        }
        Ok(all)
    }

    /// Values of other fields that the chosen names of selects stand for, over which the fields' own values lie.
    pub fn implied(&self, chosen: &Map<String, Value>) -> Map<String, Value> {
        let mut implied = Map::new();
        for field in &self.0 {
            let (Kind::Select(choices), Some(Value::String(name))) = (&field.kind, chosen.get(&field.name)) else {
                continue;
            };
            if let Some((_, settings)) = choices.iter().find(|(choice, _)| choice == name) {
                implied.extend(settings.clone());
            }
        }
        implied
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|field| field.name.as_str())
    }
}

fn engines() -> Kind {
    Kind::Select(
        [Engine::Auto, Engine::Rask, Engine::Stock].map(|engine| (engine.name().to_owned(), Map::new())).into(),
    )
}

fn spec(kind: &Kind) -> Value {
    match kind {
        Kind::Int { min, max } => json!({ "type": "int", "min": min, "max": max }),
        Kind::Float { min, max } => json!({ "type": "float", "min": min, "max": max }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "bool" }),
        Kind::Select(choices) => {
            let names: Vec<&String> = choices.iter().map(|(name, _)| name).collect();
            json!({ "type": "select", "options": names })
        }
        Kind::Mapping => json!({ "type": "mapping" }),
    }
}

/// One value of one field. Whole numbers are fine where numbers are asked for; truth values are not numbers.
fn check(field: &Field, value: &Value) -> Result<Value, ChoiceError> {
    let name = &field.name;
    let wrong = |wanted| ChoiceError::Wrong { field: name.clone(), wanted, given: python(value) };
    match (&field.kind, value) {
        (Kind::Int { min, max }, Value::Number(number)) => {
            let number = number.as_i64().ok_or_else(|| wrong("an integer"))?;
            let (low, high) = (min.is_some_and(|min| number < min), max.is_some_and(|max| number > max));
            out_of_bounds(
                name,
                value,
                low.then(|| min.unwrap_or_default() as f64),
                high.then(|| max.unwrap_or_default() as f64),
            )?;
            Ok(json!(number))
        }
        (Kind::Int { .. }, _) => Err(wrong("an integer")),
        (Kind::Float { min, max }, Value::Number(number)) => {
            let number = number.as_f64().ok_or_else(|| wrong("a float"))?;
            out_of_bounds(name, value, min.filter(|min| number < *min), max.filter(|max| number > *max))?;
            Ok(json!(number))
        }
        (Kind::Float { .. }, _) => Err(wrong("a float")),
        (Kind::Text, Value::String(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Mapping, Value::Object(_)) => {
            Ok(value.clone())
        }
        (Kind::Text, _) => Err(wrong("a string")),
        (Kind::Bool, _) => Err(wrong("a bool")),
        (Kind::Mapping, _) => Err(wrong("a mapping")),
        (Kind::Select(choices), Value::String(chosen)) => match choices.iter().any(|(name, _)| name == chosen) {
            true => Ok(value.clone()),
            false => Err(ChoiceError::NotOffered { field: name.clone(), given: python(value) }),
        },
        (Kind::Select(_), _) => Err(wrong("a string")),
    }
}

fn out_of_bounds(name: &str, value: &Value, below: Option<f64>, above: Option<f64>) -> Result<(), ChoiceError> {
    let (relation, bound) = match (below, above) {
        (Some(min), _) => (">=", min),
        (None, Some(max)) => ("<=", max),
        (None, None) => return Ok(()),
    };
    Err(ChoiceError::OutOfBounds { field: name.to_owned(), relation, bound, given: python(value) })
}

/// One declaration. `usual` is the default of a built-in field of that name.
fn declare(option: &GatewayOption, usual: Option<&Value>) -> Result<Field, FieldError> {
    if option.field.is_empty() {
        return Err(FieldError::NoName);
    }
    let kind = kind_of(option)?;
    let default = match (&option.default, usual) {
        (Some(value), _) => serde_json::to_value(value)?,
        (None, Some(usual)) => usual.clone(),
        (None, None) => nothing_chosen(&kind),
    };
    let mut field = Field { name: option.field.clone(), label: option.label.clone(), kind, default: Value::Null };
    // The client checks defaults against bounds too, and then shows no options at all.
    field.default = check(&field, &default)?;
    Ok(field)
}

fn kind_of(option: &GatewayOption) -> Result<Kind, FieldError> {
    let bounded = option.min.is_some() || option.max.is_some();
    if bounded && !matches!(option.kind, OptionType::Int | OptionType::Float) {
        return Err(FieldError::BoundsWithoutNumbers);
    }
    let whole = |bound: Option<f64>| match bound {
        Some(bound) if bound.fract() != 0.0 || bound.abs() > 2f64.powi(53) => Err(FieldError::NotWhole(bound)),
        bound => Ok(bound.map(|bound| bound as i64)),
    };
    Ok(match (option.kind, &option.options) {
        (OptionType::Select, Some(choices)) => Kind::Select(choices_of(choices)?),
        (OptionType::Select, None) => return Err(FieldError::NoOptions),
        (_, Some(_)) => return Err(FieldError::OptionsWithoutSelect),
        (OptionType::Int, None) => Kind::Int { min: whole(option.min)?, max: whole(option.max)? },
        (OptionType::Float, None) => Kind::Float { min: option.min, max: option.max },
        (OptionType::String, None) => Kind::Text,
        (OptionType::Bool, None) => Kind::Bool,
        (OptionType::Mapping, None) => Kind::Mapping,
    })
}

fn choices_of(choices: &Choices) -> Result<Vec<Choice>, FieldError> {
    let list: Vec<Choice> = match choices {
        Choices::Names(names) => names.iter().map(|name| (name.clone(), Map::new())).collect(),
        Choices::Settings(all) => all
            .iter()
            .map(|(name, settings)| match serde_json::to_value(settings)? {
                Value::Object(settings) => Ok((name.clone(), settings)),
                _ => Err(FieldError::NotATable(name.clone())),
            })
            .collect::<Result<_, FieldError>>()?,
    };
    if list.is_empty() { Err(FieldError::NoOptions) } else { Ok(list) }
}

fn nothing_chosen(kind: &Kind) -> Value {
    match kind {
        Kind::Int { min, max } => json!(min.or(max.filter(|max| *max < 0)).unwrap_or(0)),
        Kind::Float { min, max } => json!(min.or(max.filter(|max| *max < 0.0)).unwrap_or(0.0)),
        Kind::Text => json!(""),
        Kind::Bool => json!(false),
        Kind::Select(choices) => json!(choices.first().map(|(name, _)| name.as_str()).unwrap_or_default()),
        Kind::Mapping => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults =
        Defaults { worker_cores: 2, worker_memory_gib: 4.0, idle_timeout_secs: 300.0, max_lifetime_secs: 86400.0 };

    fn declared(text: &str) -> Result<Options, String> {
        let file = crate::config::ConfigFile { name: "rask.toml", text };
        let config = crate::config::Config::load(Some(file), &[]).map_err(|why| why.to_string())?;
        Options::declared(&config.gateway.options, DEFAULTS).map_err(|why| why.to_string())
    }

    fn refused(options: &Options, chosen: Value) -> Option<String> {
        options.validate(&chosen).err().map(|why| why.to_string())
    }

    #[test]
    fn nothing_chosen_is_all_defaults() {
        let options = Options::built_in(DEFAULTS);
        let all = options.validate(&Value::Null).expect("valid");
        assert_eq!(all.get("worker_cores"), Some(&json!(2)));
        assert_eq!(all.len(), options.names().count());
        assert_eq!(options.validate(&json!({})), Ok(all));
    }

    #[test]
    fn wrong_values_are_refused_with_the_words_that_users_know() {
        let options = Options::built_in(DEFAULTS);
        for (chosen, why) in [
            (json!({"worker_cores": "a"}), "worker_cores must be an integer, got 'a'"),
            (json!({"worker_cores": true}), "worker_cores must be an integer, got True"),
            (json!({"worker_cores": 1.0}), "worker_cores must be an integer, got 1.0"),
            (json!({"worker_cores": 0}), "worker_cores must be >= 1.000000, got 0"),
            (json!({"worker_memory": null}), "worker_memory must be a float, got None"),
            (json!({"worker_memory": true}), "worker_memory must be a float, got True"),
            (json!({"python": 1}), "python must be a string, got 1"),
            (json!({"env": []}), "env must be a mapping, got []"),
            (json!({"nanny": 1}), "nanny must be a bool, got 1"),
            (json!({"b": 1, "a": 2}), "Unknown fields ['a', 'b']"),
            (json!([]), "options must be a dict, got 'list'"),
        ] {
            assert_eq!(refused(&options, chosen.clone()).as_deref(), Some(why), "{chosen}");
        }
        assert_eq!(
            options.validate(&json!({"worker_memory": 4})).map(|all| all.get("worker_memory").cloned()),
            Ok(Some(json!(4.0)))
        );
    }

    #[test]
    fn a_declared_list_replaces_the_built_in_one() {
        let text = "[[gateway.options]]\nfield = \"size\"\ntype = \"select\"\ndefault = \"small\"\n\
                    options = { small = { worker_cores = 1 }, large = { worker_cores = 4 } }\n\
                    [[gateway.options]]\nfield = \"n\"\ntype = \"int\"\nmin = 2\nmax = 5\n";
        let options = declared(text).expect("valid");
        let select = json!({ "field": "size", "label": null, "default": "small", "spec": { "type": "select", "options": ["large", "small"] } });
        assert_eq!(options.describe().first(), Some(&select));
        let all = options.validate(&json!({ "size": "large" })).expect("valid");
        assert_eq!(all.get("n"), Some(&json!(2)));
        assert_eq!(Value::Object(options.implied(&all)), json!({ "worker_cores": 4 }));
        let why = "'x' is not a valid option for size";
        assert_eq!(refused(&options, json!({ "size": "x" })).as_deref(), Some(why));
        assert_eq!(refused(&options, json!({ "n": 6 })).as_deref(), Some("n must be <= 5.000000, got 6"));
    }

    #[test]
    fn declarations_that_contradict_themselves_are_refused() {
        for text in [
            "[[gateway.options]]\nfield = \"a\"\ntype = \"int\"\nmin = 1.5\n",
            "[[gateway.options]]\nfield = \"a\"\ntype = \"int\"\nmin = 3\ndefault = 2\n",
            "[[gateway.options]]\nfield = \"a\"\ntype = \"string\"\nmin = 3\n",
            "[[gateway.options]]\nfield = \"a\"\ntype = \"select\"\n",
            "[[gateway.options]]\nfield = \"a\"\ntype = \"select\"\noptions = []\n",
            "[[gateway.options]]\nfield = \"a\"\ntype = \"int\"\n[[gateway.options]]\nfield = \"a\"\ntype = \"int\"\n",
            "[[gateway.options]]\nfield = \"a\"\ntype = \"number\"\n",
        ] {
            assert!(declared(text).is_err(), "{text}");
        }
    }
}
