//! Log lines on standard error.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::state_dir::LogPlace;
use crate::app::command_error::CommandError;
use crate::base::bounded;
use crate::config::{LogFormat, LogSection};

/// Longest line. Names, keys and reasons come from others, and may be as long as a message.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Longest text in a line of JSON that would be too long.
const FIELD_BYTES_MAX: usize = 4 << 10;

/// Starts logging. `$RASK_LOG` wins over the configuration's level.
pub fn init(log: &LogSection) -> Result<(), CommandError> {
    let (source, text) = match std::env::var("RASK_LOG") {
        Ok(text) if !text.is_empty() => ("$RASK_LOG", text),
        Ok(_) | Err(_) => ("log.level", log.level.clone()),
    };
    let filter = EnvFilter::try_new(&text).map_err(|why| {
        CommandError::usage(format!("{source} is not a log filter: {why}")).remedy("try info or rask::net=debug")
    })?;
    let is_json = log.format == LogFormat::Json;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || BoundedLines { is_json })
        .with_ansi(std::io::stderr().is_terminal());
    match (log.format, LogPlace::of_stderr()) {
        (LogFormat::Text, LogPlace::Journal { .. }) => builder.event_format(ForJournal::default()).init(),
        (LogFormat::Text, LogPlace::Passing | LogPlace::File(_)) => builder.init(),
        (LogFormat::Json, _) => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Standard error, with lines of [`LINE_BYTES_MAX`] at most. It is given whole lines.
struct BoundedLines {
    is_json: bool,
}

impl Write for BoundedLines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(&bounded_line(line, self.is_json))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

fn bounded_line(line: &[u8], is_json: bool) -> Cow<'_, [u8]> {
    if line.len() <= LINE_BYTES_MAX {
        return Cow::Borrowed(line);
    }
    let whole = if is_json { serde_json::from_slice(line).ok() } else { None };
    let cut = match whole {
        Some(whole) => with_short_texts(whole).to_string(),
        None => bounded(String::from_utf8_lossy(line).trim_end(), LINE_BYTES_MAX).into_owned(),
    };
    Cow::Owned(format!("{cut}\n").into_bytes())
}

fn with_short_texts(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(bounded(&text, FIELD_BYTES_MAX).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(with_short_texts).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, with_short_texts(value))).collect())
        }
        other => other,
    }
}

/// Lines as the journal wants them: it has the time itself, and reads the priority from the front.
///
/// Source: man 3 sd-daemon, "Logging"; man 3 syslog for the numbers.
struct ForJournal(Format<Full, ()>);

impl Default for ForJournal {
    fn default() -> Self {
        Self(tracing_subscriber::fmt::format().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what others name does not make lines as long as they like, and JSON stays JSON.
    #[test]
    fn a_long_name_makes_no_long_line() {
        let name = "x".repeat(1 << 20);
        let text = bounded_line(format!("client connected client={name}\n").as_bytes(), false).into_owned();
        assert!(
            text.len() < LINE_BYTES_MAX + 100 && text.starts_with(b"client connected") && text.ends_with(b"more)\n")
        );
        let json = serde_json::json!({"message": "client connected", "client": name, "level": "INFO"}).to_string();
        let cut: serde_json::Value = serde_json::from_slice(&bounded_line(json.as_bytes(), true)).expect("JSON");
        assert_eq!((cut["message"].as_str(), cut["level"].as_str()), (Some("client connected"), Some("INFO")));
        assert!(cut["client"].as_str().is_some_and(|client| client.len() < FIELD_BYTES_MAX + 100));
        assert_eq!(&*bounded_line(b"short\n", false), b"short\n");
    }
}
