// A panel: title, one line that says in words what the plot shows, and a switch to the same as a table.
import type { ComponentChildren } from "preact";
import { useSignal } from "@preact/signals";
import { Table, type TableSpec } from "./Table";

export interface PanelProps {
  readonly title: string;
  /** The plot in one sentence. */
  readonly summary?: string | undefined;
  /** The plot's table twin; worked out only while it is shown. */
  readonly table?: () => TableSpec;
  readonly actions?: ComponentChildren;
  /** The page that shows this alone. */
  readonly more?: string;
  readonly class?: string;
  readonly children: ComponentChildren;
}

export function Panel(props: PanelProps) {
  const asTable = useSignal(false);
  return (
    <section class={`panel ${props.class ?? ""}`} aria-label={props.title}>
      <header>
        <h2>
          {props.more ? (
            <a href={props.more} data-go>
              {props.title}
            </a>
          ) : (
            props.title
          )}
        </h2>
        {props.summary !== undefined && <p class="summary">{props.summary}</p>}
        <div class="panel-actions">
          {props.actions}
          {props.table && (
            <button
              type="button"
              class="quiet"
              aria-pressed={asTable.value}
              onClick={() => (asTable.value = !asTable.value)}
            >
              Table
            </button>
          )}
        </div>
      </header>
      <div class="panel-body">{asTable.value && props.table ? <Table {...props.table()} /> : props.children}</div>
    </section>
  );
}

/** What to show where there is nothing: says why, and what to do next. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="empty-next">{children}</div>}
    </div>
  );
}

/** One figure with its name, for strips of them. */
export function Figure({
  name,
  value,
  note,
  href,
  tone,
}: {
  name: string;
  value: string;
  note?: string;
  href?: string;
  tone?: "bad" | "warn" | undefined;
}) {
  const inside = (
    <>
      <dt>{name}</dt>
      <dd class={tone}>{value}</dd>
      {note !== undefined && <dd class="note">{note}</dd>}
    </>
  );
  return href ? (
    <div class="figure">
      <dl>{inside}</dl>
      {/* biome-ignore lint/a11y/useAnchorContent: it lies over the figure, which its label reads aloud */}
      <a class="cover" href={href} data-go aria-label={`${name}: ${value}`} />
    </div>
  ) : (
    <div class="figure">
      <dl>{inside}</dl>
    </div>
  );
}

/** Says calmly that a request failed, and what helps. */
export function Trouble({ error }: { error: { message: string; remedy: string } }) {
  return (
    <div class="trouble" role="alert">
      <strong>{error.message}</strong>
      {error.remedy && <span>{error.remedy}</span>}
    </div>
  );
}
