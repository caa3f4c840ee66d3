//! How numbers, values and long texts look in rows.

use serde_json::{Value as Json, json};

/// Longest line that is made of an event. Unit: characters.
pub(super) const LINE_MAX: usize = 300;

/// A number as screens show it, with this number of digits behind the point.
pub(in crate::feed) fn round(number: f64, digits: i32) -> Json {
    let scale = 10f64.powi(digits);
    let rounded = (number * scale).round() / scale;
    if rounded.is_finite() { rounded.into() } else { Json::Null }
}

/// A number to four significant digits, for what spans many sizes.
pub(in crate::feed) fn brief(number: f64) -> Json {
    if number == 0.0 || !number.is_finite() {
        return json!(0);
    }
    let digits = 3 - number.abs().log10().floor() as i32;
    if digits < 0 { json!(number.round() as i64) } else { round(number, digits.min(9)) }
}

/// At most [`LINE_MAX`] characters of a text.
pub(super) fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(LINE_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}
