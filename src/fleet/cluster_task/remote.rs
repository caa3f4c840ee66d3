//! A cluster's other machines: what happens to them, what they have and could take, and what is wanted there.

use super::ClusterTask;
use crate::control::SchedulerQuestion;
use crate::fleet::placement::{self, Room};
use crate::fleet::plan::Seen;
use crate::fleet::poll::ask;
use crate::fleet::remote_workers::{PoolTerms, RemoteWorkers};
use crate::fleet::types::{FleetEvent, HEAD};
use crate::host::Machine;
use crate::peer::{PeerEvent, free_memory};

impl ClusterTask {
    pub(super) async fn on_peer(&mut self, event: &PeerEvent) {
        if let (PeerEvent::Lost { peer }, Some(remote)) = (event, &self.remote) {
            let names = remote.of_peer(peer, &self.connected);
            if !names.is_empty()
                && let Some(names) = ask::<Vec<String>>(&self.link, SchedulerQuestion::Lose { names }).await
            {
                tracing::warn!(cluster = %self.view.name, peer, "lost with their machine: {}", names.join(", "));
            }
        }
        let remote = self.remote.as_ref().map(RemoteWorkers::deaths).unwrap_or_default();
        for (host, count, recent) in remote {
            self.tell_deaths(&host, count, &recent);
        }
        self.tell_silence().await;
        self.poll_now = true;
    }

    /// `host`: empty is this machine.
    pub(super) fn tell_deaths(&mut self, host: &str, count: u64, recent: &[String]) {
        for cause in self.deaths.news(host, count, recent) {
            tracing::warn!(cluster = %self.view.name, "a worker died: {cause}");
            self.shared.tell(FleetEvent::WorkerDied { cluster: self.view.name.to_string(), cause: cause.clone() });
        }
    }

    /// Others do the work of machines that are silent, until they are heard again.
    pub(super) async fn tell_silence(&mut self) {
        let news = self.remote.as_ref().map(|remote| remote.silence(&self.connected)).unwrap_or_default();
        for (peer, silent, names) in news {
            // One that does not answer is told at the next poll.
            if ask::<Vec<String>>(&self.link, SchedulerQuestion::Silent { names, silent }).await.is_none() {
                continue;
            }
            if silent {
                tracing::warn!(cluster = %self.view.name, peer, "silent: its tasks go to others, its data is waited for");
            }
            if let Some(remote) = &mut self.remote {
                remote.silence_told(peer, silent);
            }
        }
    }

    /// What other machines have and could take.
    pub(super) fn see_others(&mut self, seen: &mut Seen) {
        self.connected.clone_from(&seen.connected);
        seen.not_here = !self.body.settings.may_be_on(HEAD);
        let Some(remote) = &self.remote else { return };
        seen.remote = remote.hosts(&seen.connected, &self.body.settings);
        seen.more_here = self.more_here();
        if let Some(here) = self.body.grows_from {
            let all = placement::all(here, &seen.remote);
            if all != self.plan.target() {
                self.plan.scale(all);
            }
            // This machine has its share; what others add is for them.
            let staying = seen.pool.iter().flatten().filter(|pooled| !pooled.stopping).count();
            seen.more_here = here.saturating_sub(u32::try_from(staying).unwrap_or(u32::MAX));
        }
    }

    /// How many more workers of this cluster fit on this machine, beside those of all clusters.
    fn more_here(&self) -> u32 {
        let machine = Machine::look();
        let mut room = Room {
            cores: f64::from(machine.cores),
            memory_bytes: machine.memory_bytes,
            memory_free_bytes: free_memory().unwrap_or(machine.memory_bytes),
            ..Room::default()
        };
        for entry in self.shared.directory.borrow().values() {
            let settings = &entry.view.settings;
            room.cores_taken += f64::from(entry.here) * f64::from(settings.nthreads.max(1));
            let memory = u64::from(entry.here).saturating_mul(settings.worker_memory_bytes);
            room.memory_taken_bytes = room.memory_taken_bytes.saturating_add(memory);
        }
        let settings = &self.body.settings;
        room.more(f64::from(settings.nthreads.max(1)), settings.worker_memory_bytes)
    }

    pub(super) async fn follow_others(&mut self, seen: &Seen) {
        let Some(remote) = &mut self.remote else { return };
        remote.follow(&seen.remote).await;
        let kept = remote.kept();
        if kept != self.body.remote {
            self.body.remote = kept;
            self.keep().await;
        }
    }

    pub(super) async fn grow_at(&mut self, host: &str, workers: u32) {
        let (Some(remote), Some(scheduler), Some(pair)) =
            (&mut self.remote, &self.view.scheduler_address, &self.view.tls)
        else {
            return;
        };
        let terms = PoolTerms {
            cluster: self.view.name.as_str(),
            scheduler,
            pair,
            settings: &self.body.settings,
            lock: self.lock.as_ref(),
        };
        remote.grow(host, workers, terms).await;
        self.deaths.begin_unless_known(host);
    }
}
