//! Why a configuration was refused.

use super::ConfigFile;
use crate::base::Blame;

/// A setting that cannot be used. Always the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Something in the file.
    #[error("{file}, line {line}: {key}: {why}")]
    File {
        file: String,
        /// Counted from 1.
        line: usize,
        /// `section.key`, as far as it can be told.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A variable with an unknown key or a value of the wrong kind.
    #[error("environment variable {name}: {why}")]
    Variable {
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Sources that are fine one by one and not together.
    #[error("settings contradict each other: {why}")]
    Merged {
        /// What is wrong.
        why: String,
    },
}

impl ConfigError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        Blame::Caller
    }

    pub(super) fn in_file(file: ConfigFile<'_>, why: &toml::de::Error) -> Self {
        let start = why.span().map_or(0, |span| span.start).min(file.text.len());
        let before = file.text.get(..start).unwrap_or_default();
        Self::File {
            file: file.name.to_owned(),
            line: before.matches('\n').count().saturating_add(1),
            key: key_at(file.text, before),
            why: why.message().trim().replace('\n', " "),
        }
    }
}

/// The key whose line holds the end of `before`, with its section.
fn key_at(text: &str, before: &str) -> String {
    let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim();
    if line.starts_with('[') {
        return line.trim_matches(['[', ']']).to_owned();
    }
    let key = line.split('=').next().unwrap_or_default().trim();
    let section = text.get(..line_start).unwrap_or_default().lines().rev().map(str::trim).find(|l| l.starts_with('['));
    match section {
        Some(section) => format!("{}.{key}", section.trim_matches(['[', ']'])),
        None => key.to_owned(),
    }
}
