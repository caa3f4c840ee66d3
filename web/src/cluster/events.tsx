// The page Events: what the scheduler and clients logged, by topic.
import * as show from "../base/format";
import { list, num, str } from "../base/rows";
import { place, setQuery } from "../base/url";
import { rows } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { Choice } from "../ui/Choice";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { useAsk } from "../ui/ask";
import { type Item, Nothing, words } from "./items";

export function Events() {
  const topic = place.value.query.get("topic") ?? "";
  useTopics(["events"], { events: { topic: topic || "all" } });
  const all = [...rows("events")].map(([id, row]) => ({ id, row }));
  const asked = useAsk("api/topics", 5_000);
  const topics = list(asked.answer.value.data, "topics")
    .map(String)
    .filter((name) => name !== "all");
  const columns: Column<Item>[] = [
    { label: "Time", num: true, value: (item) => num(item.row, "t"), show: (item) => show.clock(item.row.t, true) },
    words("Topic", "topic"),
    {
      label: "Event",
      wide: true,
      value: (item) => str(item.row, "text"),
      show: (item) => str(item.row, "text") || show.text(item.row.data),
    },
  ];
  return (
    <Panel
      title="Events"
      summary={`the newest ${show.count(all.length)}`}
      class="flush"
      actions={
        <Choice
          label="Topic"
          value={topic}
          options={topics.map((name) => [name, name])}
          onChoose={(next) => setQuery({ topic: next })}
        />
      }
    >
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Events"
        sort={-1}
        empty={
          <Nothing topic="events" title="No events">
            The scheduler tells here of workers and clients; what <code>log_event</code> wrote is in its own topic.
          </Nothing>
        }
      />
    </Panel>
  );
}
