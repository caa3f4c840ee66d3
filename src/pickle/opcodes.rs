//! Opcodes of pickle protocol 4 for single values.

/// Appends `str` opcodes for UTF-8 text.
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(len) => out.extend_from_slice(&[0x8c, len]),
        Err(_) => match u32::try_from(text.len()) {
            Ok(len) => {
                out.push(b'X');
                out.extend_from_slice(&len.to_le_bytes());
            }
            Err(_) => {
                out.push(0x8d);
                out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            }
        },
    }
    out.extend_from_slice(text);
}

/// Appends a name of a module, which the reader imports.
pub(super) fn put_global(out: &mut Vec<u8>, module: &str, name: &str) {
    put_text(out, module.as_bytes());
    put_text(out, name.as_bytes());
    out.push(0x93);
}

pub(super) fn put_int(out: &mut Vec<u8>, number: i64) {
    if let Ok(small) = u8::try_from(number) {
        out.extend_from_slice(&[b'K', small]);
    } else if let Ok(medium) = i32::try_from(number) {
        out.push(b'J');
        out.extend_from_slice(&medium.to_le_bytes());
    } else {
        out.extend_from_slice(&[0x8a, 8]);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

pub(super) fn put_uint(out: &mut Vec<u8>, number: u64) {
    // A ninth byte keeps the sign bit clear.
    out.extend_from_slice(&[0x8a, 9]);
    out.extend_from_slice(&number.to_le_bytes());
    out.push(0);
}

pub(super) fn put_float(out: &mut Vec<u8>, number: f64) {
    out.push(b'G');
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match u32::try_from(bytes.len()) {
        Ok(len) => {
            out.push(b'B');
            out.extend_from_slice(&len.to_le_bytes());
        }
        Err(_) => {
            out.push(0x8e);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
}
