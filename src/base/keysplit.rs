//! Prefix and group names of keys: what durations, placement and dashboards group tasks by.

use super::key::{Key, KeyPart};

/// Name of the prefix of a key: `inc` for `inc-0123abcd` and for `('inc-0123abcd', 4)`.
///
/// Source: `dask/utils.py`, `key_split`.
pub fn key_prefix(key: &Key) -> String {
    let mut part = key.part();
    let holder;
    while let KeyPart::Tuple(mut items) = part {
        match items.next() {
            Some(first) => part = first,
            None => return "Other".to_owned(),
        }
    }
    let text = match part {
        KeyPart::Str(text) => text,
        KeyPart::Bin(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => {
                holder = text.to_owned();
                return prefix_of_text(&holder);
            }
            Err(_) => return "Other".to_owned(),
        },
        KeyPart::Int(_) | KeyPart::UInt(_) | KeyPart::Float(_) | KeyPart::Tuple(_) => return "Other".to_owned(),
    };
    prefix_of_text(text)
}

fn prefix_of_text(text: &str) -> String {
    let mut words = text.split('-');
    let first = words.next().unwrap_or_default();
    let Some(initial) = first.chars().next() else {
        return "Other".to_owned();
    };
    let mut result = if initial.is_alphabetic() {
        first.to_owned()
    } else {
        first.split(',').next().unwrap_or_default().trim_matches(|c| "_'()\"".contains(c)).to_owned()
    };
    for word in words {
        let is_word = !word.is_empty() && word.chars().all(char::is_alphabetic);
        let is_hash = word.chars().count() == 8 && word.chars().all(|c| ('a'..='f').contains(&c));
        if !is_word || is_hash {
            break;
        }
        result.push('-');
        result.push_str(word);
    }
    if is_hex32(&result) {
        return "data".to_owned();
    }
    if result.starts_with('<') {
        let inner = result.trim_matches(|c| c == '<' || c == '>');
        let head = inner.split_whitespace().next().unwrap_or_default();
        return head.rsplit('.').next().unwrap_or_default().to_owned();
    }
    result
}

fn is_hex32(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Name of the group of a key: everything that one call of a collection method made.
///
/// Source: `distributed/utils.py`, `key_split_group`.
pub fn key_group(key: &Key) -> String {
    match key.part() {
        KeyPart::Tuple(mut items) => match items.next() {
            Some(KeyPart::Str(text)) => text.to_owned(),
            Some(KeyPart::Int(i)) => i.to_string(),
            Some(other) => format!("{other}"),
            None => "Other".to_owned(),
        },
        KeyPart::Str(text) => match text.as_bytes().first() {
            Some(b'(') => {
                text.split(',').next().unwrap_or_default().trim_matches(|c| "()\"' \t".contains(c)).to_owned()
            }
            _ if is_hex32(text) => "data".to_owned(),
            Some(b'<') => {
                let inner = text.trim_matches(|c| c == '<' || c == '>');
                let head = inner.split_whitespace().next().unwrap_or_default();
                head.rsplit('.').next().unwrap_or_default().to_owned()
            }
            _ => prefix_of_text(text),
        },
        KeyPart::Bin(_) => key_prefix(key),
        KeyPart::Int(_) | KeyPart::UInt(_) | KeyPart::Float(_) => "Other".to_owned(),
    }
}
