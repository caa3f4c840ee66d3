//! Configuration: sources merged, checked once. Pure: it is given text and variables and opens nothing.
//!
//! Order, later wins: defaults, `rask.toml`, Dask's own variables (`DASK_DISTRIBUTED__...`), ours (`RASK_SECTION__KEY`).
//! Flags are laid over the result by `cli`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod backends;
mod dask;
mod error;
mod gateway;
mod pyliteral;
mod sections;
#[cfg(test)]
mod tests;
mod units;

pub use backends::{BackendKind, BackendSection};
pub use error::ConfigError;
pub use gateway::{
    AuthType, Choices, GatewayAuth, GatewayCluster, GatewayOption, GatewaySection, GatewayUser, OptionType,
};
pub use sections::{
    ActiveMemoryManager, AmmPolicy, CommSection, CommTls, Config, Engine, Ingest, LimitsSection, Locks, LogFormat,
    LogSection, Measure, Rebalance, SchedulerSection, SecuritySection, TlsPair, UpSection, WorkersSection,
};
pub use units::{Auto, ByteSize, MaybeSecs, Secs};

pub use crate::base::{parse_secs, parse_size, show_size};

use serde::Deserialize;
use toml::{Table, Value};

/// The commented sample: every key with its default.
pub const SAMPLE: &str = include_str!("../../config/rask.toml");

/// A configuration file: its name for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    /// As a person would look for it.
    pub name: &'a str,
    /// TOML.
    pub text: &'a str,
}

impl Config {
    /// Merges a file (if there is one) and variables, and checks everything.
    ///
    /// Errors: name the file, line and key, or the variable.
    pub fn load(file: Option<ConfigFile<'_>>, vars: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut merged = Table::new();
        if let Some(file) = file {
            toml::from_str::<Self>(file.text).map_err(|why| ConfigError::in_file(file, &why))?;
            merged = toml::from_str(file.text).map_err(|why| ConfigError::in_file(file, &why))?;
        }
        let mut sorted: Vec<_> = vars.iter().collect();
        sorted.sort();
        for (name, text) in &sorted {
            if let Some(why) = dask::refused(name, text) {
                return Err(ConfigError::Variable { name: name.clone(), why: why.to_owned() });
            }
            if let Some((path, value)) = dask::setting(name, text) {
                overlay(&mut merged, name, &path, &[value])?;
            }
        }
        for (name, text) in &sorted {
            if let Some(path) = own_path(name) {
                overlay(&mut merged, name, &path, &readings(text))?;
            }
        }
        // Each source was checked on its own above, so this cannot fail; if it does, the merged key is named.
        Self::deserialize(merged).map_err(|why| ConfigError::Merged { why: why.to_string() })
    }
}

/// `RASK_UP__PORT` is `up.port`. Variables without `__` (`RASK_LOG`) are not settings.
fn own_path(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix("RASK_")?;
    if !rest.contains("__") {
        return None;
    }
    let mut path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
    // Dask spells its keys with dashes.
    if path.first().is_some_and(|section| section == "scheduler" || section == "comm") {
        for part in &mut path {
            *part = part.replace('_', "-");
        }
    }
    Some(path)
}

/// What a variable's text may mean: a TOML value if it reads as one, else (or if that has the wrong type) text.
fn readings(text: &str) -> Vec<Value> {
    let mut values = Vec::new();
    if let Ok(mut table) = toml::from_str::<Table>(&format!("value = {text}")) {
        values.extend(table.remove("value"));
    }
    values.extend(pyliteral::parse(text));
    values.push(Value::String(text.to_owned()));
    values
}

/// Sets `path` to the first value that the section accepts.
fn overlay(merged: &mut Table, name: &str, path: &[String], values: &[Value]) -> Result<(), ConfigError> {
    let mut first_why = None;
    for value in values {
        let mut alone = Table::new();
        put(&mut alone, path, value.clone());
        match Config::deserialize(alone) {
            Ok(_) => {
                put(merged, path, value.clone());
                return Ok(());
            }
            Err(why) => {
                first_why.get_or_insert(why.message().to_owned());
            }
        }
    }
    Err(ConfigError::Variable { name: name.to_owned(), why: first_why.unwrap_or_default() })
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
