//! Between pickles and the payloads of a message.

use crate::base::Opaque;
use crate::base::PickledPart;

use super::PickleError;

/// The pickle inside a payload, `Pickled` or `Serialized` by the pickle family.
///
/// Errors: compressed, split or of another family: only Python (or a codec) can join it.
pub fn part_of(_payload: &Opaque) -> Result<PickledPart, PickleError> {
    Err(PickleError::NeedsPython("not read yet"))
}

/// The payload that `{"__Pickled__": i}` names: sub-header and buffers.
///
/// Source: `distributed/protocol/core.py`, `dumps`.
pub fn to_wire(part: &PickledPart) -> Opaque {
    Opaque { head: part.pickle.clone(), frames: part.buffers.clone() }
}
