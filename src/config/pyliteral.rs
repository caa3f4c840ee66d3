//! Python literals, as Dask reads its environment variables (`ast.literal_eval`), turned into TOML values.

use toml::{Table, Value};

/// Deepest nesting that is read.
const DEPTH_MAX: u32 = 32;

/// The literal, if the whole text is one. `None` in Python is the text `"none"`, for want of a null in TOML.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value(0)?;
    reader.rest.trim().is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: u32) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '[' => self.items('[', ']', depth).map(Value::Array),
            '(' => self.items('(', ')', depth).map(Value::Array),
            '{' => self.dict(depth),
            '\'' | '"' => self.string().map(Value::String),
            _ => self.word(),
        }
    }

    fn take(&mut self, token: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn items(&mut self, open: char, close: char, depth: u32) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        let _opened = self.take(open);
        while !self.take(close) {
            items.push(self.value(depth.saturating_add(1))?);
            if !self.take(',') {
                return self.take(close).then_some(items);
            }
        }
        Some(items)
    }

    fn dict(&mut self, depth: u32) -> Option<Value> {
        let mut table = Table::new();
        let _opened = self.take('{');
        while !self.take('}') {
            let Value::String(key) = self.value(depth.saturating_add(1))? else { return None };
            if !self.take(':') {
                return None;
            }
            table.insert(key, self.value(depth.saturating_add(1))?);
            if !self.take(',') {
                return self.take('}').then_some(Value::Table(table));
            }
        }
        Some(Value::Table(table))
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next()?;
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                }),
                c if c == quote => {
                    self.rest = self.rest.get(at.saturating_add(c.len_utf8())..)?;
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ']', ')', '}', ':']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word.trim() {
            "None" => Some(Value::String("none".to_owned())),
            "True" => Some(Value::Boolean(true)),
            "False" => Some(Value::Boolean(false)),
            word => number(word),
        }
    }
}

/// A Python number: underscores between digits are allowed, `inf` is not a literal but Dask's settings take it.
fn number(word: &str) -> Option<Value> {
    let plain = word.replace('_', "");
    if !plain.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    plain.parse().map(Value::Integer).or_else(|_| plain.parse().map(Value::Float)).ok()
}
