//! Which machine gets which workers of a cluster that spans several. Pure: machines and workers in, steps out.
//!
//! What runs stays where it is: only missing workers are placed, and only surplus ones leave. Which of those that hold
//! data leave is the scheduler's choice, which knows where moving costs least.

use super::step::{Connected, PlanStep, PoolWorker};

/// A machine, as far as one cluster is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name; empty for the head itself.
    pub name: String,
    /// May more workers be placed on it?
    pub usable: bool,
    /// Does what it has count? Not while it is drained, and not when it is lost.
    pub counts: bool,
    /// How many more workers would fit, by free cores and memory.
    pub more: u32,
    /// The cluster's workers there.
    pub workers: Vec<PoolWorker>,
}

impl Host {
    fn leaving(&self, connected: &[Connected]) -> u32 {
        let leaves = |pooled: &&PoolWorker| !pooled.stopping && is_retiring(connected, &pooled.name);
        count(self.workers.iter().filter(leaves).count())
    }

    /// Its workers that stay.
    fn staying(&self, connected: &[Connected]) -> impl Iterator<Item = &PoolWorker> {
        self.workers.iter().filter(|pooled| !pooled.stopping && !is_retiring(connected, &pooled.name))
    }
}

fn is_retiring(connected: &[Connected], name: &str) -> bool {
    connected.iter().any(|worker| worker.name == name && worker.retiring)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What brings a cluster closer to `target` workers in all, and how many of them have no room anywhere they may be.
pub fn steps(target: u32, hosts: &[Host], connected: &[Connected]) -> (Vec<PlanStep>, u32) {
    let mut steps = Vec::new();
    empty_out(hosts, connected, &mut steps);
    let staying: Vec<u32> =
        hosts.iter().map(|host| if host.counts { count(host.staying(connected).count()) } else { 0 }).collect();
    let present = staying.iter().fold(0u32, |sum, here| sum.saturating_add(*here));
    let mut without_room = 0;
    if present < target {
        without_room = grow(target.saturating_sub(present), hosts, &staying, connected, &mut steps);
    } else if present > target {
        shrink(present.saturating_sub(target), hosts, connected, &mut steps);
    }
    (steps, without_room)
}

/// Machines whose workers do not count any more, though they are there, are emptied: data first.
fn empty_out(hosts: &[Host], connected: &[Connected], steps: &mut Vec<PlanStep>) {
    for host in hosts.iter().filter(|host| !host.counts) {
        let known = |name: &str| connected.iter().any(|worker| worker.name == name);
        let (there, absent): (Vec<&PoolWorker>, Vec<&PoolWorker>) =
            host.staying(connected).partition(|pooled| known(&pooled.name));
        if !there.is_empty() {
            steps.push(PlanStep::RetireThese(there.iter().map(|pooled| pooled.name.clone()).collect()));
        }
        if !absent.is_empty() {
            steps.push(PlanStep::StopAt {
                host: host.name.clone(),
                names: absent.iter().map(|m| m.name.clone()).collect(),
            });
        }
    }
}

/// One by one to the machine with most room; what fits nowhere goes to the head, as if it were alone, or waits if it
/// may not be there. Returns how many wait.
fn grow(missing: u32, hosts: &[Host], staying: &[u32], connected: &[Connected], steps: &mut Vec<PlanStep>) -> u32 {
    let mut added = vec![0u32; hosts.len()];
    for _ in 0..missing {
        let room = |index: &usize| {
            let (host, added) = (hosts.get(*index)?, added.get(*index)?);
            Some(host.more.saturating_sub(*added)).filter(|room| host.usable && *room > 0)
        };
        // The first of equals: the head, then by name.
        let best = (0..hosts.len()).rev().filter(|index| room(index).is_some()).max_by_key(|index| room(index));
        let head = hosts.first().filter(|head| head.usable).map(|_| 0);
        if let Some(slot) = best.or(head).and_then(|index| added.get_mut(index)) {
            *slot = slot.saturating_add(1);
        }
    }
    let placed = added.iter().fold(0u32, |sum, here| sum.saturating_add(*here));
    for ((host, staying), added) in hosts.iter().zip(staying).zip(added).filter(|(_, added)| *added > 0) {
        // A pool still counts those that leave.
        let workers = staying.saturating_add(added).saturating_add(host.leaving(connected));
        steps.push(match host.name.is_empty() {
            true => PlanStep::Grow(workers),
            false => PlanStep::GrowAt { host: host.name.clone(), workers },
        });
    }
    missing.saturating_sub(placed)
}

/// Those that are not connected yet first, the youngest of them: they hold nothing.
fn shrink(surplus: u32, hosts: &[Host], connected: &[Connected], steps: &mut Vec<PlanStep>) {
    let known = |name: &str| connected.iter().any(|worker| worker.name == name);
    let mut left = surplus;
    for host in hosts.iter().rev().filter(|host| host.counts) {
        let absent = host.staying(connected).filter(|pooled| !known(&pooled.name));
        let mut names: Vec<String> = absent.map(|pooled| pooled.name.clone()).collect();
        let keep = names.len().saturating_sub(left as usize);
        let stop = names.split_off(keep);
        if stop.is_empty() {
            continue;
        }
        left = left.saturating_sub(count(stop.len()));
        steps.push(match host.name.is_empty() {
            true => PlanStep::Stop(stop),
            false => PlanStep::StopAt { host: host.name.clone(), names: stop },
        });
    }
    if left > 0 {
        // Only of those that this appliance started: workers that came by themselves are not ours to count.
        let present = count(connected.iter().filter(|worker| !worker.retiring).count());
        steps.push(PlanStep::Retire { keep: present.saturating_sub(left) });
    }
}

/// Workers of a cluster that is as large as its machines: `here`, and what others have or could take.
pub fn all(here: u32, others: &[Host]) -> u32 {
    let share = |host: &Host| {
        let has = count(host.workers.iter().filter(|pooled| !pooled.stopping).count());
        has.saturating_add(if host.usable { host.more } else { 0 })
    };
    others.iter().filter(|host| host.counts).map(share).fold(here, u32::saturating_add)
}

/// What decides how many more workers fit on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Room {
    /// That may be used.
    pub cores: f64,
    /// Taken by workers of any cluster.
    pub cores_taken: f64,
    /// That may be used. Unit: bytes.
    pub memory_bytes: u64,
    /// Taken by the limits of workers of any cluster. Unit: bytes.
    pub memory_taken_bytes: u64,
    /// Free this moment, whoever has the rest. Unit: bytes.
    pub memory_free_bytes: u64,
}

/// Left to the machine itself: below this nothing more is placed, whatever the limits say. Unit: bytes.
pub const RESERVE_BYTES: u64 = 128 << 20;

impl Room {
    /// How many more workers of this size fit. `memory_bytes` 0: not limited.
    pub fn more(&self, cores: f64, memory_bytes: u64) -> u32 {
        if self.memory_free_bytes < RESERVE_BYTES.saturating_add(memory_bytes / 4) {
            return 0;
        }
        let by_cores = ((self.cores - self.cores_taken) / cores.max(0.01) + 1e-9).max(0.0) as u32;
        let by_memory = match memory_bytes {
            0 => u32::MAX,
            bytes => {
                let left = self.memory_bytes.saturating_sub(self.memory_taken_bytes);
                u32::try_from(left / bytes).unwrap_or(u32::MAX)
            }
        };
        by_cores.min(by_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(name: &str) -> PoolWorker {
        PoolWorker { name: name.to_owned(), ..PoolWorker::default() }
    }

    fn host(name: &str, more: u32, workers: &[&str]) -> Host {
        let workers = workers.iter().map(|name| pooled(name)).collect();
        Host { name: name.to_owned(), usable: true, counts: true, more, workers }
    }

    fn at(names: &[&str]) -> Vec<Connected> {
        names.iter().map(|name| Connected { name: (*name).to_owned(), retiring: false }).collect()
    }

    fn grow_at(host: &str, workers: u32) -> PlanStep {
        PlanStep::GrowAt { host: host.to_owned(), workers }
    }

    #[test]
    fn missing_workers_go_where_most_room_is_and_nothing_moves() {
        let hosts = [host("", 2, &[]), host("a", 4, &[]), host("b", 1, &["b-0"])];
        assert_eq!(steps(7, &hosts, &at(&["b-0"])), (vec![PlanStep::Grow(2), grow_at("a", 4)], 0));
        assert_eq!(steps(3, &hosts, &at(&["b-0"])), (vec![grow_at("a", 2)], 0));
        assert_eq!(steps(1, &hosts, &at(&["b-0"])), (vec![], 0));
    }

    #[test]
    fn what_fits_nowhere_goes_to_the_head_or_waits_if_it_may_not() {
        let hosts = [host("", 1, &[]), host("a", 1, &[])];
        assert_eq!(steps(5, &hosts, &[]), (vec![PlanStep::Grow(4), grow_at("a", 1)], 0));
        let full = [host("", 0, &[]), Host { usable: false, ..host("a", 9, &[]) }];
        assert_eq!(steps(2, &full, &[]), (vec![PlanStep::Grow(2)], 0));
        let elsewhere = [Host { usable: false, ..host("", 4, &[]) }, host("a", 1, &[])];
        assert_eq!(steps(3, &elsewhere, &[]), (vec![grow_at("a", 1)], 2));
    }

    /// Goal: a lost machine's workers are replaced elsewhere, a late one's are waited for.
    #[test]
    fn only_machines_that_count_count() {
        let late = Host { usable: false, ..host("a", 4, &["a-0", "a-1"]) };
        assert_eq!(steps(2, &[host("", 4, &[]), late.clone()], &at(&["a-0", "a-1"])), (vec![], 0));
        let lost = Host { counts: false, workers: Vec::new(), ..late };
        assert_eq!(steps(2, &[host("", 4, &[]), lost], &[]), (vec![PlanStep::Grow(2)], 0));
    }

    #[test]
    fn a_drained_machine_is_emptied_while_others_take_over() {
        let drained = Host { usable: false, counts: false, ..host("a", 4, &["a-0", "a-1"]) };
        let found = steps(1, &[host("", 4, &[]), drained], &at(&["a-0"]));
        let stop = PlanStep::StopAt { host: "a".to_owned(), names: vec!["a-1".to_owned()] };
        assert_eq!(found, (vec![PlanStep::RetireThese(vec!["a-0".to_owned()]), stop, PlanStep::Grow(1)], 0));
    }

    #[test]
    fn surplus_workers_that_hold_nothing_go_first() {
        let hosts = [host("", 0, &["h-0"]), host("a", 0, &["a-0", "a-1", "a-2"])];
        let stop = PlanStep::StopAt { host: "a".to_owned(), names: vec!["a-2".to_owned()] };
        assert_eq!(steps(2, &hosts, &at(&["h-0", "a-0", "a-1"])), (vec![stop, PlanStep::Retire { keep: 2 }], 0));
    }

    /// Goal: a machine without free memory gets nothing, and nobody else gets its share; what runs there stays.
    #[test]
    fn a_cluster_as_large_as_its_machines_counts_what_is_there_and_what_fits() {
        let late = Host { usable: false, ..host("b", 3, &["b-0"]) };
        let lost = Host { usable: false, counts: false, ..host("c", 3, &["c-0"]) };
        assert_eq!(all(2, &[host("a", 2, &["a-0"]), late, lost, host("d", 0, &[])]), 6);
        assert_eq!(all(2, &[]), 2);
    }

    #[test]
    fn room_is_by_cores_and_memory_and_nothing_goes_where_none_is_free() {
        let gib = 1u64 << 30;
        let room = Room {
            cores: 8.0,
            cores_taken: 2.0,
            memory_bytes: 16 * gib,
            memory_taken_bytes: 8 * gib,
            memory_free_bytes: 9 * gib,
        };
        assert_eq!(room.more(1.0, gib), 6);
        assert_eq!(room.more(1.0, 4 * gib), 2);
        assert_eq!(room.more(2.0, 0), 3);
        assert_eq!(Room { memory_free_bytes: 0, ..room }.more(1.0, gib), 0);
        assert_eq!(Room { cores_taken: 9.0, ..room }.more(1.0, gib), 0);
    }
}
