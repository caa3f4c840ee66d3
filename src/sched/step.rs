//! One step: an event is applied and everything runs to rest.

use super::Scheduler;
use super::effect::Effect;
use super::event::Event;
use super::worker_events::event_kind;
use crate::base::Now;

impl Scheduler {
    /// Applies one event and runs to rest. Appends to `out`; the caller carries effects out in order.
    ///
    /// `now` may not go back; when it does, the time of the last step is used.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        self.step += 1;
        std::mem::swap(&mut self.out, out);
        self.on_event(event);
        self.run_transitions();
        // Whatever ended a run may have opened a slot.
        self.fill_open_slots();
        self.refresh_idle_since();
        std::mem::swap(&mut self.out, out);
        if self.config.validate
            && let Err(broken) = self.check()
        {
            panic!("the scheduler broke its own rules: {broken}");
        }
    }

    fn on_event(&mut self, event: Event) {
        self.stimulus = event_kind(&event);
        match event {
            Event::ClientAdded { name } => self.on_client_added(name),
            Event::ClientRemoved { client } => self.on_client_removed(client),
            Event::ClientDesires { client, keys } => self.client_desires(client, &keys),
            Event::ClientReleases { client, keys } => self.on_client_releases(client, &keys),
            Event::CancelKeys { client, keys, force, reason, msg } => {
                self.on_cancel_keys(client, &keys, force, &reason, &msg);
            }
            Event::ReportKey { client, key } => self.on_report_key(client, key),
            Event::Retry { call, client, keys } => self.on_retry(call, client, &keys),
            Event::Restart => self.on_restart(),
            Event::GraphOpened { ticket, graph } => self.on_graph_opened(ticket, *graph),
            Event::GraphPart { ticket, part, last } => self.on_graph_part(ticket, part, last),
            Event::GraphFailed { ticket, failure } => self.on_graph_failed(ticket, failure),
            Event::AddWorker { call, worker } => self.on_add_worker(call, *worker),
            Event::RemoveWorker { worker, expected, close, reason } => {
                self.on_remove_worker(worker, expected, close, reason);
            }
            Event::WorkerStatus { worker, status } => self.on_worker_status(worker, status),
            Event::WorkerSilent { worker, silent } => self.on_worker_silent(worker, silent),
            Event::Heartbeat { worker, beat } => self.on_heartbeat(worker, *beat),
            Event::SetResources { worker, resources } => self.on_set_resources(worker, resources),
            Event::TaskFinished { worker, done } => self.on_task_finished(worker, done),
            Event::TaskErred { worker, erred } => self.on_task_erred(worker, *erred),
            Event::ReleaseWorkerData { worker, key } => self.on_release_worker_data(worker, &key),
            Event::AddKeys { worker, keys } | Event::AddReplicas { worker, keys } => self.on_add_keys(worker, keys),
            Event::LongRunning { worker, key, run_id, compute_secs } => {
                self.on_long_running(worker, &key, run_id, compute_secs);
            }
            Event::Reschedule { worker, key } => self.on_reschedule(worker, &key),
            Event::RefreshWhoHas { worker, keys } => self.on_refresh_who_has(worker, keys),
            Event::StealResponse { worker, key, state, stimulus } => {
                self.on_steal_response(worker, &key, state.as_deref(), &stimulus);
            }
            Event::UpdateData { client, data } => self.on_update_data(client, data),
            Event::DropReplicas { worker, keys } => {
                for key in &keys {
                    self.on_release_worker_data(worker, key);
                }
            }
            Event::SetRestrictions { restrictions } => self.on_set_restrictions(restrictions),
            Event::Retire { workers } => self.on_retire(workers),
            Event::RetireAborted { worker } => self.on_retire_aborted(worker),
            Event::Coord { call, client, request } => self.on_coord(call, client, request),
            Event::CallAbandoned { call } => self.on_call_abandoned(call),
            Event::Shuffle { call, request } => self.on_shuffle(call, request),
            Event::Amm { action } => self.on_amm(action),
            Event::Tick => self.on_tick(),
        }
    }
}
