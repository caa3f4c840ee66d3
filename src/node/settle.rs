//! Values on their way: into files when they came by a connection, out of the executor when somebody waits for them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::input::Export;
use crate::base::{Key, Opaque};
use crate::values::Payload;

/// Values that came by a connection: large ones go into files, beside the runtime. Errors: they are lost.
pub(super) async fn settled(values: Vec<(Key, Arc<Opaque>)>, folder: Arc<Path>) -> io::Result<Vec<(Key, Payload)>> {
    let settle = move || values.into_iter().map(|(key, value)| Ok((key, Payload::settle(value, &folder)?))).collect();
    tokio::task::spawn_blocking(settle).await.map_err(io::Error::other)?
}

/// Adds to `payloads` what is being serialised, when it is. None: the worker closes.
pub(super) async fn together(payloads: &mut Vec<(Key, Payload)>, exports: Vec<(Key, Export)>) -> Option<()> {
    for (key, export) in exports {
        if let Some(payload) = export.await.ok()? {
            payloads.push((key, payload));
        }
    }
    Some(())
}
