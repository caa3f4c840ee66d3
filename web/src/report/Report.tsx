// The pages of a cluster put one below the other, fed from the file instead of a socket.
import { useEffect, useState } from "preact/hooks";
import * as show from "../base/format";
import { list, num, obj, str, type Row } from "../base/rows";
import { decodeBlock, fromBase64 } from "../feed/block";
import { keepBlock, receive } from "../feed/store";
import { Exceptions } from "../cluster/exceptions";
import { BandwidthPairs, BandwidthTypes } from "../cluster/bandwidth";
import { ComputeByKey, TimeByAction } from "../cluster/by_key";
import { ClusterMemory, Progress, WorkerBars } from "../cluster/parts";
import { System } from "../cluster/system";
import { StreamPanel } from "../cluster/tasks";
import { Workers } from "../cluster/workers";
import { frameOf, hotSpots } from "../plots/flame";
import { Flame, spent } from "../plots/Flame";
import { Empty, Figure, Panel } from "../ui/Panel";
import { Mark, ThemeSwitch } from "../ui/Shell";

/** Topics arrive as rows; the store takes them as one full message. */
function load(data: Row): void {
  const topics = Object.fromEntries(Object.entries(obj(data, "topics")).map(([name, rows]) => [name, { full: rows }]));
  receive({ epoch: "report", seq: 1, t: num(data, "stop") || num(data, "made"), topics });
}

export function Report({ data }: { data: Row }) {
  const [ready, setReady] = useState(false);
  const title = str(data, "title") || "Performance report";
  useEffect(() => {
    document.title = title;
    const block = str(data, "stream") ? decodeBlock(fromBase64(str(data, "stream"))) : null;
    keepBlock(block && { ...block, first: true });
    load(data);
    setReady(true);
    // There are no other pages here to go to.
    document.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("a[data-go]")) event.preventDefault();
    });
  }, []);
  if (num(data, "v") !== 1) {
    return (
      <main>
        <Empty title="This file holds no data">
          It was saved before the report was filled in. Make it anew with performance_report.
        </Empty>
      </main>
    );
  }
  return (
    <div class="report">
      <header class="top report-top">
        <Mark />
        <h1>{title}</h1>
        <span class="muted limit-like">
          {show.moment(data.start)} – {show.clock(data.stop)}
        </span>
        <ThemeSwitch />
      </header>
      {ready && <Body data={data} />}
    </div>
  );
}

function Body({ data }: { data: Row }) {
  const now = obj(obj(obj(data, "topics"), "overview"), "now");
  const code = list(data, "code").map(String);
  const length = num(data, "stop") - num(data, "start");
  return (
    <main>
      <div class="figures">
        <Figure name="Duration" value={show.seconds(length)} />
        <Figure
          name="Workers"
          value={show.count(num(now, "workers"))}
          note={`${show.count(num(now, "threads"))} threads`}
        />
        <Figure
          name="Tasks done"
          value={show.count(num(now, "done_total"))}
          note={`${show.count(num(now, "erred_total"))} failed`}
        />
        <Figure
          name="Memory"
          value={show.bytes(num(now, "mem_process"))}
          note={`of ${show.bytes(num(now, "mem_limit"))}`}
        />
        <Figure name="rask" value={str(now, "version") || "–"} note={str(now, "address")} />
      </div>
      {code.length > 0 && (
        <Panel title="Code">
          {code.map((text, at) => (
            <pre class="log" tabIndex={0} key={at}>
              {text}
            </pre>
          ))}
        </Panel>
      )}
      <StreamPanel />
      <div class="grid">
        <div class="w6 stack">
          <Progress topic="prefixes" title="Progress" />
          <ComputeByKey />
          <TimeByAction />
        </div>
        <div class="w6 stack">
          <ClusterMemory />
          <WorkerBars measure="memory" />
          <BandwidthTypes />
          <BandwidthPairs />
        </div>
      </div>
      <ProfilePart data={data} />
      <System />
      <Workers />
      <Exceptions />
    </main>
  );
}

function ProfilePart({ data }: { data: Row }) {
  const root = frameOf(data.profile);
  const perSample = num(obj(data, "profile"), "seconds_per_sample");
  if (root.value === 0) return null;
  const hot = hotSpots(root)[0];
  return (
    <Panel title="Profile" summary={hot ? `most time in ${hot.name}: ${spent(hot.own, root.value, perSample)}` : ""}>
      <Flame root={root} perSample={perSample} search="" />
    </Panel>
  );
}
