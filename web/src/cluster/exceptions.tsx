// Exceptions, grouped by cause: the same error of a thousand tasks is one line here.
import * as show from "../base/format";
import { hue } from "../base/palette";
import { list, num, str, type Row } from "../base/rows";
import { dark } from "../base/theme";
import { rows } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { Panel } from "../ui/Panel";
import { Nothing, useItems, type Item } from "./items";
import { taskHref, workerHref } from "./parts";

export function Exceptions() {
  useTopics(["prefixes"]);
  const all = useItems("exceptions").sort((a, b) => num(b.row, "last") - num(a.row, "last"));
  const sum = all.reduce((count, item) => count + num(item.row, "count"), 0);
  const summary = all.length > 0 ? `${show.many(all.length, "cause")}, ${show.many(sum, "failed task")}` : undefined;
  if (all.length === 0) {
    return (
      <Panel title="Exceptions" summary={summary}>
        <Nothing topic="exceptions" title="No task has failed" />
      </Panel>
    );
  }
  return (
    <>
      {all.map((item) => (
        <Cause key={item.id} item={item} />
      ))}
    </>
  );
}

function Cause({ item }: { item: Item }) {
  const { row } = item;
  const traceback = tracebackOf(row);
  return (
    <Panel
      title={show.middle(str(row, "type") || "Error", 60)}
      summary={`${show.many(num(row, "count"), "task")}, last at ${show.clock(row.last)}`}
    >
      <div class="cause">
        <p class="cause-text mono">{str(row, "exception") || str(row, "text") || str(row, "type")}</p>
        <p class="row">
          <span class="pill">
            <span
              class="tone"
              style={{ backgroundColor: hue(num(rows("prefixes").get(str(row, "prefix")), "color"), dark.value) }}
              aria-hidden="true"
            />
            {str(row, "prefix") || "unknown prefix"}
          </span>
          <span class="muted">first {show.moment(row.first)}</span>
        </p>
        <Links title="Tasks" items={list(row, "keys").map(String)} href={taskHref} more={num(row, "count")} />
        <Links title="Workers" items={list(row, "workers").map(String)} href={workerHref} more={0} />
        {traceback !== "" && (
          <details open={num(row, "count") > 0}>
            <summary>Traceback</summary>
            <pre class="log" tabIndex={0}>
              {traceback}
            </pre>
          </details>
        )}
      </div>
    </Panel>
  );
}

/** A traceback as one text, whether it came as lines or whole. */
export function tracebackOf(row: Row): string {
  const lines = list(row, "traceback").map(String);
  return lines.length > 0 ? lines.map((line) => line.replace(/\n$/, "")).join("\n") : str(row, "traceback");
}

function Links({
  title,
  items,
  href,
  more,
}: {
  title: string;
  items: readonly string[];
  href: (name: string) => string;
  more: number;
}) {
  if (items.length === 0) return null;
  return (
    <p>
      <span class="muted">{title}: </span>
      {items.map((item, at) => (
        <span key={item}>
          {at > 0 && ", "}
          <a href={href(item)} data-go>
            {show.middle(show.shortAddress(item), 48)}
          </a>
        </span>
      ))}
      {more > items.length && <span class="muted"> and {show.count(more - items.length)} more</span>}
    </p>
  );
}
