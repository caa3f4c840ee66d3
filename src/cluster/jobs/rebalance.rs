//! Moves keys from workers with much memory in use to those with little.
//!
//! Source: `distributed/scheduler.py`, `rebalance`, `_rebalance_find_msgs`, `_rebalance_move_data`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use futures_util::future::join_all;

use crate::base::{Key, SeededMap, SeededSet, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::jobs::replicate::{copy_to, delete_from, partial_fail};
use crate::cluster::options::RebalanceRules;
use crate::cluster::state::call::{Call, Done, Handled};
use crate::cluster::state::{Handle, State};

/// One worker, as far as balance goes. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct WorkerBalance {
    pub address: Text,
    pub memory: i64,
    pub memory_limit: i64,
    /// Keys with sizes, oldest first.
    pub keys: Vec<(Key, i64)>,
}

/// One move of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub from: Text,
    pub to: Text,
    pub key: Key,
}

/// `rebalance`.
pub fn start(state: &mut State, call: Call, body: &Value) -> Handled {
    let wanted = args::optional_keys(body, "keys")?;
    let workers = state.workers_named(body.field("workers"), |_| true)?;
    let ok = || Value::map([("status", "OK".into())]);
    if let Some(wanted) = &wanted {
        let missing: Vec<Value> =
            wanted.iter().filter(|key| state.holders(key).is_empty()).map(Key::to_value).collect();
        if !missing.is_empty() {
            return Ok(Done::Now(partial_fail(missing)));
        }
    }
    let wanted: Option<SeededSet<Key>> = wanted.map(|keys| keys.into_iter().collect());
    let holders: Vec<WorkerBalance> = workers.into_iter().filter_map(|id| holder(state, id)).collect();
    let moves = find_moves(&state.setup.rebalance, &holders, wanted.as_ref());
    if moves.is_empty() {
        return Ok(Done::Now(ok()));
    }
    let handle = state.handle.clone();
    let strict = wanted.is_some();
    Ok(state.job(call, async move {
        let failed = carry_out(&handle, moves).await;
        if failed.is_empty() || !strict { Ok(ok()) } else { Ok(partial_fail(failed)) }
    }))
}

fn holder(state: &State, worker: crate::base::WorkerId) -> Option<WorkerBalance> {
    let view = state.sched.worker(worker)?;
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let keys = state.sched.has_what(worker);
    Some(WorkerBalance {
        address: view.address.clone(),
        memory: size(view.memory.by(state.setup.rebalance.measure)),
        memory_limit: size(view.memory_limit),
        keys: keys
            .into_iter()
            .map(|key| {
                let nbytes = state.sched.task(&key).map_or(0, |task| task.nbytes.max(0));
                (key, nbytes)
            })
            .collect(),
    })
}

/// What is at the top of a heap is farthest from the mean. All numbers are negative bytes, as in stock.
type Side = BinaryHeap<Reverse<Place>>;

/// How far a worker is from the mean at most and at least, and which one it is.
type Place = (i64, i64, usize);

/// Pairs senders with recipients, farthest from the mean first, oldest keys first.
pub fn find_moves(rules: &RebalanceRules, holders: &[WorkerBalance], wanted: Option<&SeededSet<Key>>) -> Vec<Move> {
    let mut moves = Vec::new();
    let Some(count) = i64::try_from(holders.len()).ok().filter(|count| *count > 0) else { return moves };
    let mean = holders.iter().fold(0i64, |sum, holder| sum.saturating_add(holder.memory)) / count;
    let (mut senders, mut recipients) = (Side::new(), Side::new());
    for (at, holder) in holders.iter().enumerate() {
        let limit = holder.memory_limit as f64;
        let half_gap = (rules.sender_recipient_gap / 2.0 * limit) as i64;
        let above_max = holder.memory_limit > 0 && holder.memory as f64 >= rules.recipient_max * limit;
        let is_above_min = holder.memory as f64 >= rules.sender_min * limit;
        if !holder.keys.is_empty() && holder.memory >= mean + half_gap && is_above_min {
            let most = mean - holder.memory;
            senders.push(Reverse((most, most + half_gap, at)));
        } else if holder.memory < mean - half_gap && !above_max {
            let most = holder.memory - mean;
            recipients.push(Reverse((most, most + half_gap, at)));
        }
    }
    let mut next_key = vec![0usize; holders.len()];
    let mut held: Vec<BTreeSet<&Key>> =
        holders.iter().map(|holder| holder.keys.iter().map(|(key, _)| key).collect()).collect();
    while let Some(Reverse((most, least, sender))) = senders.pop() {
        if recipients.is_empty() {
            break;
        }
        let Some((from, next)) = holders.get(sender).zip(next_key.get_mut(sender)) else { continue };
        let found = next_move(from, (most, *next), &mut recipients, wanted, &held);
        let Some((at, (key, nbytes), (to_most, to_least, to))) = found else { continue };
        *next = at + 1;
        if let Some((to, held)) = holders.get(to).zip(held.get_mut(to)) {
            moves.push(Move { from: from.address.clone(), to: to.address.clone(), key: key.clone() });
            held.insert(key);
        }
        if least + nbytes < 0 {
            senders.push(Reverse((most + nbytes, least + nbytes, sender)));
        }
        if to_least + nbytes < 0 {
            recipients.push(Reverse((to_most + nbytes, to_least + nbytes, to)));
        }
    }
    moves
}

/// The next key of this sender that some recipient can take; the recipient is taken off its heap.
fn next_move<'a>(
    sender: &'a WorkerBalance,
    (most, next): (i64, usize),
    recipients: &mut Side,
    wanted: Option<&SeededSet<Key>>,
    held: &[BTreeSet<&Key>],
) -> Option<(usize, &'a (Key, i64), Place)> {
    for (at, entry) in sender.keys.iter().enumerate().skip(next) {
        let (key, nbytes) = entry;
        // Never below the mean: it would come back.
        if wanted.is_some_and(|wanted| !wanted.contains(key)) || nbytes + most > 0 {
            continue;
        }
        let mut skipped = Vec::new();
        let mut found = None;
        while let Some(Reverse((to_most, to_least, to))) = recipients.pop() {
            if nbytes + to_most > 0 {
                skipped.push(Reverse((to_most, to_least, to)));
                break;
            }
            if held.get(to).is_some_and(|keys| !keys.contains(key)) {
                found = Some((to_most, to_least, to));
                break;
            }
            skipped.push(Reverse((to_most, to_least, to)));
        }
        recipients.extend(skipped);
        if let Some(found) = found {
            return Some((at, entry, found));
        }
    }
    None
}

/// Copies, then deletes what was copied. Returns the keys that failed.
async fn carry_out(handle: &Handle, moves: Vec<Move>) -> Vec<Value> {
    let mut to_recipients: SeededMap<Text, Vec<(Key, Vec<Text>)>> = SeededMap::default();
    for step in &moves {
        to_recipients.entry(step.to.clone()).or_default().push((step.key.clone(), vec![step.from.clone()]));
    }
    let copies = to_recipients.into_iter().map(|(to, keys)| async move {
        let failed = copy_to(handle, to.clone(), keys).await;
        (to, failed)
    });
    let failed: SeededMap<Text, Vec<Key>> = join_all(copies).await.into_iter().collect();
    let mut to_senders: SeededMap<Text, Vec<Key>> = SeededMap::default();
    for step in moves {
        if failed.get(&step.to).is_none_or(|keys| !keys.contains(&step.key)) {
            to_senders.entry(step.from).or_default().push(step.key);
        }
    }
    join_all(to_senders.into_iter().map(|(from, keys)| delete_from(handle, from, keys))).await;
    failed.into_values().flatten().map(|key| key.to_value()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a full worker gives its oldest keys to an empty one, until both are near the mean, and not further.
    #[test]
    fn keys_move_until_both_are_near_the_mean() {
        let keys: Vec<(Key, i64)> = (0..10).map(|n| (Key::int(n), 100)).collect();
        let full = WorkerBalance { address: "a".into(), memory: 1_000, memory_limit: 2_000, keys };
        let empty = WorkerBalance { address: "b".into(), memory: 0, memory_limit: 2_000, keys: Vec::new() };
        let moves = find_moves(&RebalanceRules::default(), &[full.clone(), empty.clone()], None);
        let moved: Vec<Key> = moves.iter().map(|step| step.key.clone()).collect();
        assert_eq!(moved, (0..4).map(Key::int).collect::<Vec<_>>());
        assert!(find_moves(&RebalanceRules::default(), std::slice::from_ref(&full), None).is_empty());
        let strict = RebalanceRules { sender_min: 0.6, ..RebalanceRules::default() };
        assert!(find_moves(&strict, &[full.clone(), empty.clone()], None).is_empty());
        let eager = RebalanceRules { sender_recipient_gap: 0.0, ..RebalanceRules::default() };
        assert_eq!(find_moves(&eager, &[full, empty], None).len(), 5);
    }
}
