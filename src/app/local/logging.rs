//! Log lines on standard error.

use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::state_dir::LogPlace;
use crate::app::command_error::CommandError;
use crate::config::{LogFormat, LogSection};

/// Starts logging. `$RASK_LOG` wins over the configuration's level.
pub fn init(log: &LogSection) -> Result<(), CommandError> {
    let (source, text) = match std::env::var("RASK_LOG") {
        Ok(text) if !text.is_empty() => ("$RASK_LOG", text),
        Ok(_) | Err(_) => ("log.level", log.level.clone()),
    };
    let filter = EnvFilter::try_new(&text).map_err(|why| {
        CommandError::usage(format!("{source} is not a log filter: {why}")).remedy("try info or rask::net=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match (log.format, LogPlace::of_stderr()) {
        (LogFormat::Text, LogPlace::Journal { .. }) => builder.event_format(ForJournal::default()).init(),
        (LogFormat::Text, LogPlace::Passing | LogPlace::File(_)) => builder.init(),
        (LogFormat::Json, _) => builder.json().flatten_event(true).init(),
    }
    Ok(())
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
