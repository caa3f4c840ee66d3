// The form for a new cluster: made from the options that the appliance offers, so that it knows types and bounds.
import { useSignal } from "@preact/signals";
import type { Refusal } from "../base/http";
import { list, maybe, obj, rowsOf, str, type Row } from "../base/rows";
import { text } from "../base/format";
import { Empty, Trouble } from "../ui/Panel";
import { attempt, useApi } from "./api";
import { Dialog } from "./clusters";

/** What stands in the fields, as text; turned into values when sent. */
type Entered = Readonly<Record<string, string>>;

export function CreateCluster({ onClose }: { onClose: () => void }) {
  const asked = useApi("/options");
  const entered = useSignal<Entered>({});
  const name = useSignal("");
  const workers = useSignal("1");
  const error = useSignal<Refusal | null>(null);
  const busy = useSignal(false);
  const { data, error: failed } = asked.answer.value;
  const options = rowsOf(data, "options");
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    busy.value = true;
    const body: Record<string, unknown> = { options: chosen(options, entered.value) };
    if (name.value.trim() !== "") body.name = name.value.trim();
    if (workers.value !== "") body.workers = Number(workers.value);
    const done = await attempt("POST", "/clusters", body);
    busy.value = false;
    error.value = done.error;
    if (!done.error) onClose();
  };
  return (
    <Dialog title="New cluster" onClose={onClose}>
      <form class="plain" onSubmit={(event) => void send(event)}>
        <div class="pair">
          <label class="field">
            <span>Name (empty: made up)</span>
            <input
              type="text"
              pattern="[a-z0-9.\-]*"
              title="a-z, 0-9, dots and dashes"
              value={name.value}
              onInput={(event) => (name.value = event.currentTarget.value)}
            />
          </label>
          <label class="field">
            <span>Workers to start with</span>
            <input
              type="number"
              min="0"
              step="1"
              value={workers.value}
              onInput={(event) => (workers.value = event.currentTarget.value)}
            />
          </label>
        </div>
        {failed && <Trouble error={failed} />}
        {!data && !failed && <Empty title="Asking for the options" />}
        {options.map((option) => (
          <Field
            key={str(option, "field")}
            option={option}
            value={entered.value[str(option, "field")]}
            onInput={(value) => (entered.value = { ...entered.value, [str(option, "field")]: value })}
          />
        ))}
        {error.value && <Trouble error={error.value} />}
        <footer>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={busy.value}>
            {busy.value ? "Starting" : "Create"}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Values of the fields that were touched; the rest takes the appliance's defaults. */
export function chosen(options: readonly Row[], entered: Entered): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const option of options) {
    const field = str(option, "field");
    const given = entered[field];
    if (given === undefined) continue;
    const type = str(obj(option, "spec"), "type");
    if (type === "int" || type === "float") {
      if (given.trim() !== "") out[field] = Number(given);
    } else if (type === "bool") out[field] = given === "true";
    else if (type === "mapping") out[field] = mapping(given);
    else out[field] = given;
  }
  return out;
}

/** `NAME=value` lines as an object. */
export function mapping(given: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const line of given.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0) out[line.slice(0, at).trim()] = line.slice(at + 1).trim();
  }
  return out;
}

function Field({
  option,
  value,
  onInput,
}: {
  option: Row;
  value: string | undefined;
  onInput: (value: string) => void;
}) {
  const spec = obj(option, "spec");
  const type = str(spec, "type");
  const label = str(option, "label") || str(option, "field");
  const usual = option.default;
  const now = value ?? (typeof usual === "object" ? "" : usual === null || usual === undefined ? "" : String(usual));
  const bounds = { min: maybe(spec, "min") ?? undefined, max: maybe(spec, "max") ?? undefined };
  if (type === "bool") {
    return (
      <label>
        <input
          type="checkbox"
          checked={now === "true"}
          onChange={(event) => onInput(String(event.currentTarget.checked))}
        />
        {label}
      </label>
    );
  }
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: each branch below is a control
    <label class="field">
      <span>{label}</span>
      {type === "select" ? (
        <select value={now} onChange={(event) => onInput(event.currentTarget.value)}>
          {list(spec, "options").map((choice) => (
            <option key={String(choice)} value={String(choice)}>
              {text(choice)}
            </option>
          ))}
        </select>
      ) : type === "mapping" ? (
        <textarea
          rows={2}
          placeholder="NAME=value, one a line"
          value={now}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      ) : type === "int" || type === "float" ? (
        <input
          type="number"
          step={type === "int" ? "1" : "any"}
          {...bounds}
          value={now}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      ) : (
        <input type="text" value={now} onInput={(event) => onInput(event.currentTarget.value)} />
      )}
    </label>
  );
}
