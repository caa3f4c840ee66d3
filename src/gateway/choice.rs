//! Why options that a user chose, or that an administrator declared, cannot be.
//!
//! Source: `dask_gateway_server/options.py`, whose messages users know.

use std::path::PathBuf;

use crate::host::ProbeError;

/// What a user chose cannot be. Values are shown as Python shows them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChoiceError {
    #[error("options must be a dict, got '{0}'")]
    NotOptions(&'static str),
    #[error("Unknown fields {0}")]
    UnknownFields(String),
    #[error("{field} must be {wanted}, got {given}")]
    Wrong { field: String, wanted: &'static str, given: String },
    #[error("{field} must be {relation} {bound:.6}, got {given}")]
    OutOfBounds { field: String, relation: &'static str, bound: f64, given: String },
    #[error("{given} is not a valid option for {field}")]
    NotOffered { field: String, given: String },
    #[error("python ({python}) and conda_env ({conda_env}) mean the same and differ; give one of them")]
    TwoPythons { python: String, conda_env: String },
    #[error("{field}: {name} cannot be the name of a variable")]
    VariableName { field: &'static str, name: String },
    #[error("variable {name}: its value holds a NUL character, which no variable can")]
    VariableNul { name: String },
    #[error("variable {name}: name and value are {bytes} bytes; the system takes at most {most} of a variable")]
    VariableTooLong { name: String, bytes: usize, most: usize },
}

/// There is no Python where a user said, or it cannot run workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PythonChoiceError {
    #[error("python: no interpreter at {}", .0.display())]
    NoInterpreter(PathBuf),
    #[error("python: {0}")]
    Unfit(#[from] ProbeError),
    #[error("python: {0}: the home folder is not known")]
    NoHome(String),
    #[error("python: {0} is relative; give a whole path or the name of an environment")]
    Relative(String),
    #[error("python: {0:?} is not the name of an environment")]
    NotAName(String),
    #[error("python: no environment {name}; looked for {places}")]
    NotFound {
        name: String,
        /// Where it was looked for, with commas between.
        places: String,
    },
}

/// A declaration of options in `rask.toml` contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum DeclarationError {
    #[error("gateway.options: {0} is declared twice")]
    Twice(String),
    #[error("gateway.options, field {field}: {source}")]
    Field { field: String, source: FieldError },
}

/// What is wrong with one field of a declaration.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    #[error("it has no name")]
    NoName,
    #[error("min and max are for int and float")]
    BoundsWithoutNumbers,
    #[error("{0} is no whole number")]
    NotWhole(f64),
    #[error("a select needs options")]
    NoOptions,
    #[error("options are for select")]
    OptionsWithoutSelect,
    #[error("{0} is not a table")]
    NotATable(String),
    #[error("default: {0}")]
    Default(#[from] ChoiceError),
    #[error(transparent)]
    Value(#[from] serde_json::Error),
}
