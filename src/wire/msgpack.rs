//! msgpack as Dask uses it: a borrowing reader that never recurses, and an appending writer.
//!
//! Source: the msgpack specification; `distributed/protocol/core.py`.

use super::error::WireError;

/// What stands at one place of a msgpack text. Lengths are as announced, nothing was reserved for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Marker<'a> {
    /// `None`.
    Nil,
    /// `True` or `False`.
    Bool(bool),
    /// An integer up to `i64::MAX`.
    Int(i64),
    /// A larger integer.
    UInt(u64),
    Float(f64),
    /// Text, not yet checked to be UTF-8.
    Str(&'a [u8]),
    /// Bytes.
    Bin(&'a [u8]),
    /// An array of this number of values follows.
    Array(usize),
    /// A map of this number of pairs follows.
    Map(usize),
}

/// Reads msgpack from the front. Cloning it is a bookmark.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    pub const fn new(raw: &'a [u8]) -> Self {
        Self { raw, at: 0 }
    }

    /// How many bytes were read.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left. No value is shorter than one byte, which bounds every announced count.
    pub const fn left(&self) -> usize {
        self.raw.len().saturating_sub(self.at)
    }

    /// Errors: bytes left over.
    pub const fn finish(&self) -> Result<(), WireError> {
        if self.left() == 0 { Ok(()) } else { Err(WireError::Trailing { bytes: self.left() }) }
    }

    /// The next token. Errors: cut short, or a marker that Dask never sends.
    #[inline]
    pub fn token(&mut self) -> Result<Marker<'a>, WireError> {
        let at_byte = self.at;
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => Marker::Int(i64::from(marker)),
            0x80..=0x8f => Marker::Map(usize::from(marker & 0x0f)),
            0x90..=0x9f => Marker::Array(usize::from(marker & 0x0f)),
            0xa0..=0xbf => Marker::Str(self.take(usize::from(marker & 0x1f))?),
            0xc0 => Marker::Nil,
            0xc2 | 0xc3 => Marker::Bool(marker == 0xc3),
            0xc4 => Marker::Bin(self.take_counted::<1>()?),
            0xc5 => Marker::Bin(self.take_counted::<2>()?),
            0xc6 => Marker::Bin(self.take_counted::<4>()?),
            0xca => Marker::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Marker::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Marker::Int(i64::from(u8::from_be_bytes(self.array()?))),
            0xcd => Marker::Int(i64::from(u16::from_be_bytes(self.array()?))),
            0xce => Marker::Int(i64::from(u32::from_be_bytes(self.array()?))),
            0xcf => {
                let number = u64::from_be_bytes(self.array()?);
                i64::try_from(number).map_or(Marker::UInt(number), Marker::Int)
            }
            0xd0 => Marker::Int(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Marker::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Marker::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Marker::Int(i64::from_be_bytes(self.array()?)),
            0xd9 => Marker::Str(self.take_counted::<1>()?),
            0xda => Marker::Str(self.take_counted::<2>()?),
            0xdb => Marker::Str(self.take_counted::<4>()?),
            0xdc => Marker::Array(self.count::<2>()?),
            0xdd => Marker::Array(self.count::<4>()?),
            0xde => Marker::Map(self.count::<2>()?),
            0xdf => Marker::Map(self.count::<4>()?),
            0xe0..=0xff => Marker::Int(i64::from(marker as i8)),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(WireError::BadMarker { marker, at_byte }),
        })
    }

    /// Text of `bytes`, which were just read. Errors: not UTF-8.
    pub fn text(&self, bytes: &'a [u8]) -> Result<&'a str, WireError> {
        std::str::from_utf8(bytes).map_err(|_| WireError::Text { at_byte: self.at })
    }

    /// Passes over one value, however deep, and returns its bytes.
    #[inline]
    pub fn span(&mut self) -> Result<&'a [u8], WireError> {
        let from = self.at;
        let mut missing: u64 = 1;
        while missing > 0 {
            missing = missing.saturating_sub(1);
            match self.token()? {
                Marker::Array(len) => missing = missing.saturating_add(len as u64),
                Marker::Map(len) => missing = missing.saturating_add((len as u64).saturating_mul(2)),
                Marker::Nil
                | Marker::Bool(_)
                | Marker::Int(_)
                | Marker::UInt(_)
                | Marker::Float(_)
                | Marker::Str(_)
                | Marker::Bin(_) => {}
            }
        }
        self.raw.get(from..self.at).ok_or(WireError::Cut { at_byte: self.at })
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, WireError> {
        let byte = *self.raw.get(self.at).ok_or(WireError::Cut { at_byte: self.at })?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let cut = WireError::Cut { at_byte: self.at };
        let end = self.at.checked_add(len).ok_or(cut)?;
        let bytes = self.raw.get(self.at..end).ok_or(cut)?;
        self.at = end;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let cut = WireError::Cut { at_byte: self.at };
        self.take(N)?.try_into().map_err(|_| cut)
    }

    #[inline]
    fn count<const N: usize>(&mut self) -> Result<usize, WireError> {
        Ok(self.array::<N>()?.iter().fold(0, |count, &byte| count << 8 | usize::from(byte)))
    }

    #[inline]
    fn take_counted<const N: usize>(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.count::<N>()?;
        self.take(len)
    }
}

// ---- writing ------------------------------------------------------------------------------------------------

/// Appends nil.
pub fn put_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Appends a truth value.
pub fn put_bool(out: &mut Vec<u8>, b: bool) {
    out.push(if b { 0xc3 } else { 0xc2 });
}

/// Appends an integer in its shortest spelling.
pub fn put_u64(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => put_marked(out, 0xcd, (number as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put_marked(out, 0xce, (number as u32).to_be_bytes()),
        0x1_0000_0000.. => put_marked(out, 0xcf, number.to_be_bytes()),
    }
}

/// Appends an integer in its shortest spelling.
pub fn put_i64(out: &mut Vec<u8>, number: i64) {
    match number {
        0.. => put_u64(out, number as u64),
        -32..=-1 => out.push(number as u8),
        -0x80..=-33 => out.extend_from_slice(&[0xd0, number as u8]),
        -0x8000..=-0x81 => put_marked(out, 0xd1, (number as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => put_marked(out, 0xd2, (number as i32).to_be_bytes()),
        ..=-0x8000_0001 => put_marked(out, 0xd3, number.to_be_bytes()),
    }
}

/// Appends a float, whole or not.
pub fn put_f64(out: &mut Vec<u8>, number: f64) {
    put_marked(out, 0xcb, number.to_be_bytes());
}

/// Appends text. Text over 4 GiB, which msgpack can't say, becomes nil.
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    match u32::try_from(text.len()) {
        Ok(len @ 0..=31) => out.push(0xa0 | len as u8),
        Ok(len @ 32..=0xff) => out.extend_from_slice(&[0xd9, len as u8]),
        Ok(len @ 0x100..=0xffff) => put_marked(out, 0xda, (len as u16).to_be_bytes()),
        Ok(len) => put_marked(out, 0xdb, len.to_be_bytes()),
        Err(_) => return put_nil(out),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends bytes. Bytes over 4 GiB, which msgpack can't say, become nil.
pub fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match u32::try_from(bytes.len()) {
        Ok(len @ 0..=0xff) => out.extend_from_slice(&[0xc4, len as u8]),
        Ok(len @ 0x100..=0xffff) => put_marked(out, 0xc5, (len as u16).to_be_bytes()),
        Ok(len) => put_marked(out, 0xc6, len.to_be_bytes()),
        Err(_) => return put_nil(out),
    }
    out.extend_from_slice(bytes);
}

/// Begins an array.
pub fn put_array(out: &mut Vec<u8>, len: usize) {
    match len_u32(len) {
        len @ 0..=15 => out.push(0x90 | len as u8),
        len @ 16..=0xffff => put_marked(out, 0xdc, (len as u16).to_be_bytes()),
        len => put_marked(out, 0xdd, len.to_be_bytes()),
    }
}

/// Begins a map.
pub fn put_map(out: &mut Vec<u8>, len: usize) {
    match len_u32(len) {
        len @ 0..=15 => out.push(0x80 | len as u8),
        len @ 16..=0xffff => put_marked(out, 0xde, (len as u16).to_be_bytes()),
        len => put_marked(out, 0xdf, len.to_be_bytes()),
    }
}

fn len_u32(len: usize) -> u32 {
    // No message of ours counts 2^32 things: its keys alone would not fit in memory.
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn put_marked<const N: usize>(out: &mut Vec<u8>, marker: u8, bytes: [u8; N]) {
    out.push(marker);
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Marker<'_>, WireError> {
        let mut cursor = Cursor::new(bytes);
        let marker = cursor.token()?;
        cursor.finish()?;
        Ok(marker)
    }

    #[test]
    fn integers_are_written_in_their_shortest_spelling_and_read_back() {
        for (number, length) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (255, 2),
            (256, 3),
            (65_535, 3),
            (65_536, 5),
            (4_294_967_295, 5),
            (4_294_967_296, 9),
            (i64::MAX, 9),
            (-1, 1),
            (-32, 1),
            (-33, 2),
            (-128, 2),
            (-129, 3),
            (-32_768, 3),
            (-32_769, 5),
            (-2_147_483_648, 5),
            (-2_147_483_649, 9),
            (i64::MIN, 9),
        ] {
            let mut out = Vec::new();
            put_i64(&mut out, number);
            assert_eq!((out.len(), read(&out)), (length, Ok(Marker::Int(number))), "{number}");
        }
        let mut out = Vec::new();
        put_u64(&mut out, u64::MAX);
        assert_eq!(read(&out), Ok(Marker::UInt(u64::MAX)));
    }

    #[test]
    fn texts_and_bytes_are_read_back_at_every_width_of_their_length() {
        for length in [0, 31, 32, 255, 256, 65_535, 65_536] {
            let (mut out, text) = (Vec::new(), "x".repeat(length));
            put_str(&mut out, &text);
            assert_eq!(read(&out), Ok(Marker::Str(text.as_bytes())), "{length}");
            out.clear();
            put_bin(&mut out, text.as_bytes());
            assert_eq!(read(&out), Ok(Marker::Bin(text.as_bytes())), "{length}");
        }
    }

    #[test]
    fn counts_are_read_back_at_every_width() {
        for count in [0, 15, 16, 65_535, 65_536] {
            let mut out = Vec::new();
            put_array(&mut out, count);
            assert_eq!(read(&out), Ok(Marker::Array(count)), "{count}");
            out.clear();
            put_map(&mut out, count);
            assert_eq!(read(&out), Ok(Marker::Map(count)), "{count}");
        }
    }

    #[test]
    fn a_whole_float_stays_a_float() {
        let mut out = Vec::new();
        put_f64(&mut out, 2.0);
        assert_eq!(read(&out), Ok(Marker::Float(2.0)));
        assert_eq!(read(&[0xca, 0x40, 0, 0, 0]), Ok(Marker::Float(2.0)), "from four bytes too");
    }

    #[test]
    fn what_dask_never_sends_is_refused_with_its_place() {
        for marker in [0xc1, 0xc7, 0xc9, 0xd4, 0xd8] {
            assert_eq!(read(&[marker]), Err(WireError::BadMarker { marker, at_byte: 0 }));
        }
    }

    #[test]
    fn bytes_that_end_too_early_are_cut_and_those_left_over_are_told() {
        for bytes in [&[][..], &[0xcd, 1], &[0xa3, b'a', b'b'], &[0xc6, 0xff, 0xff, 0xff, 0xff, 0]] {
            assert!(matches!(read(bytes), Err(WireError::Cut { .. })), "{bytes:?}");
        }
        assert_eq!(read(&[0xc0, 0xc0, 0xc0]), Err(WireError::Trailing { bytes: 2 }));
    }

    #[test]
    fn one_value_is_passed_over_however_deep_it_nests() {
        // [[1], {"a": [2]}], and something behind it.
        let bytes = [0x92, 0x91, 1, 0x81, 0xa1, b'a', 0x91, 2, 0xc3];
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(cursor.span(), Ok(&bytes[..8]));
        assert_eq!(cursor.token(), Ok(Marker::Bool(true)));
        let deep = vec![0x91; 100_000];
        assert!(matches!(Cursor::new(&deep).span(), Err(WireError::Cut { .. })), "without recursion");
    }
}
