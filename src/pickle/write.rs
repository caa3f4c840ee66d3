//! Fixed small shapes, written.

use bytes::Bytes;

use crate::base::PickledPart;
use crate::base::PyError;
use crate::base::ShuffleSpec;
use crate::base::Text;
use crate::base::Value;

use super::PickleError;

/// The exception as a pickle (protocol 4) of an exception object.
pub fn error(_error: &PyError) -> Bytes {
    Bytes::new()
}

/// Plain data as a pickle (protocol 4): arrays become tuples, `__Set__` maps become sets.
///
/// Errors: a payload inside, which is not plain data.
pub fn from_value(_value: &Value) -> Result<Bytes, PickleError> {
    Err(PickleError::NeedsPython("not written yet"))
}

/// Plain data out of a pickle: None, bool, numbers, text, bytes, lists, tuples, sets, dicts.
///
/// Errors: anything that only Python understands.
pub fn to_value(_pickle: &Bytes) -> Result<Value, PickleError> {
    Err(PickleError::NeedsPython("not read yet"))
}

/// `ShuffleRunSpec(run_id, spec, worker_for, span_id)`. A partition of a dataframe is one number, of an array a tuple.
///
/// Source: `distributed/shuffle/_core.py`, `ShuffleRunSpec`.
pub fn shuffle_run_spec(
    _run_id: i64,
    _spec: &ShuffleSpec,
    _partitions: &[(Vec<i64>, Text)],
    _span_id: Option<&str>,
) -> Result<PickledPart, PickleError> {
    Err(PickleError::NeedsPython("not written yet"))
}

/// An instance of `ShuffleWorkerPlugin`, which every worker must be given.
///
/// Source: `distributed/shuffle/_worker_plugin.py`.
pub fn shuffle_worker_plugin() -> Bytes {
    Bytes::new()
}

/// `types.SimpleNamespace` with these attributes.
///
/// Errors: a payload among the values.
pub fn simple_namespace(_fields: &[(&str, Value)]) -> Result<Bytes, PickleError> {
    Err(PickleError::NeedsPython("not written yet"))
}
