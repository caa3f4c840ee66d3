//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::{Log, LogFormat};

/// Starts logging. `$RASK_LOG` wins over the configuration's level.
pub fn init(log: &Log) -> Result<(), Failure> {
    let (source, text) = match std::env::var("RASK_LOG") {
        Ok(text) if !text.is_empty() => ("$RASK_LOG", text),
        Ok(_) | Err(_) => ("log.level", log.level.clone()),
    };
    let filter = EnvFilter::try_new(&text).map_err(|why| {
        Failure::usage(format!("{source} is not a log filter: {why}")).remedy("try info or rask::net=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
