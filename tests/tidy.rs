//! Who may name whom, which words pure code may not contain, and what documents say: as a text search. Below
//! `tests/tidy/`: circles of imports, and how long and how often things may be.
//!
//! Standard library only: `rustc --test tests/tidy.rs` builds it in a second, so the gate runs it first. Run it from
//! the root of the repository.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, holds_word, report, sources};

/// Module and what it may name with `crate::`. `*` is everything.
const MAY_NAME: &[(&str, &str)] = &[
    ("base", ""),
    ("sched", "base"),
    ("worker_state", "base"),
    ("wire", "base"),
    ("pickle", "base"),
    ("config", "base"),
    ("clock", "base"),
    ("files", ""),
    ("order", "base"),
    ("graph", "base order pickle"),
    ("host", "base clock"),
    ("pki", "base clock"),
    ("store", "base"),
    ("net", "base clock wire pki"),
    ("control", "base"),
    ("link", "base clock control wire"),
    ("door", "base clock control link net"),
    ("supervise", "base clock files host"),
    ("pyhost", "base clock files wire supervise"),
    ("values", "base"),
    ("executor", "base clock files supervise values wire"),
    ("node", "base clock executor host net supervise values wire worker_state"),
    ("batch", "base config"),
    ("cluster", "base clock config control files graph net pickle pyhost sched wire"),
    ("peer", "base clock config control files host link net pki store supervise wire"),
    ("fleet", "base batch clock config control files host link peer pki store supervise"),
    ("feed", "base clock cluster control fleet host peer sched"),
    ("gateway", "base clock config control fleet host link pki store"),
    ("http", "base clock cluster config control door feed fleet gateway link net peer pki"),
    ("app", "*"),
    ("cli", "base config app supervise"),
];

/// Modules, and single files elsewhere, that hold data and rules only.
const PURE: &[&str] = &[
    "base",
    "sched",
    "worker_state",
    "wire",
    "pickle",
    "graph",
    "order",
    "config",
    "control",
    "supervise/policy.rs",
    "peer/head/lifecycle.rs",
    "batch/job.rs",
    "batch/plan.rs",
    "batch/slurm/text.rs",
    "fleet/placement.rs",
    "fleet/plan.rs",
    "fleet/step.rs",
    "feed/delta.rs",
    "cluster/codec",
    "executor/frame.rs",
    "node/translate.rs",
    "node/store.rs",
    "values/plan.rs",
];

/// Words that a pure module may not contain, comments and tests aside.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "RandomState",
    "thread_rng",
    "tokio",
    "async",
    "tracing",
    "println!",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::time",
];

fn is_pure(source: &Source) -> bool {
    let is_below = |pure: &&str| source.path.strip_prefix(pure).is_some_and(|rest| rest.starts_with('/'));
    PURE.iter().any(|pure| source.path == *pure || source.room == *pure || is_below(pure))
}

/// The modules named with `crate::x` in a line.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn modules_name_only_what_they_may() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_root()) {
        let Some((_, may)) = MAY_NAME.iter().find(|(module, _)| *module == source.room) else {
            found.push(format!("src/{}: module {} is not in the table", source.path, source.room));
            continue;
        };
        for (number, line) in source.lines() {
            if line.contains("crate::{") {
                found.push(format!("src/{}:{number}: one `use crate::` line per module, please", source.path));
            }
            for name in named(line) {
                let allowed = *may == "*" || name == source.room || may.split(' ').any(|other| other == name);
                if !allowed && !name.is_empty() {
                    found.push(format!("src/{}:{number}: {} may not name {name}", source.path, source.room));
                }
            }
        }
    }
    report(found);
}

#[test]
fn pure_modules_touch_no_clock_no_files_no_network_and_no_runtime() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| is_pure(source) && !source.is_test()) {
        for (number, line) in source.lines_before_tests() {
            for word in IMPURE.iter().filter(|word| holds_word(line, word)) {
                found.push(format!("src/{}:{number}: {word} in pure code", source.path));
            }
        }
    }
    report(found);
}

/// What comes from a cluster may hold control characters: `src/app/text.rs` makes them safe for a terminal.
#[test]
fn commands_print_by_way_of_text() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.room == "app" && source.path != "app/text.rs") {
        for (number, line) in source.lines_before_tests() {
            if line.replace("eprintln!", "").contains("println!") {
                found.push(format!("src/{}:{number}: outln! instead of println!", source.path));
            }
        }
    }
    report(found);
}

/// `tokio::time::Instant` is fine: it is for deadlines, and stands still in tests that say so.
#[test]
fn only_the_clock_reads_the_clock() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.room != "clock" && !source.is_test()) {
        for (number, line) in source.lines_before_tests() {
            let of_std = line.contains("std::time") && holds_word(line, "Instant");
            if of_std || holds_word(line, "SystemTime") || line.contains("thread_rng") {
                found.push(format!("src/{}:{number}: the clock is read in clock.rs only", source.path));
            }
        }
    }
    report(found);
}

#[test]
fn every_file_says_what_it_is_for() {
    let without = sources().iter().filter(|source| !source.is_test() && !source.text.starts_with("//!"));
    report(without.map(|source| format!("src/{}: does not open with //!", source.path)).collect());
}

#[test]
fn no_unsafe_no_todo() {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            for word in
                ["unsafe", "TODO", "FIXME", "todo!", "unimplemented!"].into_iter().filter(|w| holds_word(line, w))
            {
                found.push(format!("src/{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    report(found);
}

/// The documents of this repository: `*.md` in its root, beside the sources, and what packages install.
fn documents() -> Vec<PathBuf> {
    let entries = [".", "src", "packaging/doc"].into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "md"));
    found.sort();
    assert!(found.len() > 1, "run this from the root of the repository");
    found
}

/// Paths of sources in a text: from the name of a folder to what cannot be in a path.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 5] = ["src/", "tests/", "web/", "packaging/", "config/"];
    let part = |c: char| c.is_alphanumeric() || "_./-".contains(c);
    text.split(move |c: char| !part(c))
        .map(|word| word.trim_start_matches("../").trim_end_matches('.'))
        .filter(move |word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.starts_with("web/dist"))
}

#[test]
fn documents_name_only_paths_that_exist() {
    let mut found = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("UTF-8");
        for (number, line) in text.lines().enumerate() {
            for path in paths(line).filter(|path| !Path::new(path).exists()) {
                found.push(format!("{}:{}: there is no {path}", document.display(), number + 1));
            }
        }
    }
    report(found);
}
