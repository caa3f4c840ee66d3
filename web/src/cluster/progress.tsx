// The page Progress: bars and a table by prefix.
import * as show from "../base/format";
import { Panel } from "../ui/Panel";
import { Table } from "../ui/Table";
import { useItems } from "./items";
import { Progress, progressTable } from "./parts";

export function ProgressPage() {
  const all = useItems("prefixes").map(({ id, row }) => ({ name: id, row }));
  return (
    <>
      <div class="tall-bars">
        <Progress topic="prefixes" title="Progress by prefix" />
      </div>
      {all.length > 0 && (
        <Panel title="Tasks by prefix and state" summary={show.many(all.length, "prefix", "prefixes")} class="flush">
          <Table {...progressTable("Tasks by prefix and state", all)} />
        </Panel>
      )}
    </>
  );
}
