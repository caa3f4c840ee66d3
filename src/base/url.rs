//! Text as a part of a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters. Source: RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Any text as one segment of a path, or one value of a query.
pub fn url_part(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_holds_it_stays_one_part() {
        assert_eq!(url_part("a.b-c_1~"), "a.b-c_1~");
        assert_eq!(url_part("../x?y#ä&z=%"), "..%2Fx%3Fy%23%C3%A4%26z%3D%25");
    }
}
