// The search box: a key, a prefix or a worker by a part of its name.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { getJson, query } from "../base/http";
import { asRow, list, rowsOf, str } from "../base/rows";
import { go } from "../base/url";
import { middle } from "../base/format";
import { taskHref, workerHref } from "./parts";

interface Found {
  readonly href: string;
  readonly text: string;
  readonly kind: string;
}

// The typings of `input` know this role only together with a `list` attribute.
const COMBOBOX = { role: "combobox" } as object;
const WAIT_MS = 180;

/** Anything that `api/find` may list: an object with a name, or a name. */
function nameOf(item: unknown, field: string): string {
  return typeof item === "string" ? item : str(asRow(item), field) || str(asRow(item), "name");
}

function read(answer: unknown): Found[] {
  const from = asRow(answer);
  return [
    ...rowsOf(from, "tasks").map((row) => ({
      kind: str(row, "state"),
      text: str(row, "key"),
      href: taskHref(str(row, "key")),
    })),
    ...list(from, "workers").map((item) => ({
      kind: "worker",
      text: nameOf(item, "address"),
      href: workerHref(nameOf(item, "address")),
    })),
    ...list(from, "prefixes").map((item) => ({
      kind: "prefix",
      text: nameOf(item, "name"),
      href: query("groups", { prefix: nameOf(item, "name") }),
    })),
  ].slice(0, 12);
}

export function Find() {
  const words = useSignal("");
  const found = useSignal<Found[] | null>(null);
  const at = useSignal(0);
  const box = useRef<HTMLInputElement>(null);
  const text = words.value.trim();
  useEffect(() => {
    found.value = null;
    at.value = 0;
    if (text === "") return undefined;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      getJson(query("api/find", { q: text, limit: 8 }), stop.signal).then(
        (answer) => {
          found.value = read(answer);
        },
        () => {
          if (!stop.signal.aborted) found.value = [];
        },
      );
    }, WAIT_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const typing = event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        box.current?.focus();
      }
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  const list = found.value;
  const open = (item: Found | undefined): void => {
    if (!item) return;
    words.value = "";
    box.current?.blur();
    go(item.href);
  };
  const onKey = (event: KeyboardEvent): void => {
    const count = list?.length ?? 0;
    if (event.key === "ArrowDown" && count > 0) at.value = (at.value + 1) % count;
    else if (event.key === "ArrowUp" && count > 0) at.value = (at.value + count - 1) % count;
    else if (event.key === "Enter") open(list?.[at.value]);
    else if (event.key === "Escape") words.value = "";
    else return;
    event.preventDefault();
  };
  return (
    <div class="find" role="search">
      {/* biome-ignore lint/a11y/useAriaPropsSupportedByRole: the role is in COMBOBOX */}
      <input
        ref={box}
        type="search"
        placeholder="Find a task, prefix or worker ( / )"
        aria-label="Find a task, prefix or worker"
        {...COMBOBOX}
        aria-autocomplete="list"
        aria-expanded={list !== null}
        aria-controls="found"
        aria-activedescendant={list && list.length > 0 ? `found-${at.value}` : undefined}
        value={words.value}
        onInput={(event) => (words.value = event.currentTarget.value)}
        onKeyDown={onKey}
      />
      <ul id="found" role="listbox" aria-label="Found" hidden={list === null}>
        {list?.length === 0 && (
          <li role="option" aria-selected="false" class="muted">
            Nothing is called like that
          </li>
        )}
        {list?.map((item, index) => (
          <li
            key={item.href + item.kind}
            id={`found-${index}`}
            role="option"
            aria-selected={index === at.value}
            onMouseDown={() => open(item)}
          >
            <span>{middle(item.text, 72)}</span> <span class="pill">{item.kind}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
