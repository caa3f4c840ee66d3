//! `feed`: progress bars. What they ask for is recognised in their pickles and answered here, without Python.
//!
//! Source: `distributed/diagnostics/progressbar.py`, `progress.py`.

use super::driver::{Call, Driver};
use super::rpc::Done;
use super::translate::raise;
use crate::base::{Failure, Value};

/// `feed`.
pub(super) fn start(_driver: &mut Driver, _call: Call, _body: &Value) -> Result<Done, Failure> {
    Err(raise("NotImplementedError", "feeds run Python on the scheduler, which is not supported"))
}
