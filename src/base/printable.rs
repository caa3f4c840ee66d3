//! Others' text made safe to show on a terminal.
//!
//! A key, an exception or a line of a log may hold whatever its author likes. On a terminal, control characters move the
//! cursor, set titles and answer as if somebody had typed, and those that turn the direction of writing around make a
//! text read as another.

use std::borrow::Cow;
use std::fmt::Write;

/// One line: what a terminal would act on is written as JSON writes it, `\\u001b`.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, acts_on_terminal)
}

/// Any number of lines: ends of lines and tabs stay. JSON stays the same JSON, since such characters stand in its
/// strings only.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !matches!(c, '\n' | '\t') && acts_on_terminal(c))
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !acts(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String can't fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    Cow::Owned(out)
}

/// Control characters; what changes the direction or ends a line; what is not seen at all. See UAX #9.
fn acts_on_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// At most `bytes_max` bytes of a text from its beginning, and how many were left out.
pub fn bounded(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(bytes_max);
    Cow::Owned(format!("{}... ({} bytes more)", text.get(..end).unwrap_or_default(), text.len() - end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_seen_instead() {
        let cases = [
            ("plain ä 漢字 👩\u{200d}💻", "plain ä 漢字 👩\u{200d}💻"),
            ("\u{1b}]0;title\u{7}", "\\u001b]0;title\\u0007"),
            ("\u{9b}31m \u{7f}", "\\u009b31m \\u007f"),
            ("\u{202e}abc\u{2069}", "\\u202eabc\\u2069"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ];
        for (text, shown) in cases {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\r\nb\tc\u{1b}"), "a\\r\nb\tc\\u001b");
    }

    /// Goal: a long text is cut between characters, and says so.
    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(bounded("short", 5), "short");
        assert_eq!(bounded("aéé", 4), "aé... (2 bytes more)");
    }
}
