//! Values in files.

use std::sync::Arc;

use bytes::Bytes;

use super::{FILE_MIN_BYTES, Filed, Payload, Segment};
use crate::base::Opaque;

fn value(lengths: &[usize]) -> Opaque {
    let frame = |(number, len): (usize, &usize)| Bytes::from(vec![number as u8 + 1; *len]);
    Opaque { head: Bytes::from_static(b"H"), frames: lengths.iter().enumerate().map(frame).collect() }
}

/// Goal: what is put in a file comes out of it byte for byte, frames of no length too, and each begins at a multiple of 64.
#[test]
fn a_large_value_is_put_in_a_file_and_a_small_one_is_not() {
    let folder = std::env::temp_dir();
    let large = value(&[1, 0, FILE_MIN_BYTES as usize, 65]);
    let Ok(Payload::Filed(filed)) = Payload::settle(Arc::new(large.clone()), &folder) else { panic!("no file") };
    assert!(filed.places().all(|(offset, _)| offset.is_multiple_of(64)));
    assert_eq!((filed.len_bytes(), filed.read().expect("it is there")), (FILE_MIN_BYTES + 66, large));
    assert!(filed.segment.write_at(b"x", 0).is_err(), "it is sealed");
    let small = value(&[FILE_MIN_BYTES as usize]);
    assert!(matches!(Payload::settle(Arc::new(small), &folder), Ok(Payload::Here(_))));
}

/// Goal: an executor that says more than it wrote is caught before anybody reads.
#[test]
fn a_file_that_is_too_short_or_no_file_is_refused() {
    let segment = || Segment::create(100, &std::env::temp_dir()).expect("a file");
    let descriptor = || segment().open().expect("open").try_clone().expect("a descriptor").into();
    assert!(Filed::adopt(Bytes::new(), vec![36, 36], descriptor()).is_ok());
    assert!(Filed::adopt(Bytes::new(), vec![36, 37], descriptor()).is_err());
    assert!(Filed::adopt(Bytes::new(), vec![u64::MAX, u64::MAX], descriptor()).is_err());
    let (pipe, _) = std::os::unix::net::UnixStream::pair().expect("sockets");
    assert!(Filed::adopt(Bytes::new(), vec![0], pipe.into()).is_err());
}
