//! Logs of a cluster: its scheduler's, its pool's, its workers'; together, one alone, or as they are written.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use axum::Json as Answer;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, StreamExt, unfold};
use serde_json::Value;

use super::shape::{ErrorBody, seconds};
use crate::clock::unix_ms;
use crate::fleet::logs::{self, LogPosition, LogSelection, LogSource};
use crate::gateway::auth::User;
use crate::gateway::error::ApiError;
use crate::gateway::extract::NamedInPath;
use crate::gateway::state::Gateway;

/// Lines, if not asked otherwise: a screenful of history that still arrives at once.
const TAIL: usize = 1000;
/// Most lines of one answer.
const TAIL_MAX: usize = 100_000;
/// Between looks at files that are followed.
const LOOK: Duration = Duration::from_millis(300);
/// Other machines are asked at every so manieth look.
const LOOKS_ELSEWHERE: u32 = 10;

/// What was asked for.
struct Asked {
    folder: PathBuf,
    /// None: all.
    source: Option<LogSource>,
    wanted: LogSelection,
    follow: bool,
}

impl Asked {
    fn read(folder: PathBuf, query: &HashMap<String, String>) -> Result<Self, ApiError> {
        let since_ms = match query.get("since") {
            None => None,
            Some(text) => {
                let given = text.parse::<f64>().map_or_else(|_| Value::from(text.as_str()), Value::from);
                Some(unix_ms().saturating_sub((seconds("since", &given)? * 1000.0) as i64))
            }
        };
        let tail = match query.get("tail") {
            None => TAIL,
            Some(text) => {
                text.parse().map_err(|_| ApiError::invalid(format!("tail: {text:?} is not a number of lines")))?
            }
        };
        let source = query.get("worker").map(|name| match name.as_str() {
            "scheduler" => LogSource::Scheduler,
            "group" => LogSource::Pool,
            worker => LogSource::Worker(worker.to_owned()),
        });
        let follow = query.get("follow").is_some_and(|value| value != "0" && value != "false");
        Ok(Self { folder, source, wanted: LogSelection { since_ms, tail: Some(tail.min(TAIL_MAX)) }, follow })
    }

    /// Names and files, as they are now: workers come while a log is followed.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let file = |name: &str, source: &LogSource| (name.to_owned(), source.path(&self.folder));
        match &self.source {
            Some(source) => vec![file("", source)],
            None => {
                let workers = logs::index(&self.folder).into_keys();
                let own = [file("scheduler", &LogSource::Scheduler), file("group", &LogSource::Pool)];
                own.into_iter().chain(workers.map(|name| file(&name, &LogSource::Worker(name.clone())))).collect()
            }
        }
    }
}

/// Lines of text, oldest first. All processes together (each line with its name in front), or one of them.
///
/// Those of workers on other machines are there too; while they are followed, a few seconds late.
#[utoipa::path(get, path = "/api/rask/v1/clusters/{name}/logs", tag = "logs",
    params(("name" = String, Path),
        ("worker" = Option<String>, Query, description = "a worker's name, or scheduler, or group; not given: all"),
        ("since" = Option<String>, Query, description = "seconds, or like 10m"),
        ("tail" = Option<u32>, Query, description = "lines; 1000 if not given"),
        ("follow" = Option<bool>, Query, description = "go on with what is written from now on")),
    responses((status = 200, content_type = "text/plain", body = String), (status = 404, body = ErrorBody)))]
pub(super) async fn logs(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, ApiError> {
    gateway.cluster(&user, &name, "view")?;
    let asked = Asked::read(gateway.logs_folder(&name), &query)?;
    let mut others = Elsewhere { gateway: gateway.clone(), cluster: name.to_string(), last: BTreeMap::new(), looks: 0 };
    let elsewhere = others.news(&asked).await;
    let known_elsewhere = !elsewhere.is_empty();
    let (asked, first) = blocking(move || {
        let first = read(&asked, elsewhere);
        (asked, first)
    })
    .await?;
    if let (Some(LogSource::Worker(worker)), true) = (&asked.source, first.places.is_empty() && !known_elsewhere) {
        return Err(ApiError::not_found(format!("cluster {name} has no log of a worker {worker}"))
            .remedy(format!("see /api/rask/v1/clusters/{name}/logs/index for those that left one")));
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    let body = match asked.follow {
        true => {
            Body::from_stream(followed(asked, others, first).take_until(Box::pin(gateway.auth.sessions.revoked(&user))))
        }
        false => Body::from(first.text),
    };
    Ok((kind, body).into_response())
}

/// Workers that left a log, with their lives: process, start, end, cause.
#[utoipa::path(get, path = "/api/rask/v1/clusters/{name}/logs/index", tag = "logs", params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody)))]
pub(super) async fn index(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
) -> Result<Answer<Value>, ApiError> {
    gateway.cluster(&user, &name, "view")?;
    let folder = gateway.logs_folder(&name);
    let found = blocking(move || logs::index(&folder)).await?;
    Ok(Answer(serde_json::json!({ "workers": found })))
}

/// Text, and where each file ended then.
struct Chunk {
    text: String,
    places: BTreeMap<PathBuf, LogPosition>,
}

/// Logs of workers on other machines: those have no files here.
struct Elsewhere {
    gateway: Gateway,
    cluster: String,
    last: BTreeMap<String, Shown>,
    looks: u32,
}

/// How far a log was shown: the time of its last line, and how many lines had that time.
type Shown = (String, usize);

/// The lines that were not shown yet. A line without a time belongs to the one before it.
fn fresh(mut lines: Vec<String>, shown: &mut Shown) -> Vec<String> {
    let (mut time, mut same) = (String::new(), 0);
    lines.retain(|line| {
        match stamp(line) {
            Some(stamp) if stamp != time => (time, same) = (stamp.to_owned(), 1),
            Some(_) | None => same += 1,
        }
        (&time, same) > (&shown.0, shown.1)
    });
    *shown = (time, same).max(shown.clone());
    lines
}

impl Elsewhere {
    /// What is new there.
    async fn news(&mut self, asked: &Asked) -> Vec<(String, Vec<String>)> {
        let due = self.looks.is_multiple_of(LOOKS_ELSEWHERE);
        self.looks = self.looks.wrapping_add(1);
        if !due {
            return Vec::new();
        }
        // Fewer may be wanted at first. What is not asked for then would look new at the next look.
        let tail = asked.wanted.tail.unwrap_or(TAIL).max(TAIL);
        let mut all = of_others(asked, self.gateway.fleet.logs_elsewhere(&self.cluster, tail).await);
        for (name, lines) in &mut all {
            *lines = fresh(std::mem::take(lines), self.last.entry(name.clone()).or_default());
        }
        all.retain(|(_, lines)| !lines.is_empty());
        all
    }
}

/// The lines of other machines that were asked for, by process.
fn of_others(asked: &Asked, machines: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (machine, lines) in machines {
        for line in lines {
            let Some((file, line)) = line.split_once(" | ") else { continue };
            let worker = file.strip_prefix("worker-");
            let name = match (&asked.source, worker) {
                (None, Some(worker)) => worker.to_owned(),
                (None, None) => format!("group on {machine}"),
                (Some(LogSource::Worker(wanted)), Some(worker)) if wanted == worker => String::new(),
                (Some(_), _) => continue,
            };
            all.entry(name).or_default().push(line.to_owned());
        }
    }
    let since = |lines| match asked.wanted.since_ms {
        Some(since_ms) => logs::later_than(lines, since_ms),
        None => lines,
    };
    all.into_iter().map(|(name, lines)| (name, since(lines))).collect()
}

/// `all`: what is known from elsewhere.
fn read(asked: &Asked, mut all: Vec<(String, Vec<String>)>) -> Chunk {
    let mut places = BTreeMap::new();
    for (name, path) in asked.files() {
        // A file that is not there (yet) has no lines.
        if let Some(found) = logs::read(&path, asked.wanted).ok().filter(|_| path.exists()) {
            places.insert(path, found.place);
            all.push((name, found.lines));
        }
    }
    let mut lines = woven(all);
    if let Some(tail) = asked.wanted.tail {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    Chunk { text: lines.concat(), places }
}

fn read_on(asked: &Asked, mut places: BTreeMap<PathBuf, LogPosition>, mut all: Vec<(String, Vec<String>)>) -> Chunk {
    for (name, path) in asked.files() {
        let place = places.get(&path).copied().unwrap_or_default();
        if let Ok(found) = logs::follow(&path, place) {
            places.insert(path, found.place);
            all.push((name, found.lines));
        }
    }
    Chunk { text: woven(all).concat(), places }
}

/// Lines of several files in the order of their times. A line without a time belongs to the one before it.
fn woven(files: Vec<(String, Vec<String>)>) -> Vec<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, lines) in files {
        let mut time = String::new();
        for line in lines {
            if let Some(stamp) = stamp(&line) {
                time = stamp.to_owned();
            }
            let whole = if name.is_empty() { format!("{line}\n") } else { format!("[{name}] {line}\n") };
            all.push((time.clone(), whole));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().map(|(_, line)| line).collect()
}

/// The time at a line's begin, as text that sorts as the times do.
fn stamp(line: &str) -> Option<&str> {
    let text = line.strip_prefix("{\"timestamp\":\"").unwrap_or(line);
    let stamp = text.get(..text.find([' ', '"', 'Z'])?)?;
    (stamp.len() >= 19 && stamp.starts_with(|c: char| c.is_ascii_digit()) && stamp.contains('T')).then_some(stamp)
}

fn followed(asked: Asked, others: Elsewhere, first: Chunk) -> impl Stream<Item = Result<Bytes, Infallible>> {
    unfold((asked, others, first), |(asked, mut others, chunk)| async move {
        if !chunk.text.is_empty() {
            let text = Bytes::from(chunk.text);
            let rest = Chunk { text: String::new(), places: chunk.places };
            return Some((Ok::<_, Infallible>(text), (asked, others, rest)));
        }
        let mut places = chunk.places;
        let mut asked = asked;
        loop {
            tokio::time::sleep(LOOK).await;
            let elsewhere = others.news(&asked).await;
            let next = tokio::task::spawn_blocking(move || {
                let chunk = read_on(&asked, places, elsewhere);
                (asked, chunk)
            });
            let (same, chunk) = next.await.ok()?;
            if chunk.text.is_empty() {
                (asked, places) = (same, chunk.places);
                continue;
            }
            let text = Bytes::from(chunk.text);
            return Some((Ok(text), (same, others, Chunk { text: String::new(), places: chunk.places })));
        }
    })
}

/// Files are read beside the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the log could not be read: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_shown_twice_and_none_is_missed() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let all = lines(&[
            "printed before any time",
            "2026-01-01T00:00:01.000Z a",
            "  more of a",
            "2026-01-01T00:00:02.000Z b",
            "2026-01-01T00:00:02.000Z c",
            "  more of c",
            "2026-01-01T00:00:03.000Z d",
        ]);
        for at in 0..=all.len() {
            let mut shown = Shown::default();
            let mut told = fresh(all[..at].to_vec(), &mut shown);
            told.extend(fresh(all.clone(), &mut shown));
            assert_eq!(told, all, "looked at after {at} lines");
            assert!(fresh(all[2..].to_vec(), &mut shown).is_empty(), "a window that moved on");
        }
    }

    #[test]
    fn lines_of_several_files_are_woven_by_time_and_tracebacks_stay_together() {
        let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let one = lines(&["2026-01-01T00:00:01Z a", "  more", "2026-01-01T00:00:05Z b"]);
        let two = lines(&["{\"timestamp\":\"2026-01-01T00:00:03Z\",\"x\":1}"]);
        let woven = woven(vec![("s".to_owned(), one), ("w".to_owned(), two)]);
        let want = [
            "[s] 2026-01-01T00:00:01Z a\n",
            "[s]   more\n",
            "[w] {\"timestamp\":\"2026-01-01T00:00:03Z\",\"x\":1}\n",
            "[s] 2026-01-01T00:00:05Z b\n",
        ];
        assert_eq!(woven, want);
    }
}
