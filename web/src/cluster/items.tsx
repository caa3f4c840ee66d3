// What the pages that are lists share: rows of a topic, columns for them, links to workers and tasks.
import type { ComponentChildren } from "preact";
import * as show from "../base/format";
import { hue } from "../base/palette";
import { maybe, num, str, type Row } from "../base/rows";
import { dark } from "../base/theme";
import { known, peek, rows } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { Empty } from "../ui/Panel";
import type { Column } from "../ui/Table";
import { taskHref, workerHref } from "./parts";

/** A row with its id. */
export interface Item {
  readonly id: string;
  readonly row: Row;
}

/** The rows of a topic as a list. */
export function useItems(topic: string): Item[] {
  useTopics([topic]);
  return [...rows(topic)].map(([id, row]) => ({ id, row }));
}

/** "Waiting" before the first word of the scheduler, then what emptiness means. */
export function Nothing({ topic, title, children }: { topic: string; title: string; children?: ComponentChildren }) {
  return known(topic) ? <Empty title={title}>{children}</Empty> : <Empty title="Waiting for the scheduler" />;
}

type Show = (value: unknown) => string;

/** A column of numbers of a row's field. */
export function figure(label: string, field: string, as: Show): Column<Item> {
  return { label, num: true, value: (item) => maybe(item.row, field), show: (item) => as(item.row[field]) };
}

export function words(label: string, field: string, wide = false): Column<Item> {
  return { label, wide, value: (item) => str(item.row, field), show: (item) => show.text(item.row[field]) };
}

export function named(label = "Name", short: (name: string) => string = (name) => name): Column<Item> {
  return {
    label,
    wide: true,
    value: (item) => item.id,
    show: (item) => (
      <>
        <span class="tone" style={{ backgroundColor: hue(num(item.row, "color"), dark.value) }} aria-hidden="true" />
        <span title={item.id}>{short(item.id)}</span>
      </>
    ),
  };
}

export function WorkerLink({ address }: { address: string }) {
  if (address === "") return <>–</>;
  const name = str(peek("workers").get(address), "name");
  return (
    <a href={workerHref(address)} data-go>
      {name || show.shortAddress(address)}
    </a>
  );
}

export function TaskLink({ name }: { name: string }) {
  return name === "" ? (
    <>–</>
  ) : (
    <a href={taskHref(name)} data-go>
      {show.middle(name, 60)}
    </a>
  );
}
