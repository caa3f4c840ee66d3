// The appliance's shell: clusters, this machine, logs, tokens, settings, history, peers. Places are after the `#`.
import { useSignal } from "@preact/signals";
import type { ComponentType } from "preact";
import { needsToken, signIn } from "../base/http";
import { obj, rowsOf, str } from "../base/rows";
import { seconds } from "../base/format";
import { hash, place } from "../base/url";
import { Empty } from "../ui/Panel";
import { Shell, type NavGroup } from "../ui/Shell";
import { API, useApi } from "./api";
import { Clusters } from "./clusters";
import { Host, History, Peers, Settings } from "./facts";
import { Logs } from "./logs";
import { Tokens } from "./tokens";

interface Place {
  readonly name: string;
  readonly title: string;
  readonly draw: ComponentType;
}

const PLACES: readonly Place[] = [
  { name: "clusters", title: "Clusters", draw: Clusters },
  { name: "host", title: "This machine", draw: Host },
  { name: "peers", title: "Peers", draw: Peers },
  { name: "logs", title: "Logs", draw: Logs },
  { name: "history", title: "History", draw: History },
  { name: "tokens", title: "Tokens", draw: Tokens },
  { name: "settings", title: "Settings", draw: Settings },
];

export function Appliance() {
  // `/host` and `/#/host` are the same page.
  const wanted = hash.value.split("?")[0] || place.value.page || "clusters";
  const found = PLACES.find((one) => one.name === wanted);
  const info = useApi("/", 60_000);
  const data = info.answer.value.data;
  const Draw = found?.draw;
  return (
    <Shell
      title={found?.title ?? "No such page"}
      name="appliance"
      home="#/clusters"
      groups={navigation(wanted)}
      line={<Line />}
      foot={<Foot info={data} />}
    >
      {needsToken.value ? (
        <SignIn onDone={info.again} />
      ) : Draw ? (
        <Draw key={wanted} />
      ) : (
        <Empty title="There is no such page">
          <a href="#/clusters">To the clusters</a>
        </Empty>
      )}
    </Shell>
  );
}

function navigation(wanted: string): NavGroup[] {
  return [
    {
      title: "Appliance",
      items: PLACES.map((one) => ({
        href: `#/${one.name}`,
        title: one.title,
        current: one.name === wanted,
        leaves: true,
      })),
    },
  ];
}

/** One line on how things are, made of the clusters' states. */
function Line() {
  const asked = useApi("/clusters?status=all", 5_000);
  const { data, error } = asked.answer.value;
  const all = rowsOf(data, "clusters");
  const failed = all.filter((cluster) => str(cluster, "status") === "FAILED");
  const running = all.filter((cluster) => str(cluster, "status") === "RUNNING");
  const words = error
    ? `The appliance does not answer: ${error.message}`
    : failed[0]
      ? `Cluster ${str(failed[0], "name")} failed${str(failed[0], "reason") ? `: ${str(failed[0], "reason")}` : ""}`
      : data
        ? `${running.length} of ${all.filter((cluster) => !/STOPPED|FAILED/.test(str(cluster, "status"))).length} clusters running`
        : "Asking the appliance";
  const tone = error ? "warn" : failed.length > 0 ? "bad" : running.length > 0 ? "good" : "";
  return (
    <div class={`limit ${tone}`} role="status">
      <span class="dot" aria-hidden="true" />
      <span class="words" title={words}>
        {words}
      </span>
      {failed.length > 0 && <a href={`#/logs?cluster=${encodeURIComponent(str(failed[0], "name"))}`}>Look</a>}
    </div>
  );
}

function Foot({ info }: { info: ReturnType<typeof obj> | null }) {
  if (!info) return null;
  const started = Number(info.started_ms ?? 0);
  return (
    <>
      <p>rask {str(info, "version")}</p>
      <p>{str(obj(info, "user"), "name")}</p>
      {started > 0 && <p>up {seconds(Date.now() / 1000 - started / 1000)}</p>}
      <p>
        <a href={`${API}/openapi.json`}>API description</a>
      </p>
    </>
  );
}

function SignIn({ onDone }: { onDone: () => void }) {
  const text = useSignal("");
  return (
    <section class="panel" aria-label="Sign in">
      <form
        class="sign-in"
        onSubmit={(event) => {
          event.preventDefault();
          signIn(text.value.trim());
          onDone();
        }}
      >
        <h2>This appliance wants a token</h2>
        <p class="muted">
          Make one on its machine with <code>rask token create</code>. It is kept until this tab is closed.
        </p>
        <div class="field">
          <label for="token">Token</label>
          <input
            id="token"
            type="password"
            autocomplete="off"
            required
            value={text.value}
            onInput={(event) => (text.value = event.currentTarget.value)}
          />
        </div>
        <div class="row">
          <button type="submit" class="primary">
            Sign in
          </button>
        </div>
      </form>
    </section>
  );
}
