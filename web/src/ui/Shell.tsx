// The frame around every page: navigation, the line that says what limits the cluster, connection, theme.
import type { ComponentChildren } from "preact";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { many } from "../base/format";
import { needsToken } from "../base/http";
import { obj, str } from "../base/rows";
import { choice, chooseTheme, dark } from "../base/theme";
import { link } from "../feed/feed";
import { closing, known, overview, summary } from "../feed/store";

export interface NavItem {
  readonly href: string;
  readonly title: string;
  readonly current: boolean;
  /** Loads a page of another place (shell or cluster) instead of staying here. */
  readonly leaves?: boolean;
  readonly badge?: number | undefined;
}

export interface NavGroup {
  readonly title: string;
  readonly items: readonly NavItem[];
}

interface ShellProps {
  readonly title: string;
  readonly name: string;
  readonly home: string;
  readonly groups: readonly NavGroup[];
  readonly line?: ComponentChildren;
  readonly foot?: ComponentChildren;
  readonly children: ComponentChildren;
}

export function Shell(props: ShellProps) {
  const open = useSignal(false);
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    document.title = `${props.title} · ${props.name} · rask`;
    open.value = false;
  }, [props.title, props.name]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key === "Escape") open.value = false;
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  return (
    <div class="shell">
      {/* biome-ignore lint/a11y/useValidAnchor: a link that works without the script; the router must not see the click */}
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        To the content
      </a>
      <nav class={`side${open.value ? " open" : ""}`} id="side" aria-label="Pages">
        <a class="brand" href={props.home}>
          <Mark />
          rask <small>{props.name}</small>
        </a>
        {props.groups.map((group) => (
          <Group key={group.title} group={group} onGo={() => (open.value = false)} />
        ))}
        <div class="side-foot">{props.foot}</div>
      </nav>
      {open.value && (
        <button type="button" class="veil" aria-label="Close the navigation" onClick={() => (open.value = false)} />
      )}
      <div>
        <header class="top">
          <button
            type="button"
            class="menu"
            aria-label="Pages"
            aria-expanded={open.value}
            aria-controls="side"
            onClick={() => (open.value = !open.value)}
          >
            <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
              <path d="M2 4h12M2 8h12M2 12h12" stroke="currentColor" stroke-width="1.6" />
            </svg>
          </button>
          <h1>{props.title}</h1>
          {props.line}
          <ThemeSwitch />
        </header>
        <main id="main" tabIndex={-1} ref={main}>
          {props.children}
        </main>
      </div>
    </div>
  );
}

function Group({ group, onGo }: { group: NavGroup; onGo: () => void }) {
  return (
    <>
      <h2>{group.title}</h2>
      <ul>
        {group.items.map((item) => (
          <li key={item.href}>
            <a
              href={item.href}
              data-go={item.leaves ? undefined : ""}
              aria-current={item.current ? "page" : undefined}
              onClick={onGo}
            >
              {item.title}
              {item.badge ? (
                <span class="badge">
                  {item.badge}
                  <span class="sr"> failed</span>
                </span>
              ) : null}
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}

export function Mark() {
  return (
    <svg viewBox="0 0 22 22" aria-hidden="true">
      <rect width="22" height="22" rx="6" fill="var(--accent)" />
      <path d="M5 16.5 10.4 5.5H14L8.6 16.5zM12 16.5l2.7-5.5h3.1l-2.7 5.5z" fill="var(--on-accent)" />
    </svg>
  );
}

export function ThemeSwitch() {
  const next =
    choice.value === "system" ? (dark.value ? "light" : "dark") : choice.value === "dark" ? "light" : "system";
  const label = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[choice.value];
  return (
    <button
      type="button"
      class="theme"
      title={`${label}. Next: ${next}`}
      aria-label={`${label}. Next: ${next}`}
      onClick={() => chooseTheme(next)}
    >
      <svg viewBox="0 0 16 16" aria-hidden="true">
        {choice.value === "system" ? (
          <path
            d="M8 1.5a6.5 6.5 0 1 0 0 13zM8 1.5a6.5 6.5 0 0 1 0 13"
            fill="currentColor"
            fill-opacity="0.25"
            stroke="currentColor"
            stroke-width="1.3"
          />
        ) : dark.value ? (
          <path d="M13.5 10A6 6 0 0 1 6 2.5 6 6 0 1 0 13.5 10z" fill="currentColor" />
        ) : (
          <g stroke="currentColor" stroke-width="1.4" fill="none">
            <circle cx="8" cy="8" r="3" />
            <path d="M8 .8v2M8 13.2v2M.8 8h2M13.2 8h2M2.9 2.9l1.4 1.4M11.7 11.7l1.4 1.4M13.1 2.9l-1.4 1.4M4.3 11.7l-1.4 1.4" />
          </g>
        )}
      </svg>
    </button>
  );
}

const TONES: Record<string, string> = {
  nothing: "good",
  compute: "good",
  client: "",
  errors: "bad",
  paused: "bad",
  memory: "warn",
  "no-workers": "warn",
  workers: "warn",
  restrictions: "warn",
  transfer: "warn",
  disk: "warn",
  scheduler: "warn",
};

/** What limits the cluster now, in one line, and the first problem with a link to it. */
export function LimitLine() {
  const now = overview();
  const limit = obj(now, "limit");
  const problem = obj(now, "problem");
  const isProblem = str(problem, "text") !== "";
  const tone = isProblem ? "bad" : (TONES[str(limit, "what")] ?? "");
  const words = isProblem ? str(problem, "text") : str(limit, "text");
  const href = isProblem ? str(problem, "link") : str(limit, "link");
  // A problem does not hide what limits the cluster: there is room for both on all but small screens.
  const also = isProblem ? str(limit, "text") : "";
  const waiting = known("overview") ? "Nothing to say yet" : "Waiting for the first measurements";
  return (
    <>
      <div class={`limit ${tone}`} role="status">
        <span class="dot" aria-hidden="true" />
        <span class="words" title={words}>
          {words || waiting}
        </span>
        {href !== "" && (
          <a href={href} data-go>
            Look
          </a>
        )}
        {also !== "" && (
          <span class="also" title={also}>
            {also}
          </span>
        )}
      </div>
      <LinkState />
    </>
  );
}

/** How the connection to the feed is, in a word. */
export function LinkState() {
  const words = closing.value
    ? "ending"
    : summary.value
      ? "catching up"
      : { connecting: "connecting", live: "live", paused: "paused", lost: "reconnecting" }[link.value];
  const title =
    closing.value ??
    (link.value === "lost"
      ? "The connection was lost; the page tries again by itself."
      : "Connection to the scheduler");
  return (
    <span class={`link ${link.value}`} title={title}>
      <span class="dot" aria-hidden="true" />
      <span class="words">{words}</span>
    </span>
  );
}

/** Told of once, where it matters, and politely. */
export function LostNotice() {
  if (link.value !== "lost" && !closing.value) return null;
  return (
    <p class="notice" role="status">
      {closing.value
        ? `The scheduler is ending: ${closing.value}. What you see is its last state.`
        : needsToken.value
          ? "You are not signed in any more: the token was revoked or has expired. What you see is the last state; sign in on the page of clusters, and this one goes on."
          : "The connection to the scheduler was lost. What you see is the last state; the page reconnects by itself."}
    </p>
  );
}

/** `3 workers on 1 host`. */
export function workersOnHosts(workers: number, hosts: number): string {
  return `${many(workers, "worker")} on ${many(hosts, "host")}`;
}
