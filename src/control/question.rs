//! The questions.

use serde::{Deserialize, Serialize};

use crate::base::Text;

/// What one process may ask of another over a control socket.
///
/// On the wire a question to a scheduler or to a pool stands as itself, without a level of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Is the process there? Answered by the transport itself, with the process id.
    Health,
    /// Which process is it? Answered by the transport itself, with a [`ProcessInfo`](super::ProcessInfo).
    Hello,
    /// End: a scheduler tells its workers and clients, a pool stops its workers, `rask join` leaves its head.
    Stop,
    /// To a pool of workers.
    #[serde(untagged)]
    Pool(PoolQuestion),
    #[serde(untagged)]
    Scheduler(SchedulerQuestion),
}

/// What a scheduler is asked by its supervisor and by its own pages. Answered between two steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchedulerQuestion {
    /// `identity()` with all workers, as JSON: the page `/json/identity.json`.
    Identity,
    /// The numbers of `/json/counts.json`, as JSON.
    Counts,
    /// The page `/metrics`, as Prometheus text.
    Metrics,
    /// `/api/v1/get_workers`, as JSON: `{"num_workers": n, "workers": [{"name", "address"}]}`.
    Workers,
    /// One task with everything that decides its fate, as JSON; empty when it is unknown.
    Task(Text),
    /// One worker with its metrics and what it runs and holds, as JSON; empty when it is unknown.
    Worker(Text),
    /// Tasks that pass all filters that are given, as JSON: `{"total", "tasks"}`. Looks at every task.
    Tasks {
        state: Option<Text>,
        prefix: Option<Text>,
        /// Processing on or held by the worker at this address.
        worker: Option<Text>,
        /// Whose key contains this text.
        contains: Option<Text>,
        /// Where to begin.
        offset: usize,
        /// Most that are listed.
        max: usize,
    },
    /// Tasks, workers and prefixes whose names contain a text. Looks at every task.
    Find {
        text: Text,
        /// Most of each kind.
        max: usize,
    },
    /// One rectangle of the task stream by its number; empty when it is no longer kept.
    Rect(u64),
    /// `{"idle_since": secs or null}`: `/api/v1/check_idle`.
    IdleSince,
    /// `{"workers": n}`: `/api/v1/adaptive_target`.
    AdaptiveTarget,
    /// What clients asked for, a list of [`ComputationState`](super::ComputationState), the oldest first.
    Computations,
    /// `{"topics": [name, ..]}`: the topics that have events.
    Topics,
    /// What decides about scale and lifetime: a [`SchedulerState`](super::SchedulerState).
    State,
    /// Retire workers (data moved first) until this number stay. Answered with the chosen names, while their data still
    /// moves.
    Retire {
        /// Workers that stay.
        keep: u32,
    },
    /// Retire these workers (data moved first). Answered with the names that are known, while their data still moves.
    RetireThese {
        /// Their names.
        names: Vec<String>,
    },
    /// Do not wait for these workers any more, their machine is gone. Answered with the names that were known.
    Lose {
        /// Their names.
        names: Vec<String>,
    },
    /// What a worker was doing when it went without being told to, as [`LastWords`](super::LastWords). Told once.
    LastWords {
        /// The worker's name.
        worker: String,
    },
    /// The machine of these workers is silent, or was heard again. Answered with the names that were known.
    Silent {
        /// Their names.
        names: Vec<String>,
        /// `true`: nothing is heard of their machine.
        silent: bool,
    },
    /// Publish on the topic `warn`: clients show it to their users.
    Warn {
        /// The text that users read.
        text: String,
    },
}

/// What a pool of workers is asked. Each is answered with the pool's [`PoolReport`](super::PoolReport).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolQuestion {
    /// How the workers are.
    #[serde(rename = "group")]
    State,
    /// Have at least this number.
    Grow {
        /// Workers that are wanted.
        workers: u32,
    },
    /// Stop these, at once.
    StopWorkers {
        /// Their names.
        names: Vec<String>,
    },
}

impl From<SchedulerQuestion> for Question {
    fn from(what: SchedulerQuestion) -> Self {
        Self::Scheduler(what)
    }
}

impl From<PoolQuestion> for Question {
    fn from(what: PoolQuestion) -> Self {
        Self::Pool(what)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: processes of an older rask, which knew one flat list of questions, still understand and are understood.
    #[test]
    fn questions_are_spelled_as_they_always_were() {
        let names = || vec!["w".to_owned()];
        let spelled: [(Question, serde_json::Value); 9] = [
            (Question::Hello, json!("hello")),
            (Question::Stop, json!("stop")),
            (SchedulerQuestion::State.into(), json!("state")),
            (SchedulerQuestion::Retire { keep: 2 }.into(), json!({"retire": {"keep": 2}})),
            (SchedulerQuestion::LastWords { worker: "w".to_owned() }.into(), json!({"last-words": {"worker": "w"}})),
            (SchedulerQuestion::RetireThese { names: names() }.into(), json!({"retire-these": {"names": ["w"]}})),
            (PoolQuestion::State.into(), json!("group")),
            (PoolQuestion::Grow { workers: 3 }.into(), json!({"grow": {"workers": 3}})),
            (PoolQuestion::StopWorkers { names: names() }.into(), json!({"stop-workers": {"names": ["w"]}})),
        ];
        for (question, text) in spelled {
            assert_eq!(serde_json::to_value(&question).expect("JSON"), text);
            assert_eq!(serde_json::from_value::<Question>(text).expect("a question"), question);
        }
        assert!(serde_json::from_value::<Question>(json!("of a newer rask")).is_err());
    }
}
