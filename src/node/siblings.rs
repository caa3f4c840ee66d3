//! The workers of this process: they share values without a transfer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::input::Inbox;
use crate::base::Text;

static WORKERS: Mutex<Option<HashMap<Text, Inbox>>> = Mutex::new(None);

/// A worker of this process, for as long as this lives.
#[derive(Debug)]
pub(super) struct Sibling {
    address: Text,
}

impl Sibling {
    pub(super) fn enter(address: &Text, inbox: &Inbox) -> Self {
        lock().get_or_insert_default().insert(address.clone(), inbox.clone());
        Self { address: address.clone() }
    }

    /// The worker of this process with this address.
    pub(super) fn find(address: &str) -> Option<Inbox> {
        lock().as_ref()?.get(address).cloned()
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        if let Some(workers) = lock().as_mut() {
            workers.remove(&self.address);
        }
    }
}

fn lock() -> MutexGuard<'static, Option<HashMap<Text, Inbox>>> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}
