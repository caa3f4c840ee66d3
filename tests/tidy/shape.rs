//! How long functions and files may be, where a type may be defined, what docs must hold.

use std::collections::BTreeMap;

use super::source::{Source, holds_word, report, sources};

/// Unit: lines, from the line with `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Unit: lines.
const FILE_LINES_MAX: usize = 600;

/// Rooms that follow ids of their own making through tables of their own, where a broken invariant has to end the
/// cluster. All others read what strangers sent, or what files and children say, and must not panic on it.
const OF_OWN_IDS: &[&str] = &["order", "sched", "worker_state"];
/// What the others deny, in their `mod.rs`.
const PANIC_LINTS: &[&str] =
    &["clippy::unwrap_used", "clippy::expect_used", "clippy::panic", "clippy::indexing_slicing"];

#[test]
fn functions_and_files_are_short() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("src/{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
        }
        for (number, length) in functions(&source) {
            if length > FUNCTION_LINES_MAX {
                found.push(format!("src/{}:{number}: a function of {length} lines", source.path));
            }
        }
    }
    report(found);
}

/// First line and number of lines of each function. Counts on rustfmt: a function's brace closes in its own column.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| holds_word(line, "fn")) {
        let indent = line.len() - line.trim_start().len();
        let is_item = line
            .trim_start()
            .split_whitespace()
            .take_while(|word| *word != "fn")
            .all(|word| matches!(word, "const" | "async" | "unsafe" | "extern") || word.starts_with("pub"));
        let closes =
            |line: &&str| line.len() > indent && line[..indent].trim().is_empty() && line[indent..].starts_with('}');
        if is_item && let Some(length) = lines[at..].iter().position(closes) {
            found.push((at + 1, length + 1));
        }
    }
    found
}

/// Names that only their own file sees are left to it.
#[test]
fn a_type_is_defined_once() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (number, line) in source.lines_before_tests() {
            if let Some(name) = type_defined(line) {
                defined.entry(name.to_owned()).or_default().push(format!("src/{}:{number}", source.path));
            }
        }
    }
    let twice = defined.into_iter().filter(|(_, places)| places.len() > 1);
    report(twice.map(|(name, places)| format!("{name} is defined in {}", places.join(", "))).collect());
}

/// The name of the type that an unindented line defines for more than its own file.
fn type_defined(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let is_public = !line.starts_with(' ') && words.next()?.starts_with("pub");
    let is_type = matches!(words.next()?, "struct" | "enum" | "trait" | "union");
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    (is_public && is_type).then_some(&name[..end])
}

#[test]
fn the_state_of_a_cluster_has_its_methods_in_one_file() {
    let in_cluster = |source: &&Source| source.room == "cluster";
    let has_impl = |source: &Source| source.lines().any(|(_, line)| line.starts_with("impl State "));
    let sources = sources();
    let files: Vec<&str> = sources.iter().filter(in_cluster).filter(|s| has_impl(s)).map(|s| s.path.as_str()).collect();
    assert_eq!(files.len(), 1, "`impl State` stands in {files:?}");
}

#[test]
fn rooms_deny_panics() {
    let mut found = Vec::new();
    let is_top = |source: &&Source| source.path == format!("{}/mod.rs", source.room);
    for source in sources().iter().filter(is_top).filter(|source| !OF_OWN_IDS.contains(&source.room.as_str())) {
        let without = PANIC_LINTS.iter().filter(|lint| !source.code.contains(*lint));
        found.extend(without.map(|lint| format!("src/{} does not deny {lint}", source.path)));
    }
    report(found);
}

#[test]
fn no_lint_is_silenced_without_a_reason() {
    let mut found = Vec::new();
    for source in sources() {
        let code = &source.code;
        let silenced = code.match_indices("[allow(").chain(code.match_indices("[expect("));
        for (at, _) in silenced.filter(|(at, _)| !code[*at..].split(")]").next().unwrap_or("").contains("reason =")) {
            let number = code[..at].lines().count();
            found.push(format!("src/{}:{number}: say why, as reason = \"...\"", source.path));
        }
    }
    report(found);
}

#[test]
fn the_table_of_rooms_is_whole() {
    let sources = sources();
    let root = sources.iter().find(|source| source.path == "lib.rs").expect("lib.rs");
    let rows: Vec<&str> = root.text.lines().filter(|line| line.starts_with("//! | `")).collect();
    let mut found = Vec::new();
    for line in root.code.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")) {
        let room = format!("`{}`", line.trim_end_matches(';'));
        match rows.iter().filter(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&room))).count() {
            1 => {}
            count => found.push(format!("src/lib.rs: {room} has {count} rows in the table of rooms")),
        }
    }
    report(found);
}

/// `Source:` names a file of a package that can be looked up, or a standard.
#[test]
fn sources_can_be_looked_up() {
    const STANDARDS: &[&str] = &["RFC ", "PEP ", "POSIX", "Linux", "man ", "XDG", "systemd", "msgpack", "Prometheus"];
    let mut found = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let Some((_, named)) = line.split_once("Source: ").filter(|(before, _)| before.contains("//")) else {
                continue;
            };
            let a_file = [".py", ".yaml", ".rst", ".md", ".c", ".h"].iter().any(|end| named.contains(end));
            if !a_file && !STANDARDS.iter().any(|standard| named.contains(standard)) {
                found.push(format!("src/{}:{}: Source names neither a file nor a standard", source.path, index + 1));
            }
        }
    }
    report(found);
}
