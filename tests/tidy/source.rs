//! The sources as the rules of `tests/tidy.rs` see them: files below `src/`, their modules, their code without comments.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A Rust file below `src/`.
pub struct Source {
    /// Below `src/`, such as `net/tls.rs`.
    pub path: String,
    /// The room: the first part of the path.
    pub room: String,
    /// The module that the file is, such as `["net", "tls"]`; a `mod.rs` is its folder.
    pub module: Vec<String>,
    pub text: String,
    /// The text with comments, strings and characters blanked out; same lines, same columns.
    pub code: String,
}

/// Every file below `src/`, in order of their paths.
pub fn sources() -> &'static [Source] {
    static READ: LazyLock<Vec<Source>> = LazyLock::new(read_all);
    &READ
}

fn read_all() -> Vec<Source> {
    let mut files = Vec::new();
    walk(Path::new("src"), "rs", &mut files);
    files.sort();
    assert!(!files.is_empty(), "run this from the root of the repository");
    files.iter().map(|path| read(path)).collect()
}

/// Files below `folder` whose names end in `.ending`.
fn walk(folder: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, ending, files);
        } else if path.extension().is_some_and(|end| end == ending) {
            files.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let below = path.strip_prefix("src").expect("below src").to_string_lossy().into_owned();
    let text = fs::read_to_string(path).expect("UTF-8");
    let mut module: Vec<String> = below.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    Source { room: module[0].clone(), module, code: blank(&text), text, path: below }
}

impl Source {
    pub fn is_root(&self) -> bool {
        matches!(self.path.as_str(), "lib.rs" | "main.rs")
    }

    pub fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// Lines of code with their numbers, comments and strings blanked out.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines of code before the unit tests.
    pub fn lines_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.tests_begin();
        self.lines().take_while(move |(number, _)| *number < end)
    }

    /// Number of the line where unit tests begin.
    pub fn tests_begin(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {");
        lines.windows(2).position(begins).map_or(usize::MAX, |index| index + 1)
    }
}

/// The text with comments, strings and characters turned into spaces.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(next) = text[at..].find(['/', '"', '\'', 'r']) {
        out.push_str(&text[at..at + next]);
        at += next;
        let skipped = skip(&text[at..], out.chars().next_back());
        if skipped == 0 {
            out.push_str(&text[at..at + 1]);
            at += 1;
        } else {
            out.extend(text[at..at + skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            at += skipped;
        }
    }
    out + &text[at..]
}

/// Bytes of the comment, string or character that `rest` begins with; 0 if none.
fn skip(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |at| at + 2);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with('r') && !in_word {
        let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
        if rest[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = 2 + hashes;
            return rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len());
        }
    }
    match rest.as_bytes() {
        [b'"', ..] => closing(rest, b'"'),
        // A character, not a lifetime.
        [b'\'', b'\\', ..] => closing(rest, b'\''),
        [b'\'', ..] => match rest.char_indices().nth(2) {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        _ => 0,
    }
}

/// Bytes up to and with the next `quote` that has no backslash before it.
fn closing(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether `word` stands in the line as a whole word.
pub fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(line[..at].chars().next_back()) && !part(line[at + word.len()..].chars().next())
    })
}

/// Fails with all that was found, a line each.
pub fn report(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}
