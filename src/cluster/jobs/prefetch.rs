//! Fetches a lone small result while its client is still being told that it is there.
//!
//! `submit(f).result()` asks for the data as soon as it hears of it. By then it is here, which saves that client a round
//! trip to the worker. Done only as long as it serves: one result at a time, none under load, and none after a lone
//! result that nobody asked for.

use crate::base::{ClientId, Key};
use crate::cluster::jobs::gather;
use crate::cluster::state::State;
use crate::cluster::state::prefetched::{Fetched, Fetching};

/// Larger results are not fetched before somebody asks: the next lone one replaces it, until then it is held here.
///
/// Unit: bytes.
const SMALL_BYTES: i64 = 64 << 10;

/// A client was told that a result is there.
pub fn note_reported(state: &mut State, client: ClientId, key: &Key) {
    if state.peers.clients.contains_key(&client) {
        state.jobs.prefetched.habit.reported(key);
    }
}

/// At the end of a turn: gets what is about to be asked for. Returns whether it does.
pub fn fetch_ahead(state: &mut State) -> bool {
    let Some(key) = state.jobs.prefetched.habit.end_turn() else { return false };
    state.jobs.prefetched.fetch = start_fetch(state, key);
    state.jobs.prefetched.fetch.is_some()
}

fn start_fetch(state: &State, key: Key) -> Option<Fetching> {
    let task = state.sched.task(&key)?;
    if task.actor || !(0..=SMALL_BYTES).contains(&task.nbytes) {
        return None;
    }
    let run = task.run_id;
    let address = task.holders.first().and_then(|&id| state.sched.worker(id))?.address.clone();
    let answer = tokio::spawn(gather::fetch_one(state.handle.clone(), address, key.clone()));
    Some(Fetching { key, run, answer })
}

/// These keys are asked for: what was fetched ahead, if it is that, and still their result.
pub fn fetched_ahead(state: &mut State, keys: &[Key]) -> Option<Fetched> {
    state.jobs.prefetched.habit.asked(keys);
    let fetch = state.jobs.prefetched.fetch.take_if(|fetch| matches!(keys, [key] if *key == fetch.key))?;
    let task = state.sched.task(&fetch.key)?;
    (!task.holders.is_empty() && task.run_id == fetch.run).then_some(fetch.answer)
}
