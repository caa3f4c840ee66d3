//! The one row that says how the cluster is: counts, use of machines, and what limits it.

use serde_json::{Value as Json, json};

use super::bottleneck::{Bottleneck, Measures, bottleneck, problem};
use super::delta::Row;
use super::rows;
use super::series::{MachineGauge, Rates, Sums};
use crate::cluster::Snapshot;

/// What there is to say besides the snapshot.
pub(super) struct About<'a> {
    pub machine: &'a MachineGauge,
    pub rates: &'a Rates,
    pub viewers: usize,
    pub first_error: Option<&'a str>,
}

impl About<'_> {
    fn measures(&self, snapshot: &Snapshot, sums: &Sums) -> Measures {
        let totals = &snapshot.totals;
        let [_, waiting, queued, no_worker, processing, _, erred] = totals.counts.by_state;
        Measures {
            workers: totals.counts.workers,
            threads: totals.counts.threads,
            paused: totals.paused,
            clients: totals.clients,
            open_graphs: totals.open_graphs,
            processing,
            queued,
            waiting,
            no_worker,
            erred,
            executing: sums.metrics.executing,
            fetching: sums.metrics.waiting.min(sums.metrics.in_flight),
            transfers: sums.metrics.transfers,
            occupancy_secs: totals.occupancy_secs,
            memory_share: rows::share(sums.limited, sums.limit),
            spilled: sums.spilled as f64,
            disk: sums.metrics.disk.0 + sums.metrics.disk.1,
            scheduler_cpu: self.machine.process_cpu,
            tasks_per_s: self.rates.tasks,
        }
    }

    pub(super) fn overview(&self, snapshot: &Snapshot) -> Row {
        let totals = &snapshot.totals;
        let sums = Sums::of(&snapshot.workers);
        let measures = self.measures(snapshot, &sums);
        let limit = bottleneck(&measures);
        let states = rows::worker_states(&snapshot.workers, totals.at_secs);
        let problem = problem(&measures, self.first_error, &states);
        let mut row = self.overview_counts(snapshot);
        row.extend(self.overview_use(snapshot, &sums));
        row.push(("limit", Bottleneck::to_json(&limit)));
        row.push(("problem", problem.unwrap_or(Json::Null)));
        row
    }

    fn overview_counts(&self, snapshot: &Snapshot) -> Row {
        let totals = &snapshot.totals;
        let counts = totals.counts;
        let mut row: Row = vec![
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("address", json!(totals.address)),
            ("id", json!(totals.id)),
            ("started", rows::round(totals.started_secs, 3)),
            ("uptime", json!((totals.at_secs - totals.started_secs).max(0.0) as u64)),
            ("workers", json!(counts.workers)),
            ("threads", json!(counts.threads)),
            ("hosts", json!(totals.hosts)),
            ("idle", json!(counts.idle)),
            ("saturated", json!(counts.saturated)),
            ("paused", json!(totals.paused)),
            ("retiring", json!(totals.retiring)),
            ("clients", json!(totals.clients)),
            ("desired_workers", json!(totals.desired_workers)),
            ("tasks", json!(counts.tasks)),
        ];
        row.extend(rows::STATE_FIELDS.iter().zip(counts.by_state).map(|(name, count)| (*name, json!(count))));
        row.push(("done_total", json!(totals.done)));
        row.push(("erred_total", json!(totals.erred)));
        row.push(("long_running", json!(totals.long_running)));
        row.push(("tasks_per_s", rows::round(self.rates.tasks, 1)));
        row.push(("transitions_per_s", rows::round(self.rates.transitions, 0)));
        row
    }

    fn overview_use(&self, snapshot: &Snapshot, sums: &Sums) -> Row {
        let totals = &snapshot.totals;
        let metrics = &sums.metrics;
        vec![
            ("occupancy", rows::round(totals.occupancy_secs, 2)),
            ("cpu", rows::round(metrics.cpu, 1)),
            ("cpu_max", json!(totals.counts.threads.saturating_mul(100))),
            ("executing", json!(metrics.executing)),
            ("mem_managed", json!(sums.managed)),
            ("mem_unmanaged", json!(sums.unmanaged)),
            ("mem_recent", json!(sums.recent)),
            ("mem_spilled", json!(sums.spilled)),
            ("mem_process", json!(sums.process)),
            ("mem_limit", json!(sums.limit)),
            ("net_read", rows::brief(metrics.net.0)),
            ("net_write", rows::brief(metrics.net.1)),
            ("disk_read", rows::brief(metrics.disk.0)),
            ("disk_write", rows::brief(metrics.disk.1)),
            ("bandwidth", rows::brief(totals.bandwidth)),
            ("transfers", json!(metrics.transfers)),
            ("scheduler_cpu", rows::round(self.machine.process_cpu, 1)),
            ("scheduler_mem", json!(self.machine.now.process_memory)),
            ("scheduler_fds", json!(self.machine.now.process_fds)),
            ("viewers", json!(self.viewers)),
        ]
    }
}
