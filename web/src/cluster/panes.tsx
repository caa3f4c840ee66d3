// Every plot as a bare pane: what `individual-NAME` shows, for JupyterLab and for frames in other pages.
import type { ComponentType } from "preact";
import { BandwidthPairs, BandwidthTypes } from "./bandwidth";
import { ByKey, ComputeByKey, TimeByAction } from "./by_key";
import { Fine } from "./fine";
import { Groups } from "./groups";
import { Hardware } from "./hardware";
import { Exceptions } from "./exceptions";
import { Graph } from "./graph";
import { ClusterMemory, Progress, WorkerBars } from "./parts";
import { Profile } from "./profile";
import { Contention, SchedulerSystem, WorkerSeries } from "./system";
import { BareStream } from "./tasks";
import { Workers } from "./workers";
import { Empty, Panel } from "../ui/Panel";

export interface Pane {
  readonly title: string;
  readonly draw: ComponentType;
}

/** GPUs have no numbers here: workers report none through the scheduler yet that rask knows of. */
function NoGpu() {
  return (
    <Panel title="GPU">
      <Empty title="No GPU is reported">
        Workers report GPUs when they run with a library such as pynvml; none of these does.
      </Empty>
    </Panel>
  );
}

const bars = (measure: "memory" | "processing" | "cpu" | "occupancy" | "transfer") => () => (
  <WorkerBars measure={measure} />
);
const series =
  (...fields: string[]) =>
  () => <WorkerSeries fields={fields} />;

export const PANES: Readonly<Record<string, Pane>> = {
  "task-stream": { title: "Task stream", draw: BareStream },
  progress: { title: "Progress", draw: () => <Progress topic="prefixes" title="Progress" /> },
  "group-progress": { title: "Progress of groups", draw: () => <Progress topic="groups" title="Progress of groups" /> },
  graph: { title: "Graph", draw: Graph },
  groups: { title: "Groups", draw: Groups },
  "workers-memory": { title: "Bytes per worker", draw: bars("memory") },
  "cluster-memory": { title: "Cluster memory", draw: ClusterMemory },
  "workers-transfer-bytes": { title: "Transfers per worker", draw: bars("transfer") },
  cpu: { title: "CPU", draw: bars("cpu") },
  nprocessing: { title: "Tasks processing", draw: bars("processing") },
  occupancy: { title: "Occupancy", draw: bars("occupancy") },
  workers: { title: "Workers", draw: Workers },
  exceptions: { title: "Exceptions", draw: Exceptions },
  "bandwidth-types": { title: "Bandwidth by type", draw: BandwidthTypes },
  "bandwidth-workers": { title: "Bandwidth between workers", draw: BandwidthPairs },
  "workers-network": { title: "Network", draw: series("net_read", "net_write") },
  "workers-disk": { title: "Disk", draw: series("disk_read", "disk_write") },
  "workers-network-timeseries": { title: "Network over time", draw: series("net_read", "net_write") },
  "workers-cpu-timeseries": { title: "CPU over time", draw: series("cpu") },
  "workers-memory-timeseries": { title: "Memory over time", draw: series("memory") },
  "workers-disk-timeseries": { title: "Disk over time", draw: series("disk_read", "disk_write") },
  "memory-by-key": { title: "Memory by key", draw: ByKey },
  "compute-time-per-key": { title: "Compute time by key", draw: ComputeByKey },
  "aggregate-time-per-action": { title: "Time by action", draw: TimeByAction },
  "scheduler-system": { title: "Scheduler", draw: SchedulerSystem },
  contention: { title: "Contention", draw: Contention },
  "fine-performance-metrics": { title: "Fine performance metrics", draw: Fine },
  profile: { title: "Profile", draw: Profile },
  "profile-server": { title: "Profile", draw: Profile },
  hardware: { title: "Hardware", draw: Hardware },
  "gpu-memory": { title: "GPU memory", draw: NoGpu },
  "gpu-utilization": { title: "GPU utilisation", draw: NoGpu },
  "rmm-memory": { title: "RMM memory", draw: NoGpu },
};
