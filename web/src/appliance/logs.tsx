// Logs of a cluster's processes: all woven together or one, searched, followed while they are written.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { count } from "../base/format";
import { query } from "../base/http";
import { obj, rowsOf, str } from "../base/rows";
import { absolute } from "../base/url";
import { Empty, Panel } from "../ui/Panel";
import { API, hashQuery, useApi } from "./api";

/** Most lines kept in the page: a followed log must not grow for hours. */
const LINES_MAX = 5_000;

export function Logs() {
  const from = hashQuery();
  const asked = useApi("/clusters?status=all", 10_000);
  const names = rowsOf(asked.answer.value.data, "clusters").map((cluster) => str(cluster, "name"));
  const chosen = useSignal(from.get("cluster") ?? "");
  const process = useSignal(from.get("worker") ?? "");
  const cluster = chosen.value || (names.includes("local") ? "local" : (names[0] ?? ""));
  const index = useApi(cluster === "" ? null : `/clusters/${encodeURIComponent(cluster)}/logs/index`, 10_000);
  const workers = Object.keys(obj(index.answer.value.data, "workers"));
  const words = useSignal("");
  const follow = useSignal(true);
  const lines = useLog(cluster, process.value, follow.value);
  const shown =
    words.value === "" ? lines.all : lines.all.filter((line) => line.toLowerCase().includes(words.value.toLowerCase()));
  return (
    <Panel
      title="Logs"
      summary={lines.trouble || `${count(shown.length)}${words.value ? ` of ${count(lines.all.length)}` : ""} lines`}
    >
      <div class="tools profile-tools">
        <label>
          Cluster
          <select value={cluster} onChange={(event) => (chosen.value = event.currentTarget.value)}>
            {!names.includes(cluster) && <option value={cluster}>{cluster || "none"}</option>}
            {names.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Process
          <select value={process.value} onChange={(event) => (process.value = event.currentTarget.value)}>
            <option value="">all</option>
            <option value="scheduler">scheduler</option>
            <option value="group">worker pool</option>
            {workers.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <input
          type="search"
          placeholder="Search"
          aria-label="Search the lines"
          value={words.value}
          onInput={(event) => (words.value = event.currentTarget.value)}
        />
        <label>
          <input
            type="checkbox"
            checked={follow.value}
            onChange={(event) => (follow.value = event.currentTarget.checked)}
          />
          Follow
        </label>
        <a
          href={`${API}${query(`/clusters/${encodeURIComponent(cluster)}/logs`, { worker: process.value, tail: 100_000 })}`}
          download={`${cluster}.log`}
        >
          Download
        </a>
      </div>
      {cluster === "" ? (
        <Empty title="No cluster has left a log">Logs show here as soon as a cluster runs.</Empty>
      ) : (
        <Lines lines={shown} follow={follow.value} words={words.value} />
      )}
    </Panel>
  );
}

function Lines({ lines, follow, words }: { lines: readonly string[]; follow: boolean; words: string }) {
  const box = useRef<HTMLPreElement>(null);
  useEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, follow]);
  if (lines.length === 0)
    return <Empty title={words === "" ? "Nothing was written yet" : `No line contains "${words}"`} />;
  return (
    <pre class="log tall-log mono" tabIndex={0} ref={box} role="group" aria-label="Lines of the log">
      {lines.map((line, at) => (
        <span key={at} class={/\b(ERROR|CRITICAL|panicked)\b/.test(line) ? "bad" : /\bWARN/.test(line) ? "warn" : ""}>
          {line}
          {"\n"}
        </span>
      ))}
    </pre>
  );
}

/** The lines as they come; reads on while followed. */
function useLog(cluster: string, process: string, follow: boolean): { all: readonly string[]; trouble: string } {
  const state = useSignal<{ all: readonly string[]; trouble: string }>({ all: [], trouble: "" });
  useEffect(() => {
    state.value = { all: [], trouble: "" };
    if (cluster === "") return undefined;
    const stop = new AbortController();
    const path = `${API}${query(`/clusters/${encodeURIComponent(cluster)}/logs`, { worker: process, tail: 2_000, follow: follow ? "true" : null })}`;
    void read(path, stop.signal, (next) => {
      const all = [...state.peek().all, ...next];
      state.value = { all: all.length > LINES_MAX ? all.slice(-LINES_MAX) : all, trouble: "" };
    }).catch((error: unknown) => {
      if (!stop.signal.aborted)
        state.value = { ...state.peek(), trouble: error instanceof Error ? error.message : "the log cannot be read" };
    });
    return () => stop.abort();
  }, [cluster, process, follow]);
  return state.value;
}

async function read(path: string, signal: AbortSignal, tell: (lines: string[]) => void): Promise<void> {
  const answer = await fetch(absolute(path), { signal, cache: "no-store" });
  if (!answer.ok || !answer.body) throw new Error(`the appliance answered ${answer.status}`);
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    if (parts.length > 0) tell(parts);
  }
  if (rest !== "") tell([rest]);
}
