// The task graph: single tasks up to the server's limit, above that their groups.
import { useComputed } from "@preact/signals";
import * as show from "../base/format";
import { query } from "../base/http";
import { list, num, obj, str, type Row } from "../base/rows";
import { stateHue } from "../base/palette";
import { dark } from "../base/theme";
import { go } from "../base/url";
import { known, rows } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { GraphCanvas, type GraphNode } from "../plots/GraphCanvas";
import { Legend } from "../ui/Bars";
import { Empty, Panel } from "../ui/Panel";
import type { TableSpec } from "../ui/Table";
import { State, taskHref } from "./parts";

/** Most tasks that are drawn singly; more are drawn by group. */
const TASKS_MAX = 5_000;
const STATES = ["released", "waiting", "queued", "no-worker", "processing", "memory", "erred"];
/** What a group with tasks in several states counts as: the first of these that it has. */
const LOUDEST = ["erred", "processing", "no_worker", "queued", "waiting", "memory", "released", "forgotten"];

function nodeOf(id: string, row: Row): GraphNode {
  const name = str(row, "k");
  const isGroup = typeof row.s !== "string";
  const counts = obj(row, "s");
  const loudest =
    LOUDEST.find((state) => num(counts, state) > 0 || num(counts, state.replace("_", "-")) > 0) ?? "released";
  return {
    id,
    name,
    state: isGroup ? loudest.replace("_", "-") : str(row, "s"),
    colour: num(row, "c"),
    detail: isGroup
      ? Object.entries(counts)
          .map(([state, count]) => `${state.replace("_", " ")} ${show.count(count)}`)
          .join(", ")
      : str(row, "s"),
    dependsOn: list(row, "d").map(String),
    href: isGroup ? query("groups", { prefix: str(row, "p") }) : taskHref(name),
  };
}

export function Graph() {
  useTopics(["graph"], { graph: { max: TASKS_MAX } });
  const nodes = useComputed(() =>
    [...rows("graph")]
      .filter(([id]) => id !== "meta")
      .map(([id, row]) => nodeOf(id, row))
      .sort((a, b) => Number(a.id) - Number(b.id)),
  );
  const meta = rows("graph").get("meta");
  const byGroup = str(meta, "mode") === "groups";
  const all = nodes.value;
  const summary =
    all.length === 0
      ? ""
      : byGroup
        ? `${show.many(all.length, "group")} of ${show.many(num(meta, "tasks"), "task")}: too many to draw singly`
        : `${show.many(all.length, "task")}, ${show.many(all.filter((node) => node.state === "memory").length, "result")} in memory`;
  return (
    <Panel title={byGroup ? "Graph of groups" : "Graph of tasks"} summary={summary} table={() => nodeTable(all)}>
      {all.length > 0 ? (
        <GraphCanvas nodes={all} onOpen={(node) => go(node.href)} />
      ) : known("graph") ? (
        <Empty title="No tasks">
          The graph of what clients asked for shows here while it is computed and its results are wanted.
        </Empty>
      ) : (
        <Empty title="Waiting for the scheduler" />
      )}
      <Legend items={STATES.map((state) => ({ name: state.replace("-", " "), tone: stateHue(state, dark.value) }))} />
    </Panel>
  );
}

function nodeTable(nodes: readonly GraphNode[]): TableSpec<GraphNode> {
  const names = new Map(nodes.map((node) => [node.id, node.name]));
  return {
    caption: "Nodes of the graph",
    rows: nodes,
    id: (node) => node.id,
    columns: [
      {
        label: "Name",
        wide: true,
        value: (node) => node.name,
        show: (node) => (
          <a href={node.href} data-go>
            {node.name}
          </a>
        ),
      },
      { label: "State", value: (node) => node.state, show: (node) => <State state={node.state} /> },
      { label: "Details", value: (node) => node.detail },
      {
        label: "Depends on",
        wide: true,
        value: (node) => node.dependsOn.length,
        show: (node) =>
          node.dependsOn
            .map((id) => names.get(id) ?? id)
            .slice(0, 8)
            .join(", ") || "–",
      },
    ],
  };
}
