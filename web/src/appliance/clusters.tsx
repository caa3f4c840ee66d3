// Clusters: see, make, scale, adapt, stop; credentials and the code to paste.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import * as show from "../base/format";
import type { Refusal } from "../base/http";
import { asRow, maybe, num, obj, rowsOf, str, type Row } from "../base/rows";
import { base } from "../base/url";
import { Empty, Panel, Trouble } from "../ui/Panel";
import { attempt, useApi, useNews } from "./api";
import { CreateCluster } from "./create";

type Doing = { kind: "create" } | { kind: "scale" | "connect" | "stop"; cluster: Row } | null;

export function Clusters() {
  const asked = useApi("/clusters?status=all", 5_000);
  useNews(asked.again);
  const doing = useSignal<Doing>(null);
  const { data, error, busy } = asked.answer.value;
  const all = rowsOf(data, "clusters").sort((a, b) => rank(a) - rank(b) || num(b, "start_time") - num(a, "start_time"));
  const close = (): void => {
    doing.value = null;
    asked.again();
  };
  const now = doing.value;
  return (
    <>
      <div class="row spread">
        <p class="muted">{data ? show.many(all.length, "cluster") : busy ? "Asking the appliance" : ""}</p>
        <button type="button" class="primary" onClick={() => (doing.value = { kind: "create" })}>
          New cluster
        </button>
      </div>
      {error && <Trouble error={error} />}
      {data && all.length === 0 && (
        <Empty title="No cluster runs">
          Make one with the button above, or in Python:
          <pre>
            <code>{gatewayCode(null)}</code>
          </pre>
        </Empty>
      )}
      <div class="cards">
        {all.map((cluster) => (
          <Card
            key={`${str(cluster, "name")} ${num(cluster, "start_time")}`}
            cluster={cluster}
            onDo={(kind) => (doing.value = { kind, cluster })}
          />
        ))}
      </div>
      {now?.kind === "create" && <CreateCluster onClose={close} />}
      {now?.kind === "scale" && <Scale cluster={now.cluster} onClose={close} />}
      {now?.kind === "connect" && <Connect cluster={now.cluster} onClose={close} />}
      {now?.kind === "stop" && <Stop cluster={now.cluster} onClose={close} />}
    </>
  );
}

const ORDER = ["RUNNING", "PENDING", "STOPPING", "FAILED", "STOPPED"];

function rank(cluster: Row): number {
  // The cluster that is always there comes first.
  return str(cluster, "name") === "local" ? -1 : ORDER.indexOf(str(cluster, "status"));
}

const TONES: Record<string, string> = {
  RUNNING: "good",
  PENDING: "warn",
  STOPPING: "warn",
  FAILED: "bad",
  STOPPED: "",
};

function Card({ cluster, onDo }: { cluster: Row; onDo: (kind: "scale" | "connect" | "stop") => void }) {
  const name = str(cluster, "name");
  const status = str(cluster, "status");
  const running = status === "RUNNING";
  const lines = (cluster.last_lines as unknown[] | undefined) ?? [];
  return (
    <section class="panel card" aria-label={`Cluster ${name}`}>
      <header>
        <h2>{running ? <a href={dashboard(cluster)}>{name}</a> : name}</h2>
        <span class={`pill ${TONES[status] ?? ""}`}>{status.toLowerCase()}</span>
        <span class="muted">{str(cluster, "user")}</span>
      </header>
      <div class="panel-body">
        <dl class="facts">
          <dt>Workers</dt>
          <dd>{workersText(cluster)}</dd>
          <dt>Each</dt>
          <dd>
            {show.many(num(cluster, "nthreads"), "thread")},{" "}
            {num(cluster, "memory_limit") > 0 ? show.bytes(cluster.memory_limit) : "memory not limited"}
          </dd>
          <dt>Since</dt>
          <dd>{show.moment(num(cluster, "start_time") / 1000)}</dd>
          {lifetime(cluster) && <dt>Ends</dt>}
          {lifetime(cluster) && <dd>{lifetime(cluster)}</dd>}
          {str(cluster, "reason") && <dt>Why it ended</dt>}
          {str(cluster, "reason") && <dd class={status === "FAILED" ? "bad" : ""}>{str(cluster, "reason")}</dd>}
        </dl>
        {lines.length > 0 && status === "FAILED" && (
          <details>
            <summary>Its last words</summary>
            <pre class="log" tabIndex={0}>
              {lines.map(String).join("\n")}
            </pre>
          </details>
        )}
        <div class="row card-actions">
          {running && (
            <a class="button" href={dashboard(cluster)}>
              Dashboard
            </a>
          )}
          {running && (
            <button type="button" onClick={() => onDo("connect")}>
              Connect
            </button>
          )}
          {running && (
            <button type="button" onClick={() => onDo("scale")}>
              Scale
            </button>
          )}
          <a class="button" href={`#/logs?cluster=${encodeURIComponent(name)}`}>
            Logs
          </a>
          {(running || status === "PENDING") && (
            <button type="button" class="danger" onClick={() => onDo("stop")}>
              Stop
            </button>
          )}
        </div>
      </div>
    </section>
  );
}

/** Address of a cluster's status page, relative: the shell may be below any prefix. */
function dashboard(cluster: Row): string {
  return str(cluster, "dashboard").replace(/^\//, "") || `clusters/${encodeURIComponent(str(cluster, "name"))}/status`;
}

function workersText(cluster: Row): string {
  const adapt = obj(cluster, "adapt");
  const waiting = num(cluster, "without_room");
  const room = waiting > 0 ? `, no room for ${show.count(waiting)} more on the machines that may have them` : "";
  const connected = `${show.count(num(cluster, "workers"))} of ${show.count(num(cluster, "target"))}${room}`;
  if (maybe(adapt, "minimum") === null) return connected;
  const most = maybe(adapt, "maximum");
  return `${connected}, adapting between ${show.count(num(adapt, "minimum"))} and ${most === null ? "as many as wanted" : show.count(most)}`;
}

function lifetime(cluster: Row): string {
  const parts: string[] = [];
  if (num(cluster, "idle_timeout") > 0)
    parts.push(`after ${show.seconds(num(cluster, "idle_timeout"))} without client and work`);
  if (num(cluster, "max_lifetime") > 0) parts.push(`after ${show.seconds(num(cluster, "max_lifetime"))} in any case`);
  return parts.join(", ");
}

/** A dialog of the browser's own: focus stays inside, Escape closes. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const at = dialog.current;
    // A sandboxed frame may refuse modal dialogs.
    try {
      at?.showModal();
    } catch {
      at?.show();
    }
    return () => at?.close();
  }, []);
  return (
    <dialog ref={dialog} aria-label={title} onCancel={onClose}>
      <div class="inside">
        <header>
          <h2>{title}</h2>
          <button type="button" class="quiet" aria-label="Close" onClick={onClose}>
            ✕
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

function Scale({ cluster, onClose }: { cluster: Row; onClose: () => void }) {
  const adapt = obj(cluster, "adapt");
  const adapting = useSignal(maybe(adapt, "minimum") !== null);
  const count = useSignal(String(num(cluster, "target")));
  const least = useSignal(String(num(adapt, "minimum", 0)));
  const most = useSignal(maybe(adapt, "maximum") === null ? "" : String(num(adapt, "maximum")));
  const error = useSignal<Refusal | null>(null);
  const told = useSignal("");
  const path = `/clusters/${encodeURIComponent(str(cluster, "name"))}`;
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    const wasAdapting = maybe(adapt, "minimum") !== null;
    let done: Awaited<ReturnType<typeof attempt>>;
    if (adapting.value)
      done = await attempt("POST", `${path}/adapt`, {
        minimum: Number(least.value),
        maximum: most.value === "" ? null : Number(most.value),
        active: true,
      });
    else {
      if (wasAdapting) await attempt("POST", `${path}/adapt`, { minimum: null, maximum: null, active: false });
      done = await attempt("POST", `${path}/scale`, { count: Number(count.value) });
    }
    error.value = done.error;
    told.value = str(asRow(done.answer), "msg");
    if (!done.error && told.value === "") onClose();
  };
  return (
    <Dialog title={`Scale ${str(cluster, "name")}`} onClose={onClose}>
      <form class="plain" onSubmit={(event) => void send(event)}>
        <label>
          <input
            type="checkbox"
            checked={adapting.value}
            onChange={(event) => (adapting.value = event.currentTarget.checked)}
          />
          The number of workers follows the load
        </label>
        {adapting.value ? (
          <div class="pair">
            <Number0 label="At least" value={least.value} onInput={(text) => (least.value = text)} />
            <Number0
              label="At most (empty: no bound)"
              value={most.value}
              optional
              onInput={(text) => (most.value = text)}
            />
          </div>
        ) : (
          <Number0 label="Workers" value={count.value} onInput={(text) => (count.value = text)} />
        )}
        {error.value && <Trouble error={error.value} />}
        {told.value && <p class="notice">{told.value}</p>}
        <footer>
          <button type="button" onClick={onClose}>
            {told.value ? "Close" : "Cancel"}
          </button>
          <button type="submit" class="primary">
            Apply
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function Number0({
  label,
  value,
  optional,
  onInput,
}: {
  label: string;
  value: string;
  optional?: boolean;
  onInput: (text: string) => void;
}) {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="number"
        min="0"
        step="1"
        required={!optional}
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
    </label>
  );
}

function Stop({ cluster, onClose }: { cluster: Row; onClose: () => void }) {
  const name = str(cluster, "name");
  const error = useSignal<Refusal | null>(null);
  const busy = useSignal(false);
  const stop = async (): Promise<void> => {
    busy.value = true;
    const done = await attempt("DELETE", `/clusters/${encodeURIComponent(name)}`);
    busy.value = false;
    error.value = done.error;
    if (!done.error) onClose();
  };
  return (
    <Dialog title={`Stop ${name}?`} onClose={onClose}>
      <p>
        Its {show.many(num(cluster, "workers"), "worker")} end, results that only they hold are lost, and clients are
        disconnected.
      </p>
      {error.value && <Trouble error={error.value} />}
      <footer>
        <button type="button" onClick={onClose}>
          Keep it
        </button>
        <button type="button" class="danger" disabled={busy.value} onClick={() => void stop()}>
          Stop {name}
        </button>
      </footer>
    </Dialog>
  );
}

function gatewayCode(name: string | null): string {
  const root = base().href.replace(/\/$/, "");
  const open =
    name === null
      ? "cluster = gateway.new_cluster()\ncluster.scale(2)"
      : `cluster = gateway.connect(${JSON.stringify(name)})`;
  return `from dask_gateway import Gateway\n\ngateway = Gateway(${JSON.stringify(root)})\n${open}\nclient = cluster.get_client()`;
}

function Connect({ cluster, onClose }: { cluster: Row; onClose: () => void }) {
  const name = str(cluster, "name");
  const direct = str(cluster, "scheduler_address");
  const wanted = useSignal(false);
  const asked = useApi(wanted.value ? `/clusters/${encodeURIComponent(name)}/credentials` : null);
  const { data, error } = asked.answer.value;
  return (
    <Dialog title={`Connect to ${name}`} onClose={onClose}>
      {direct && (
        <>
          <h3>From this machine</h3>
          <Code text={`from distributed import Client\n\nclient = Client(${JSON.stringify(direct)})`} />
        </>
      )}
      <h3>From anywhere that reaches this address</h3>
      <Code text={gatewayCode(name)} />
      <h3>Credentials</h3>
      <p class="muted">
        A certificate and its key, for tools that speak to the scheduler themselves. Whoever has the key can use the
        cluster.
      </p>
      {!wanted.value && (
        <div>
          <button type="button" onClick={() => (wanted.value = true)}>
            Show credentials
          </button>
        </div>
      )}
      {error && <Trouble error={error} />}
      {data && (
        <>
          <p class="mono">{str(data, "gateway_address")}</p>
          <Code text={str(data, "tls_cert").trim()} />
          <Code text={str(data, "tls_key").trim()} />
        </>
      )}
    </Dialog>
  );
}

/** Code with a button that copies it. */
export function Code({ text }: { text: string }) {
  const said = useSignal("Copy");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      said.value = "Copied";
    } catch {
      // Without permission (or without TLS) the text can still be marked by hand.
      said.value = "Mark and copy";
    }
    setTimeout(() => (said.value = "Copy"), 2_000);
  };
  return (
    <div class="code">
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
      <button type="button" class="quiet" aria-live="polite" onClick={() => void copy()}>
        {said.value}
      </button>
    </div>
  );
}

/** A panel that only shows its heading while there is nothing to say. */
export function Waiting({ title }: { title: string }) {
  return (
    <Panel title={title}>
      <Empty title="Asking the appliance" />
    </Panel>
  );
}
