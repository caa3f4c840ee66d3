// The page people keep open: figures, memory, workers, task stream, progress.
import * as show from "../base/format";
import { num } from "../base/rows";
import { overview } from "../feed/store";
import { Figure } from "../ui/Panel";
import { workersOnHosts } from "../ui/Shell";
import { ClusterMemory, Progress, WorkerBars, WorkerTabs } from "./parts";
import { StreamPanel } from "./tasks";

export function Status() {
  return (
    <>
      <Figures />
      <div class="grid">
        <div class="stack w4">
          <ClusterMemory />
          <WorkerBars measure="memory" more="individual-workers-memory" />
          <WorkerTabs measures={["processing", "cpu", "occupancy", "transfer"]} />
        </div>
        <div class="stack w8">
          <StreamPanel />
          <Progress topic="prefixes" title="Progress" more="progress" />
        </div>
      </div>
    </>
  );
}

function Figures() {
  const now = overview();
  const n = (name: string): number => num(now, name);
  const todo = n("waiting") + n("queued") + n("no_worker");
  const share = n("mem_limit") > 0 ? n("mem_process") / n("mem_limit") : 0;
  return (
    <div class="figures">
      <Figure
        name="Workers"
        value={show.count(n("workers"))}
        note={`${workersOnHosts(n("workers"), n("hosts")).replace(/^.* on /, "on ")}`}
        href="workers"
      />
      <Figure name="Threads" value={show.count(n("threads"))} note={`${show.count(n("executing"))} busy`} />
      <Figure
        name="Tasks per second"
        value={show.number(Math.round(n("tasks_per_s") * 10) / 10)}
        note={`${show.count(n("done_total"))} done in all`}
        href="progress"
      />
      <Figure
        name="Processing"
        value={show.count(n("processing"))}
        note={`${show.count(todo)} waiting`}
        href="tasks?state=processing"
      />
      <Figure name="In memory" value={show.count(n("memory"))} note={show.bytes(n("mem_managed"))} href="memory" />
      <Figure
        name="Failed"
        value={show.count(n("erred"))}
        note={`${show.count(n("erred_total"))} in all`}
        href="exceptions"
        tone={n("erred") > 0 ? "bad" : undefined}
      />
      <Figure
        name="Memory"
        value={show.bytes(n("mem_process"))}
        note={n("mem_limit") > 0 ? `${show.percent(share * 100)} of ${show.bytes(n("mem_limit"))}` : "no limit"}
        href="workers"
        tone={share > 0.8 ? "warn" : undefined}
      />
      <Figure
        name="CPU"
        value={show.percent(n("cpu_max") > 0 ? (n("cpu") / n("cpu_max")) * 100 : 0)}
        note={`of ${show.many(n("cpu_max") / 100, "thread")}`}
        href="system"
      />
    </div>
  );
}
