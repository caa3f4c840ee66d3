//! One thing that the doctor has to say.

use std::path::Path;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Works, but worse than it could, or not for everybody.
    Warning,
    /// Something does not work.
    Problem,
}

impl Severity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// One word: what it is about.
    pub area: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What is so.
    pub what: String,
    /// Why that matters; empty where it is plain.
    pub why: String,
    /// What to do; empty where there is nothing to do.
    pub remedy: String,
}

impl Finding {
    pub(super) fn ok(area: &'static str, what: impl Into<String>) -> Self {
        Self { area, severity: Severity::Ok, what: what.into(), why: String::new(), remedy: String::new() }
    }

    pub(super) fn note(area: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::ok(area, what) }
    }

    pub(super) fn warning(area: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::ok(area, what) }
    }

    pub(super) fn problem(area: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, ..Self::ok(area, what) }
    }

    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

/// A path for people.
pub(super) fn show(path: &Path) -> String {
    path.display().to_string()
}
