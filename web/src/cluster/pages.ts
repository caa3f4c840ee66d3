// Every page of a cluster: its name in the address, title, place in the navigation, and what draws it.
import type { ComponentType } from "preact";
import { Status } from "./status";
import { Tasks } from "./tasks";
import { Workers } from "./workers";
import { Bandwidth } from "./bandwidth";
import { ByKey, ComputeByKey } from "./by_key";
import { Clients } from "./clients";
import { Computations } from "./computations";
import { Coordination } from "./coordination";
import { Events } from "./events";
import { Fine } from "./fine";
import { Groups } from "./groups";
import { Hardware } from "./hardware";
import { Logs } from "./logs";
import { ProgressPage } from "./progress";
import { Shuffle } from "./shuffle";
import { Stealing } from "./stealing";
import { Exceptions } from "./exceptions";
import { System } from "./system";
import { Profile } from "./profile";
import { Graph } from "./graph";
import { Task } from "./task";
import { WorkerPage } from "./worker";

export interface Page {
  readonly name: string;
  readonly title: string;
  /** Section of the navigation; none for pages that are reached by links. */
  readonly section?: string;
  readonly draw: ComponentType;
}

export const PAGES: readonly Page[] = [
  { name: "status", title: "Status", section: "Now", draw: Status },
  { name: "tasks", title: "Task stream", section: "Now", draw: Tasks },
  { name: "progress", title: "Progress", section: "Now", draw: ProgressPage },
  { name: "graph", title: "Graph", section: "Now", draw: Graph },
  { name: "groups", title: "Groups", section: "Now", draw: Groups },
  { name: "computations", title: "Computations", section: "Now", draw: Computations },
  { name: "workers", title: "Workers", section: "Machines", draw: Workers },
  { name: "system", title: "System", section: "Machines", draw: System },
  { name: "bandwidth", title: "Bandwidth", section: "Machines", draw: Bandwidth },
  { name: "hardware", title: "Hardware", section: "Machines", draw: Hardware },
  { name: "profile", title: "Profile", section: "Time and memory", draw: Profile },
  { name: "compute", title: "Compute time", section: "Time and memory", draw: ComputeByKey },
  { name: "memory", title: "Memory by key", section: "Time and memory", draw: ByKey },
  { name: "fine", title: "Fine metrics", section: "Time and memory", draw: Fine },
  { name: "exceptions", title: "Exceptions", section: "What went on", draw: Exceptions },
  { name: "events", title: "Events", section: "What went on", draw: Events },
  { name: "stealing", title: "Stealing", section: "What went on", draw: Stealing },
  { name: "shuffle", title: "Shuffle", section: "What went on", draw: Shuffle },
  { name: "coordination", title: "Coordination", section: "What went on", draw: Coordination },
  { name: "clients", title: "Clients", section: "What went on", draw: Clients },
  { name: "logs", title: "Scheduler log", section: "What went on", draw: Logs },
  { name: "task", title: "Task", draw: Task },
  { name: "worker", title: "Worker", draw: WorkerPage },
];

/** Dask's other names for our pages. */
export const ALIASES: Readonly<Record<string, string>> = {
  counters: "system",
  gpu: "hardware",
  info: "workers",
  "profile-server": "profile",
};
